"""Byte-pair encoding of unit sequences: `UnitBPE` and its streaming encoder."""

from .stream import PieceStream
from .unit_bpe import UnitBPE
from .vocabulary import Kind

__all__ = ["Kind", "PieceStream", "UnitBPE"]
