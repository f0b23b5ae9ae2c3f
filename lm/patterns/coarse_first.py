"""The first codebook of the whole utterance, then all others together."""

from dataclasses import dataclass
from typing import ClassVar

from ...errors import PatternError
from .pattern import Pattern
from .table import MAX_DELAY, Place


@dataclass(frozen=True)
class CoarseFirst(Pattern):
    """All of the first codebook, then the others in parallel, if need be each with a delay.

    As audiocraft's `CoarseFirstPattern`, which was called `VALLEPattern` until its issue 335; one
    codebook alone works too.

    Attributes:
        delays: steps by which each codebook but the first is late in the second part; default 0.
        start: steps of special ids at the beginning.
    """

    name: ClassVar[str] = "coarse-first"
    delays: tuple[int, ...] = ()
    start: int = 1

    @property
    def shifts(self) -> tuple[int, ...]:
        """Delay of each codebook but the first."""
        return self.delays or (0,) * (self.num_codebooks - 1)

    def _check(self) -> None:
        if len(self.shifts) != self.num_codebooks - 1:
            raise PatternError(
                f"{len(self.shifts)} delays; expected {self.num_codebooks - 1}, one for each of "
                f"{self.num_codebooks} codebooks but the first"
            )
        if not all(0 <= shift <= MAX_DELAY for shift in (*self.shifts, self.start)):
            raise PatternError(
                f"delays and start must lie in 0..{MAX_DELAY}, got {self.shifts} and {self.start}"
            )

    def _places(self) -> tuple[Place, ...]:
        others = [
            Place(q, self.start + shift, after=1) for q, shift in enumerate(self.shifts, start=1)
        ]
        return (Place(0, self.start), *others)

    def _steps(self) -> tuple[int, int]:
        if self.num_codebooks == 1:
            return self.start, 1
        return self.start + max(self.shifts), 2
