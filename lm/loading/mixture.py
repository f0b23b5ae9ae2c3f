"""`Mixture`: which of several data sets each sample comes from, and how often it has come
before."""

from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property

import numpy as np

from ...errors import DatasetError
from .shuffle import Shuffle, mixed

#: Samples in a block, at least: within each, every source has its share.
_BLOCK = 4096


@dataclass(frozen=True)
class Mixture:
    """Samples of several sources in a random order, each with its share.

    Positions come in blocks of a fixed length. After b blocks a source has been taken
    ``round(b × length × weight)`` times, exactly; within a block the order is shuffled. So source
    and count of any position follow from the position alone.

    Attributes:
        weights: of the sources; they need not sum to 1.
        seed: of the order.

    Raises:
        DatasetError: a weight that is not positive and finite.
    """

    weights: tuple[float, ...]
    seed: int
    _recent: dict[int, tuple[np.ndarray, np.ndarray]] = field(
        default_factory=dict, compare=False, repr=False
    )

    def __post_init__(self) -> None:
        if not self.weights or not all(0 < weight < float("inf") for weight in self.weights):
            raise DatasetError(f"weights must be positive, got {list(self.weights)}")

    @cached_property
    def _shares(self) -> list[Fraction]:
        exact = [Fraction(weight) for weight in self.weights]
        return [weight / sum(exact) for weight in exact]

    @cached_property
    def _largest(self) -> int:
        return max(range(len(self.weights)), key=self._shares.__getitem__)

    @cached_property
    def block(self) -> int:
        """Positions in a block: enough for the largest source to make up for all roundings."""
        return max(_BLOCK, 4 * len(self.weights) ** 2)

    def counts(self, blocks: int) -> list[int]:
        """How often each source is taken in the first blocks."""
        total = blocks * self.block
        found = [int(total * share + Fraction(1, 2)) for share in self._shares]
        found[self._largest] += total - sum(found)
        return found

    def __getitem__(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Source of some positions, and the number of this sample among the source's own.

        Args:
            positions: (n,) int64, 0 or more.

        Returns:
            two arrays (n,) int64.
        """
        if len(self.weights) == 1:
            return np.zeros(len(positions), np.int64), positions
        sources, numbers = np.empty_like(positions), np.empty_like(positions)
        blocks, places = np.divmod(positions, self.block)
        for block in np.unique(blocks).tolist():
            here = blocks == block
            of_place, number_of_place = self._block(block)
            sources[here] = of_place[places[here]]
            numbers[here] = number_of_place[places[here]]
        return sources, numbers

    def _block(self, block: int) -> tuple[np.ndarray, np.ndarray]:
        if block not in self._recent:
            before, after = self.counts(block), self.counts(block + 1)
            taken = np.subtract(after, before)
            sources = np.repeat(np.arange(len(taken)), taken)
            sources = sources[Shuffle(self.block, mixed(self.seed, block, 3)).all()]
            numbers = np.empty_like(sources)
            for source, first in enumerate(before):
                at = np.flatnonzero(sources == source)
                numbers[at] = first + np.arange(len(at))
            while len(self._recent) >= 4:
                del self._recent[next(iter(self._recent))]
            self._recent[block] = sources, numbers
        return self._recent[block]
