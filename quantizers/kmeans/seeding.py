"""Initial centroids: rows of the sample, at random or by k-means++.

k-means++ draws each seed with a probability proportional to the row's squared distance from the
seeds before it (Arthur and Vassilvitskii, "k-means++: the advantages of careful seeding", 2007);
the greedy variant draws several and keeps the one that lowers the inertia most. Drawn one by one,
each seed costs a pass over the sample. Here, a pool of candidates is drawn at once from outdated
distances, and a candidate is accepted with probability (its distance now) / (its distance then), so
that accepted ones are distributed as if drawn now (rejection sampling, as in Cohen-Addad et al.,
"Fast and accurate k-means++ via rejection sampling", 2020). One matrix product serves the pool.
"""

from math import log

import numpy as np
import torch
from torch import Tensor

from ...cores import torch_threads
from ...errors import QuantizerError
from ..nearest import NearestCode

_LARGEST_POOL = 256
# Memory for the distances from the pool to all rows, in bytes.
_POOL_BYTES = 64 << 20
_TILE = 256
# Rows whose distances from a pool fit in the cache.
_PRODUCT_TILE = 2048


def random_rows(rows: Tensor, count: int, seed: list[int]) -> Tensor:
    """Draw distinct rows (count, D) of rows (m, D) uniformly.

    Raises:
        QuantizerError: there are fewer distinct rows.
    """
    chosen: list[int] = []
    seen: set[bytes] = set()
    for index in np.random.default_rng(seed).permutation(rows.shape[0]):
        # Adding zero makes -0 and 0 equal.
        content = (rows[index] + 0.0).cpu().numpy().tobytes()
        if content not in seen:
            seen.add(content)
            chosen.append(int(index))
        if len(chosen) == count:
            return rows[chosen]
    raise _too_few(len(chosen), count, rows)


@torch_threads(1)
def plus_plus(
    rows: Tensor,
    count: int,
    seed: list[int],
    before: Tensor | None = None,
    trials: int | None = None,
) -> Tensor:
    """Draw distinct rows (count, D) of rows (m, D) by k-means++.

    Args:
        rows: float32, finite.
        count: number of rows to draw.
        seed: for the random choices.
        before: existing centroids (K, D).
        trials: candidates per seed; 1 is plain k-means++. None: 2 + log(count).

    Raises:
        QuantizerError: there are fewer distinct rows (apart from those of `before`).
    """
    random = np.random.default_rng(seed)
    trials = 2 + int(log(count)) if trials is None else trials
    between = _Distances(rows)
    chosen: list[int] = []
    if before is None:
        chosen.append(int(random.integers(rows.shape[0])))
        distances = between(np.array(chosen))[0]
    else:
        distances = squared_distances(rows, before).cpu().numpy()
    while len(chosen) < count:
        if not distances.any():
            # The remaining distances may be below the precision of products.
            taken = rows[chosen] if before is None else torch.cat([before, rows[chosen]])
            distances = squared_distances(rows, taken).cpu().numpy()
        totals = np.cumsum(distances, dtype=np.float64)
        if not totals[-1] > 0:
            raise _too_few(len(chosen), count, rows)
        most = min(_LARGEST_POOL, max(trials, _POOL_BYTES // (4 * rows.shape[0])))
        size = min(trials * max(1, len(chosen)), most)
        draws = np.searchsorted(totals, random.random(size) * totals[-1], side="right")
        draws = np.minimum(draws, rows.shape[0] - 1)
        draws = draws[distances[draws] > 0]
        pool = _Pool(draws, between(draws), random.random(len(draws)), distances)
        while len(chosen) < count and (best := pool.take(trials)) is not None:
            chosen.append(best)
        distances = pool.distances
    return rows[chosen]


class _Distances:
    """Squared distances between rows, in float32; 0 for equal rows."""

    def __init__(self, rows: Tensor):
        # Centred, since nearby long vectors would lose their difference in rounding.
        self._values = rows - rows.median(0).values
        self._rounding = rows.shape[1] * 2.0**-23
        self._squares = torch.cat([tile.square().sum(1) for tile in self._values.split(_TILE)])

    def __call__(self, places: np.ndarray) -> np.ndarray:
        """Return distances (n, m) from the rows at `places` (n,) to all m rows."""
        index = torch.from_numpy(places).to(self._values.device)
        candidates = self._values[index]
        between = np.empty((len(places), self._values.shape[0]), np.float32)
        start = 0
        for tile, squares in zip(
            self._values.split(_PRODUCT_TILE), self._squares.split(_PRODUCT_TILE), strict=True
        ):
            part = torch.addmm(squares, candidates, tile.T, alpha=-2)
            part += self._squares[index][:, None]
            # Despite rounding, rows equal to candidates must get zero probability.
            part[part <= self._rounding * squares] = 0
            between[:, start : start + tile.shape[0]] = part.cpu().numpy()
            start += tile.shape[0]
        return between


class _Pool:
    """A pool of candidates, and the distances of all rows, which decrease as they are chosen."""

    def __init__(
        self, places: np.ndarray, between: np.ndarray, chances: np.ndarray, distances: np.ndarray
    ):
        self._places = places
        self._between = between
        # A candidate is accepted while its distance is above this.
        self._limits = chances * distances[places]
        self._next = 0
        self.distances = distances

    def take(self, trials: int) -> int | None:
        """Choose the best of `trials` accepted candidates; None if fewer are left."""
        passing: list[int] = []
        first = self._next == 0
        while len(passing) < trials and self._next < len(self._places):
            if self.distances[self._places[self._next]] > self._limits[self._next]:
                passing.append(self._next)
            self._next += 1
        # A pool's first candidate is always accepted, so that each pool gives at least one seed.
        if not passing or (len(passing) < trials and not first):
            return None
        lowered = np.minimum(self._between[passing], self.distances)
        best = int(lowered.sum(1, dtype=np.float64).argmin()) if len(passing) > 1 else 0
        self.distances = lowered[best]
        return int(self._places[passing[best]])


def squared_distances(rows: Tensor, centroids: Tensor) -> Tensor:
    """Return float32 squared distances (m,) of rows (m, D) to their nearest centroids."""
    codes = NearestCode(centroids)(rows)
    parts = [
        (tile - centroids[code]).square_().sum(1)
        for tile, code in zip(rows.split(_TILE), codes.split(_TILE), strict=True)
    ]
    return torch.cat(parts)


def _too_few(found: int, wanted: int, rows: Tensor) -> QuantizerError:
    return QuantizerError(
        f"the sample of {rows.shape[0]} rows has only {found} distinct rows to start {wanted} "
        "clusters from; take fewer clusters or a larger sample"
    )
