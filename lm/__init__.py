"""Training data of speech language models: codebook patterns, text and speech in one sequence,
vocabularies, and the reader of data sets.

Importing this loads no torch: names are looked up where they live when they are first used.
"""

from typing import TYPE_CHECKING

from ..lazy_exports import lazy_exports

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
    from .loading.opening import reader
    from .naming import NAMINGS, Naming
    from .patterns import PATTERNS, Pattern, pattern, pattern_from_json
    from .tokenizer_json import first_free_id, read_vocabulary, write_tokenizer
    from .vocabulary import Vocabulary

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
    "reader",
    "scheme_from_json",
    "write_tokenizer",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "CHATML": "syllabary.lm.interleaving",
        "CosyVoice": "syllabary.lm.interleaving",
        "Dialogue": "syllabary.lm.interleaving",
        "FixedRatio": "syllabary.lm.interleaving",
        "InnerMonologue": "syllabary.lm.interleaving",
        "Interleaved": "syllabary.lm.interleaving",
        "NAMINGS": "syllabary.lm.naming",
        "Naming": "syllabary.lm.naming",
        "PATTERNS": "syllabary.lm.patterns",
        "Pattern": "syllabary.lm.patterns",
        "SpeechThenText": "syllabary.lm.interleaving",
        "TextThenSpeech": "syllabary.lm.interleaving",
        "Vocabulary": "syllabary.lm.vocabulary",
        "Word": "syllabary.lm.interleaving",
        "WordAligned": "syllabary.lm.interleaving",
        "chat": "syllabary.lm.interleaving",
        "draw_spans": "syllabary.lm.interleaving",
        "first_free_id": "syllabary.lm.tokenizer_json",
        "pattern": "syllabary.lm.patterns",
        "pattern_from_json": "syllabary.lm.patterns",
        "read_vocabulary": "syllabary.lm.tokenizer_json",
        "reader": "syllabary.lm.loading.opening",
        "scheme_from_json": "syllabary.lm.interleaving",
        "write_tokenizer": "syllabary.lm.tokenizer_json",
    },
)
