"""Codebook patterns: codes of several codebooks as the steps of a language model, and back."""

from .coarse_first import CoarseFirst
from .delay import Delay
from .depth import Depth
from .espnet import ESPnet
from .flatten import Flatten
from .moshi import Moshi
from .musiclm import MusicLM
from .parallel import Parallel
from .pattern import Pattern
from .picture import draw_svg, draw_text
from .registry import PATTERNS, pattern, pattern_from_json
from .several_rates import SNAC, SeveralRates, StepAudio
from .streams import FrameStream, StepStream
from .vall_e import VallE

__all__ = [
    "PATTERNS",
    "SNAC",
    "CoarseFirst",
    "Delay",
    "Depth",
    "ESPnet",
    "Flatten",
    "FrameStream",
    "Moshi",
    "MusicLM",
    "Parallel",
    "Pattern",
    "SeveralRates",
    "StepAudio",
    "StepStream",
    "VallE",
    "draw_svg",
    "draw_text",
    "pattern",
    "pattern_from_json",
]
