"""Self-supervised speech encoders, k-means units of their features, and vocoders for units."""

from typing import TYPE_CHECKING

from ..lazy_exports import lazy_exports

if TYPE_CHECKING:
    from .bundled_bpe import list_bpes, load_bpe
    from .encoders.catalogue import find as find_encoder
    from .encoders.interface import SpeechEncoder
    from .token_bpe import PieceCoder, fit_bpe
    from .units.fitting import fit_units
    from .units.tokenizer import UnitTokenizer

__all__ = [
    "PieceCoder",
    "SpeechEncoder",
    "UnitTokenizer",
    "find_encoder",
    "fit_bpe",
    "fit_units",
    "list_bpes",
    "load_bpe",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "PieceCoder": "syllabary.semantic.token_bpe",
        "SpeechEncoder": "syllabary.semantic.encoders.interface",
        "UnitTokenizer": "syllabary.semantic.units.tokenizer",
        "find_encoder": "syllabary.semantic.encoders.catalogue:find",
        "fit_bpe": "syllabary.semantic.token_bpe",
        "fit_units": "syllabary.semantic.units.fitting",
        "list_bpes": "syllabary.semantic.bundled_bpe",
        "load_bpe": "syllabary.semantic.bundled_bpe",
    },
)
