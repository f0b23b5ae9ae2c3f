"""Each codebook later than the one before: MusicGen's pattern (Copet et al., 2023)."""

from dataclasses import dataclass
from typing import ClassVar

from ...errors import PatternError
from .pattern import Pattern
from .table import MAX_DELAY, Place


@dataclass(frozen=True)
class Delay(Pattern):
    """Frame t of codebook q at step ``start + t + delays[q]``.

    A model that samples all codebooks of a step at once still sees, for codebook q, the same
    frame's codes of the codebooks before it.

    Attributes:
        delays: steps by which each codebook is late; default 0, 1, 2, …
        start: steps of special ids at the beginning; audiocraft has 1, and more with its
            `empty_initial`.
        cut: end with the first codebook, as audiocraft trains and Moshi does: the last
            ``max(delays)`` frames are not whole and don't come back.
    """

    name: ClassVar[str] = "delay"
    delays: tuple[int, ...] = ()
    start: int = 1
    cut: bool = False

    @property
    def shifts(self) -> tuple[int, ...]:
        """Delay of each codebook."""
        return self.delays or tuple(range(self.num_codebooks))

    @property
    def lost_frames(self) -> int:
        return max(self.shifts) if self.cut else 0

    def _check(self) -> None:
        if len(self.shifts) != self.num_codebooks:
            raise PatternError(
                f"{len(self.shifts)} delays for {self.num_codebooks} codebooks: expected one each"
            )
        if min(self.shifts) < 0 or max(self.shifts) > MAX_DELAY or not 0 <= self.start <= MAX_DELAY:
            raise PatternError(
                f"delays and start must lie in 0..{MAX_DELAY}, got {self.shifts} and {self.start}"
            )

    def _places(self) -> tuple[Place, ...]:
        return tuple(Place(q, self.start + shift) for q, shift in enumerate(self.shifts))

    def _steps(self) -> tuple[int, int]:
        return self.start + (0 if self.cut else max(self.shifts)), 1
