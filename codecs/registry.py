"""The tokenizers' names, and `load`. Importing this module loads no torch."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..catalogue import Catalogue
from ..errors import CheckpointError, SyllabaryError, UnknownTokenizerError
from .families import family_class, name_with
from .pretrained.architectures import PACKAGED, TRANSFORMERS
from .pretrained.architectures import published as known_models
from .shipped import Shipped

if TYPE_CHECKING:
    from .interface import AudioTokenizer

#: Other packages add tokenizers by entry points of this group: the entry's name is the tokenizer's
#: name, and its object is called with the options given to `load`.
ENTRY_POINT_GROUP = "syllabary.tokenizers"


@dataclass(frozen=True)
class Preset:
    """A bundled tokenizer: a family and the options that differ from the family's defaults."""

    family: str
    options: dict[str, Any]

    def __call__(self, name: str, **options: Any) -> "AudioTokenizer":
        from .checkpoint import build

        kind = family_class(self.family)
        return build(kind, self.options | options, name_with(name, options))


#: The range of log-mel values that speech uses: at 16 levels as good as one more bit per code,
#: and at 8 levels the difference between poor and good quality (benchmarks/dmel_levels.py).
_NARROW = {"minimum": -5.0, "maximum": 1.0}
_FINE = {"hop_length": 200}
#: Options that any trained vocoder for dMel works with.
_RANGE = ("num_levels", "minimum", "maximum")

#: Trained tokenizers that come with the package, each in a folder of `assets/models`.
SHIPPED: dict[str, Shipped] = {
    "rvq-16k": Shipped("rvq-16k"),
    "rvq-16k-semantic": Shipped("rvq-16k-semantic"),
    "fsq-16k": Shipped("fsq-16k", free=("levels",)),
    "ts3-16k": Shipped("ts3-16k"),
    "ts3-16k-40hz": Shipped("ts3-16k-40hz"),
    "units-16k": Shipped("units-16k"),
    # The same vocoder works with other levels, which only scale its input; for other numbers of
    # channels or hops, the tokenizer comes without it.
    "dmel": Shipped("dmel", _RANGE, Preset("dmel", {})),
    "dmel-fine": Shipped("dmel-fine", _RANGE, Preset("dmel", _FINE)),
}

PRESETS = {
    "dmel-narrow": Preset("dmel", _NARROW),
    "dmel-fine-narrow": Preset("dmel", {**_FINE, **_NARROW}),
    "dmel-3bit": Preset("dmel", {"num_levels": 8, **_NARROW}),
    "dmel-5bit": Preset("dmel", {"num_levels": 32}),
    "dmel-40ch": Preset("dmel", {"num_mels": 40}),
}

#: Model sizes from the TS3-Codec paper, for which no weights exist.
UNTRAINED = ("ts3-x1", "ts3-x2", "ts3-x3", "ts3-x4", "ts3-1.6b")

#: Functions that make a tokenizer of options: those of other packages, and of `register`.
TOKENIZERS: Catalogue[Callable[..., "AudioTokenizer"]] = Catalogue(
    "tokenizer", ENTRY_POINT_GROUP, {}
)


def register(name: str, factory: Callable[..., "AudioTokenizer"]) -> None:
    """Make `load(name)` call `factory(**options)` in this process.

    Raises:
        ValueError: the name is taken.
    """
    if name in list_tokenizers():
        raise ValueError(f"there is a tokenizer {name!r} already")
    TOKENIZERS.add(name, factory)


def list_tokenizers() -> list[str]:
    """List the names that `load` accepts: bundled, from installed packages, and registered."""
    return sorted({*SHIPPED, *PRESETS, *TOKENIZERS.names()})


