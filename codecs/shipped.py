"""The trained tokenizers inside the package.

`assets/models/NAME` has `config.json`, `model.safetensors` (float16 and int8, as by
`checkpoint.export`) and the model card. The digest is computed after rounding, and inference runs
on those values in float32, so a shipped model is the same on every computer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CheckpointError
from .families import family_class, name_with

if TYPE_CHECKING:
    from .interface import AudioTokenizer

#: Of the weights of all of them.
LICENSE = "Apache-2.0"
MODELS = Path(__file__).parent.parent / "assets" / "models"


@dataclass(frozen=True)
class Shipped:
    """A trained tokenizer that comes with the package.

    Attributes:
        folder: its folder in `assets/models`.
        free: options that `load` may change, since no weight depends on them.
        otherwise: the preset for other options, for families that also work untrained.
    """

    folder: str
    free: tuple[str, ...] = ()
    otherwise: "Callable[..., AudioTokenizer] | None" = None

    def __call__(self, name: str, **options: Any) -> "AudioTokenizer":
        from . import checkpoint

        directory = MODELS / self.folder
        fields = checkpoint.read_config(directory)
        kind = family_class(fields["family"])
        if not options:
            found = kind.from_pretrained(directory)
            found.license = LICENSE
            found.keep_name()
            return found
        fixed = sorted(set(options) - set(self.free))
        if fixed and self.otherwise:
            return self.otherwise(name, **options)
        if fixed:
            free = f"; {', '.join(self.free)} can be" if self.free else ""
            raise CheckpointError(
                f"{name} is trained: {', '.join(fixed)} can't be changed{free}; a configuration "
                "of your own is trained with `syllabary train`"
            )
        changed = name_with(name, options)
        tokenizer = checkpoint.build(kind, fields["config"] | options, changed)
        tokenizer.license = LICENSE
        checkpoint.load_weights(tokenizer, directory)
        tokenizer.keep_name()
        return tokenizer.eval()
