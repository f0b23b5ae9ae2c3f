"""Edit distances of de-duplicated unit sequences, for robustness and invariance."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..requirements import MetricError


@dataclass(frozen=True)
class UnitErrorRate:
    """Edits over many pairs of sequences.

    Attributes:
        edits: total insertions, deletions and substitutions.
        length: total length of the de-duplicated references: the divisor.
        num_pairs: of sequences.
    """

    edits: int
    length: int
    num_pairs: int

    @property
    def rate(self) -> float:
        """Edits over length; 0 for equal sequences, may exceed 1.

        Raises:
            MetricError: the references have no units.
        """
        if not self.length:
            raise MetricError("unit edit distance: the references have no units")
        return self.edits / self.length

    def __add__(self, other: "UnitErrorRate") -> "UnitErrorRate":
        return UnitErrorRate(
            self.edits + other.edits, self.length + other.length, self.num_pairs + other.num_pairs
        )


def deduplicate(units: np.ndarray) -> np.ndarray:
    """Remove repetitions from (frames,) integers: one for each run of equal ones."""
    if units.ndim != 1:
        raise MetricError(f"units of shape {units.shape}; expected (frames,)")
    return units[np.append(True, units[1:] != units[:-1])[: len(units)]]


def unit_error_rate(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> UnitErrorRate:
    """Levenshtein distances of de-duplicated units, over the total length of the references.

    Args:
        pairs: of a reference and a hypothesis, each (frames,) integers.

    Raises:
        MetricError: not (frames,), or no `rapidfuzz` package.
    """
    from ..requirements import package

    levenshtein = package("rapidfuzz.distance.Levenshtein")
    edits = length = count = 0
    for reference, other in pairs:
        expected, found = deduplicate(reference).tolist(), deduplicate(other).tolist()
        edits += int(levenshtein.distance(expected, found))
        length += len(expected)
        count += 1
    return UnitErrorRate(edits, length, count)