def load(name: str | Path, device: str | None = None, **options: Any) -> "AudioTokenizer":
    """Load a tokenizer.

    Args:
        name: a bundled name (`list_tokenizers`), a directory that `save_pretrained` wrote, the
            folder of a run of `syllabary train` (its `best/`, or else `last/`), or the id of a
            published model (``owner/model``).
        device: torch device to load it on; default: CPU.
        options: override fields of a bundled tokenizer's configuration, for example
            ``load("dmel", num_levels=32)``.

    Raises:
        UnknownTokenizerError: no tokenizer has that name; similar names are suggested.
        CheckpointError: a directory can't be read, or an option does not exist.
        SyllabaryError: there is no such device.
    """
    from ..plain_torch import made_plainly

    tokenizer = made_plainly(_find)(name, options)
    if tokenizer._named is None:
        tokenizer.keep_name()
    try:
        return tokenizer.to(device or "cpu").eval()
    except (RuntimeError, AssertionError) as error:  # torch raises these for an absent device
        raise SyllabaryError(absent_device(device, error)) from None


def absent_device(device: Any, error: Exception) -> str:
    """Say in a line why torch can't use a device.

    Args:
        device: its name.
        error: what torch raised, a RuntimeError or an AssertionError.
    """
    reason = str(error).partition("\n")[0]
    if reason.startswith("Expected one of"):
        reason = "expected cpu, cuda or cuda:N"
    return f"device {str(device)!r}: {reason}"


def _find(name: str | Path, options: dict[str, Any]) -> "AudioTokenizer":
    key = str(name)
    if not key:
        raise UnknownTokenizerError("the tokenizer's name is empty; see `syllabary list`")
    if key in SHIPPED:
        return SHIPPED[key](key, **options)
    if key in PRESETS:
        return PRESETS[key](key, **options)
    if key in TOKENIZERS:
        return TOKENIZERS.find(key)(**options)
    directory = Path(name)
    published = (
        not directory.is_dir() and key.count("/") == 1 and not key.startswith((".", "/", "~"))
    )
    if not directory.is_dir() and key in UNTRAINED:
        raise UnknownTokenizerError(
            f"there are no weights of {key!r}: train it with `syllabary train {key}`, or see "
            "syllabary.codecs.TS3_PRESETS for an untrained one"
        )
    if not directory.is_dir() and not published:
        near = difflib.get_close_matches(key, list_tokenizers(), n=3, cutoff=0.5)
        near += _published_like(key)
        hint = f"did you mean {' or '.join(near)}?" if near else "see `syllabary list`."
        raise UnknownTokenizerError(
            f"no tokenizer {key!r}: not a bundled name, a directory, or a published model's id "
            f"(owner/model); {hint}"
        )
    if options:
        raise CheckpointError(f"options {sorted(options)} apply to bundled tokenizers only")
    if published:
        for _, model in known_models():
            if model.id == key and model.folder is not None:
                raise UnknownTokenizerError(
                    f"{key!r} is not on the hub in the form that loads by its id: download it from "
                    f"{model.folder}, and load that folder"
                )
        directory = _download(key)
    from .checkpoint import checkpoint_in, is_ours, read_config
    from .pretrained.lyra import LyraTokenizer, is_lyra

    if is_lyra(directory):
        return LyraTokenizer.from_published(directory)
    directory = checkpoint_in(directory)
    if is_ours(directory):
        return family_class(read_config(directory)["family"]).from_pretrained(directory)
    from .pretrained.loading import load_published, weights_beside

    if published and (weights := weights_beside(directory)):
        directory = _download(key, ("*.json", *weights))
    return load_published(directory, key if published else None)


def _published_like(key: str) -> list[str]:
    """Ids of published models whose architecture, or own name, a user may have meant."""
    found = []
    for name, architecture in (TRANSFORMERS | PACKAGED).items():
        if name in key.lower():
            found += [model.id for model in architecture.models[:1] if model.folder is None]
    return found


def _download(model: str, patterns: tuple[str, ...] = ("*.json", "*.safetensors")) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise UnknownTokenizerError(
            f"{model!r} looks like a published model's id; fetching one needs the extra "
            '`pip install "syllabary[ssl]"`'
        ) from None
    try:
        return Path(snapshot_download(model, allow_patterns=list(patterns)))
    except Exception as error:  # any error of the hub's client: offline, gated, not found
        raise UnknownTokenizerError(f"can't fetch {model!r} from the hub: {error}") from None
