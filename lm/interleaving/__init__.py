"""Text and speech in one sequence, and several streams side by side."""

from .chat import CHATML, chat
from .dialogue import Dialogue, words_of
from .fixed_ratio import CosyVoice, FixedRatio
from .monologue import InnerMonologue, Monologue
from .registry import SCHEMES, scheme_from_json
from .sequence import IGNORE, MARKER, SPEECH, TEXT, Interleaved, Scheme
from .turns import SpeechThenText, TextThenSpeech
from .words import Span, Word, WordAligned, cut_units, draw_spans

__all__ = [
    "CHATML",
    "IGNORE",
    "MARKER",
    "SCHEMES",
    "SPEECH",
    "TEXT",
    "CosyVoice",
    "Dialogue",
    "FixedRatio",
    "InnerMonologue",
    "Interleaved",
    "Monologue",
    "Scheme",
    "Span",
    "SpeechThenText",
    "TextThenSpeech",
    "Word",
    "WordAligned",
    "chat",
    "cut_units",
    "draw_spans",
    "scheme_from_json",
    "words_of",
]
