"""One code a step, or one group of codebooks a step."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from ...errors import PatternError
from .pattern import Pattern
from .table import MAX_DELAY, Place


@dataclass(frozen=True)
class Flatten(Pattern):
    """Frame after frame, and in each frame codebook after codebook.

    Attributes:
        groups: inner step of each codebook, from 0, in order; those of one group share a step.
            Default: 0, 1, 2, …, a step for each.
        streams_of: "one" stream of ids, where no two codebooks share a step; or "each" codebook a
            stream of its own, as audiocraft's `UnrolledPatternProvider` has it, filled with special
            ids where others speak. Default: one, where that is possible.
        start: steps of special ids at the beginning; audiocraft has 1.
    """

    name: ClassVar[str] = "flatten"
    groups: tuple[int, ...] = ()
    streams_of: Literal["auto", "one", "each"] = "auto"
    start: int = 0

    @property
    def inner(self) -> tuple[int, ...]:
        """Step of each codebook within a frame."""
        return self.groups or tuple(range(self.num_codebooks))

    def _check(self) -> None:
        inner = self.inner
        steps = [b - a for a, b in zip((-1, *inner), inner, strict=False)]
        if len(inner) != self.num_codebooks or steps[0] != 1 or not set(steps) <= {0, 1}:
            raise PatternError(
                f"groups must number the inner steps of {self.num_codebooks} codebooks in order, "
                f"such as 0, 1, 1, 2; got {list(inner)}"
            )
        if self.streams_of == "one" and self._shared:
            raise PatternError(
                f"codebooks that share a step can't be in one stream: groups {list(inner)} need "
                "streams_of='each'"
            )
        if not 0 <= self.start <= MAX_DELAY:
            raise PatternError(f"start must lie in 0..{MAX_DELAY}, got {self.start}")

    @property
    def _shared(self) -> bool:
        return len(set(self.inner)) < self.num_codebooks

    def _places(self) -> tuple[Place, ...]:
        each = self.streams_of == "each" or self._shared
        count = self.inner[-1] + 1
        return tuple(
            Place(q if each else 0, self.start + inner, stride=count)
            for q, inner in enumerate(self.inner)
        )

    def _steps(self) -> tuple[int, int]:
        return self.start, self.inner[-1] + 1
