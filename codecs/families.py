"""Tokenizer families: the classes behind the `family` of a saved `config.json`. Loads no torch."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..errors import CheckpointError

if TYPE_CHECKING:
    from .interface import AudioTokenizer

#: The places of the families' classes, ``module:Class``, which are imported when they are needed.
FAMILIES = {
    "dmel": "syllabary.codecs.dmel.tokenizer:DMel",
    "fsq": "syllabary.codecs.fsq.tokenizer:FSQCodec",
    "rvq": "syllabary.codecs.rvq.tokenizer:RVQCodec",
    "ts3": "syllabary.codecs.ts3.tokenizer:TS3Codec",
    "lyra": "syllabary.codecs.pretrained.lyra:LyraTokenizer",
    "packaged": "syllabary.codecs.pretrained.packaged_codec:PackagedCodec",
    "transformers": "syllabary.codecs.pretrained.transformers_codec:TransformersCodec",
}


def register_family(family: str, place: str) -> None:
    """Add a family whose class is in a subpackage that this one must not know.

    A family of another package needs no place: its class is found once it was imported.

    Args:
        family: its name in `config.json`.
        place: ``module:Class``, with the module's full name.

    Raises:
        ValueError: the family has another place already.
    """
    if FAMILIES.setdefault(family, place) != place:
        raise ValueError(f"the family {family!r} is {FAMILIES[family]} already, not {place}")


def family_class(family: str) -> type["AudioTokenizer"]:
    """Return the class of a family: a known one, or any imported subclass of `AudioTokenizer`.

    Raises:
        CheckpointError: there is no such family.
    """
    if family in FAMILIES:
        module, _, name = FAMILIES[family].partition(":")
        found: type[Any] = getattr(import_module(module), name)
        return found
    from .interface import AudioTokenizer

    kinds = list(AudioTokenizer.__subclasses__())
    for kind in kinds:
        if getattr(kind, "family", None) == family:
            return kind
        kinds += kind.__subclasses__()
    raise CheckpointError(
        f"unknown family {family!r}: not one of {sorted(FAMILIES)}, nor of a class imported so far"
    )


def name_with(name: str, options: dict[str, Any]) -> str:
    """Return the name of a tokenizer with changed options, so that its tokens stay distinct.

    The option `vocoder` does not change tokens, and so does not change the name.
    """
    kept = sorted((key, value) for key, value in options.items() if key != "vocoder")
    changes = ",".join(f"{key}={value}" for key, value in kept)
    return f"{name}+{changes}" if changes else name
