"""VALL-E's two stages: the first codebook one by one, each other one at once."""

from dataclasses import dataclass
from typing import ClassVar

from ...errors import PatternError
from ..arrays import Array, Arrays
from .pattern import Pattern
from .table import Mark, Place


@dataclass(frozen=True)
class VallE(Pattern):
    """The first codebook with an end, then codebook after codebook, in one stream.

    VALL-E (Wang et al., 2023) has two models: one writes the first codebook id by id until the
    end, and the other predicts all of codebook j from those before it. `stages` gives what each
    learns; the stream is how both go to a file, and how frames come out while they generate.

    Attributes:
        end: id of the end; default: the special id, which is the codebook's size.
    """

    name: ClassVar[str] = "vall-e"
    end: int | None = None

    def _check(self) -> None:
        first, end = self.bases[0], self.end
        if end is not None and first <= end < first + self.sizes[0]:
            raise PatternError(f"end {end} is a code of the first codebook; choose one that is not")

    def _places(self) -> tuple[Place, ...]:
        return tuple(Place(0, int(q > 0), after=q) for q in range(self.num_codebooks))

    def _marks(self) -> tuple[Mark, ...]:
        return (Mark(0, 0, 1, self.specials[0] if self.end is None else self.end),)

    def _steps(self) -> tuple[int, int]:
        return 1, self.num_codebooks

    def stages(self, codes: Array) -> list[tuple[Array, Array]]:
        """What each stage sees and learns.

        Args:
            codes: (codebooks, frames) or (batch, codebooks, frames), without padding.

        Returns:
            for each codebook j, ids (…, j, frames) of those before it, and what it learns: (…,
            frames) ids, and for the first (…, frames + 1), which ends with the end.
        """
        steps, _ = self.lay(codes)
        steps, frames = steps[..., 0, :], codes.shape[-1]
        count = self.num_codebooks
        rest = steps[..., frames + 1 :].reshape(*steps.shape[:-1], count - 1, frames)
        first = steps[..., None, :frames]
        every = first if count == 1 else Arrays(steps).below(first, rest)
        targets = [steps[..., : frames + 1], *(rest[..., j, :] for j in range(count - 1))]
        return [(every[..., :j, :], target) for j, target in enumerate(targets)]
