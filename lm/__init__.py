"""Training data of speech language models: codebook patterns, text and speech in one sequence,
vocabularies.

Importing this loads no torch: names are looked up where they live when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .interleaving import (
        CHATML,
        CosyVoice,
        Dialogue,
        FixedRatio,
        InnerMonologue,
        Interleaved,
        SpeechThenText,
        TextThenSpeech,
        Word,
        WordAligned,
        chat,
        draw_spans,
        scheme_from_json,
    )
    from .naming import NAMINGS, Naming
    from .patterns import PATTERNS, Pattern, pattern, pattern_from_json
    from .tokenizer_json import first_free_id, read_vocabulary, write_tokenizer
    from .vocabulary import Vocabulary

_HOMES = {
    "patterns": ("PATTERNS", "Pattern", "pattern", "pattern_from_json"),
    "interleaving": (
        "CHATML",
        "CosyVoice",
        "Dialogue",
        "FixedRatio",
        "InnerMonologue",
        "Interleaved",
        "SpeechThenText",
        "TextThenSpeech",
        "Word",
        "WordAligned",
        "chat",
        "draw_spans",
        "scheme_from_json",
    ),
    "naming": ("NAMINGS", "Naming"),
    "tokenizer_json": ("first_free_id", "read_vocabulary", "write_tokenizer"),
    "vocabulary": ("Vocabulary",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "CHATML",
    "NAMINGS",
    "PATTERNS",
    "CosyVoice",
    "Dialogue",
    "FixedRatio",
    "InnerMonologue",
    "Interleaved",
    "Naming",
    "Pattern",
    "SpeechThenText",
    "TextThenSpeech",
    "Vocabulary",
    "Word",
    "WordAligned",
    "chat",
    "draw_spans",
    "first_free_id",
    "pattern",
    "pattern_from_json",
    "read_vocabulary",
    "scheme_from_json",
    "write_tokenizer",
]


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        return getattr(import_module(f".{_HOME_OF[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
