"""Probabilities of codes, alone and after another code, smoothed by the Witten–Bell method.

After a history that was seen n times with d different successors, a code's probability is (its
count there + d × its probability without that history) / (n + d) (Witten & Bell, IEEE Trans. Inf.
Theory 37(4), 1991). The probability without history is smoothed in the same way with 1 / codebook
size. So every code has a positive probability, and all sum to 1.
"""

import numpy as np


class WittenBell:
    """Probabilities of codes, from counts.

    Args:
        codes: (n,) integers below `size`, at least one, that are counted.
        before: (n,) integers below `histories`: the code before each; -1: none.
        size: number of codes.
        histories: number of histories.
    """

    def __init__(self, codes: np.ndarray, before: np.ndarray, size: int, histories: int) -> None:
        self.size = size
        counts = np.bincount(codes, minlength=size)
        seen = int((counts > 0).sum())
        self._alone = (counts + seen / size) / (counts.sum() + seen)
        after = before >= 0
        # Only pairs that occur are stored: a table of all would be large.
        pairs = before[after].astype(np.int64) * size + codes[after]
        self._pairs, self._counts = np.unique(pairs, return_counts=True)
        self._seen = np.bincount(before[after], minlength=histories)
        self._followers = np.bincount(self._pairs // size, minlength=histories)

    def alone(self, codes: np.ndarray) -> np.ndarray:
        """Probability of each code: (n,) float64."""
        return self._alone[codes]

    def after(self, codes: np.ndarray, before: np.ndarray) -> np.ndarray:
        """Probability of each code after the one before it (-1: none): (n,) float64."""
        alone = self._alone[codes]
        if not len(self._pairs):
            return alone
        known = np.maximum(before, 0)
        pairs = known.astype(np.int64) * self.size + codes
        places = np.minimum(np.searchsorted(self._pairs, pairs), len(self._pairs) - 1)
        counts = np.where(self._pairs[places] == pairs, self._counts[places], 0)
        followers = np.where(before >= 0, self._followers[known], 0)
        seen = np.where(before >= 0, self._seen[known], 0)
        found = (counts + followers * alone) / np.maximum(seen + followers, 1)
        return np.where(seen > 0, found, alone)
