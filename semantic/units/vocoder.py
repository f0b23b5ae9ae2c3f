"""The former place of vocoders for units, which pickles name; use `semantic.speaking`."""

from ..speaking.interface import UnitVocoder
from ..speaking.mel_table import MelTableConfig, MelTableVocoder

__all__ = ["MelTableConfig", "MelTableVocoder", "UnitVocoder"]
