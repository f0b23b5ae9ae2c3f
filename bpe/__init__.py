"""Byte-pair encoding over sequences of units: `UnitBPE` and its stream."""

from .stream import PieceStream
from .unit_bpe import UnitBPE
from .vocabulary import Kind

__all__ = ["Kind", "PieceStream", "UnitBPE"]
