"""Frames of K codes with K steps inside each: for a small model within a large one."""

from dataclasses import dataclass
from typing import ClassVar

from ...errors import PatternError
from ..arrays import Array
from .flatten import Flatten


@dataclass(frozen=True)
class Depth(Flatten):
    """One stream, K ids a frame: a large model goes over the frames, a small one over the K.

    RQ-Transformer (Lee et al., 2022), UniAudio (Yang et al., 2023), Moshi's depth transformer. The
    stream is that of `Flatten`; `grid` and `from_grid` are the two models' view of it.
    """

    name: ClassVar[str] = "depth"

    def grid(self, steps: Array) -> Array:
        """Steps (…, 1, frames × K) as (…, frames, K), without copying."""
        return steps[..., 0, self.start :].reshape(*steps.shape[:-2], -1, self.num_codebooks)

    def from_grid(self, grid: Array) -> Array:
        """The inverse of `grid`, where there are no first steps (`start` 0)."""
        return grid.reshape(*grid.shape[:-2], 1, -1)

    def _check(self) -> None:
        super()._check()
        if self._shared or self.streams_of == "each" or self.start:
            raise PatternError("depth has one stream and a step for every codebook, from the first")
