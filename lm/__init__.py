"""Training data of speech language models: data sets of tokens, codebook patterns, text and speech
in one sequence, vocabularies, exports, and the reader.

Importing this loads no torch: names are looked up where they live when they are first used.
"""

from typing import TYPE_CHECKING

from ..lazy_exports import lazy_exports

if TYPE_CHECKING:
    from .dataset.build import build_dataset
    from .dataset.filters import Filters
    from .dataset.items import AlignedWord, Item
    from .dataset.settings import Settings as DatasetSettings
    from .dataset.splits import Splits
    from .dataset.stored import StoredDataset, open_dataset, write_dataset
    from .exports.exporting import EXPORTS, export
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
    from .speech import Speech, SpeechStream, to_speech
    from .tokenizer_json import first_free_id, read_vocabulary, write_tokenizer
    from .vocabulary import Vocabulary
    from .written_codes import Repairs, WrittenCodes

__all__ = [
    "CHATML",
    "EXPORTS",
    "NAMINGS",
    "PATTERNS",
    "AlignedWord",
    "CosyVoice",
    "DatasetSettings",
    "Dialogue",
    "Filters",
    "FixedRatio",
    "InnerMonologue",
    "Interleaved",
    "Item",
    "Naming",
    "Pattern",
    "Repairs",
    "Speech",
    "SpeechStream",
    "SpeechThenText",
    "Splits",
    "StoredDataset",
    "TextThenSpeech",
    "Vocabulary",
    "Word",
    "WordAligned",
    "WrittenCodes",
    "build_dataset",
    "chat",
    "draw_spans",
    "export",
    "first_free_id",
    "open_dataset",
    "pattern",
    "pattern_from_json",
    "read_vocabulary",
    "reader",
    "scheme_from_json",
    "to_speech",
    "write_dataset",
    "write_tokenizer",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "AlignedWord": "syllabary.lm.dataset.items",
        "EXPORTS": "syllabary.lm.exports.exporting",
        "export": "syllabary.lm.exports.exporting",
        "DatasetSettings": "syllabary.lm.dataset.settings:Settings",
        "Filters": "syllabary.lm.dataset.filters",
        "Item": "syllabary.lm.dataset.items",
        "Splits": "syllabary.lm.dataset.splits",
        "StoredDataset": "syllabary.lm.dataset.stored",
        "build_dataset": "syllabary.lm.dataset.build",
        "open_dataset": "syllabary.lm.dataset.stored",
        "write_dataset": "syllabary.lm.dataset.stored",
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
        "Repairs": "syllabary.lm.written_codes",
        "Speech": "syllabary.lm.speech",
        "SpeechStream": "syllabary.lm.speech",
        "SpeechThenText": "syllabary.lm.interleaving",
        "TextThenSpeech": "syllabary.lm.interleaving",
        "Vocabulary": "syllabary.lm.vocabulary",
        "Word": "syllabary.lm.interleaving",
        "WordAligned": "syllabary.lm.interleaving",
        "WrittenCodes": "syllabary.lm.written_codes",
        "chat": "syllabary.lm.interleaving",
        "draw_spans": "syllabary.lm.interleaving",
        "first_free_id": "syllabary.lm.tokenizer_json",
        "pattern": "syllabary.lm.patterns",
        "pattern_from_json": "syllabary.lm.patterns",
        "read_vocabulary": "syllabary.lm.tokenizer_json",
        "reader": "syllabary.lm.loading.opening",
        "scheme_from_json": "syllabary.lm.interleaving",
        "to_speech": "syllabary.lm.speech",
        "write_tokenizer": "syllabary.lm.tokenizer_json",
    },
)
