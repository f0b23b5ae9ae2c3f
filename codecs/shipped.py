"""Load the trained tokenizers inside the package, and export checkpoints of that form.

`assets/models/NAME` has `config.json`, `model.safetensors` (float16, without weights that only
training needs) and the model card. The digest is computed after rounding to float16, and inference
runs on those values in float32, so a shipped model is the same on every computer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .interface import AudioTokenizer

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
        from .registry import family_class, name_with

        directory = MODELS / self.folder
        fields = checkpoint.read_config(directory)
        kind = family_class(fields["family"])
        if not options:
            return kind.from_pretrained(directory)
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
        checkpoint.load_weights(tokenizer, directory)
        tokenizer.keep_name()
        return tokenizer.eval()


def export(tokenizer: "AudioTokenizer", directory: Path) -> None:
    """Write an inference-only checkpoint in float16, at most half the size.

    Args:
        tokenizer: left unchanged.
        directory: as for `save_pretrained`.

    Raises:
        CheckpointError: a weight is too large for float16.
    """
    import copy

    import torch

    from . import checkpoint

    smaller = copy.deepcopy(tokenizer)
    half = {}
    for name, tensor in inference_state(smaller).items():
        half[name] = tensor.half() if tensor.dtype == torch.float32 else tensor
        if not bool(half[name].isfinite().all()):
            raise CheckpointError(f"{name} has values that float16 can't hold")
    smaller.load_state_dict(half)
    smaller.keep_name()  # binds the name to the rounded weights
    checkpoint.save(smaller, directory, half)


def inference_state(module: "nn.Module") -> "dict[str, Tensor]":
    """Return the state dict without the entries that only training needs."""
    from ..quantizers.modules.interface import Quantizer

    state = module.state_dict()
    for name, part in module.named_modules():
        if isinstance(part, Quantizer):
            for key in part.training_state(f"{name}." if name else ""):
                state.pop(key, None)
    return state
