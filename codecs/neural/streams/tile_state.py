"""The state of one row of a stream between calls of a network."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from torch import Tensor

S = TypeVar("S")


@dataclass
class TileState(Generic[S]):
    """State of one row between calls of a network.

    Attributes:
        network: its state after the last whole tile; without tiles, after the last frame.
        frames: (tile, …) the incomplete tile, or None without tiles.
        filled: number of frames in it.
    """

    network: S
    frames: Tensor | None
    filled: int = 0
