"""All codebooks side by side: one step a frame."""

from dataclasses import dataclass
from typing import ClassVar

from ...errors import PatternError
from .delay import Delay


@dataclass(frozen=True)
class Parallel(Delay):
    """Frame t of every codebook at step t + 1, after one step of special ids.

    As audiocraft's `ParallelPatternProvider`; `start` 0 leaves the first step out.
    """

    name: ClassVar[str] = "parallel"

    @property
    def shifts(self) -> tuple[int, ...]:
        return (0,) * self.num_codebooks

    def _check(self) -> None:
        if self.delays:
            raise PatternError(f"parallel has no delays, got {self.delays}; delay has")
        super()._check()
