"""Sums of rows by code that are bit-identical for any order of additions.

Each value is rounded to a grid coarse enough that float64 holds every sum of all rows without
rounding, and finer than float32's steps at the largest value of its column for up to 2^27 rows.
Additions on the grid are exact, so blocks, threads, processes and devices may add in any order, and
subtract again. This is the pre-rounding of reproducible summation (Demmel and Nguyen, "Fast
reproducible floating-point summation", 2013).
"""

from dataclasses import dataclass
from math import ceil, log2

import torch
from torch import Tensor

# Rows rounded at once, whose float64 copies stay in the cache.
_TILE = 256


def exact_grid(largest: Tensor, num_rows: int) -> Tensor:
    """Return float64 constants C (D,) such that (x + C) - C is on a grid with exact sums.

    Args:
        largest: (D,) bounds of |x|, finite.
        num_rows: maximum number of values in a sum. Differences of two such sums are exact too.
    """
    _, exponents = torch.frexp(largest.double())
    bits = 51 - ceil(log2(num_rows + 1))
    return torch.ldexp(torch.full_like(exponents, 1.5, dtype=torch.float64), 52 + exponents - bits)


@dataclass
class ClusterSums:
    """Number and sum of the rows of each cluster.

    Attributes:
        sums: (K, D) float64, exact on the grid.
        counts: (K,) float64.
    """

    sums: Tensor
    counts: Tensor

    @classmethod
    def zeros(cls, num_clusters: int, dim: int, device: torch.device) -> "ClusterSums":
        sums = torch.zeros(num_clusters, dim, dtype=torch.float64, device=device)
        return cls(sums, sums.new_zeros(num_clusters))

    def move(self, rows: Tensor, old: Tensor, new: Tensor, grid: Tensor) -> int:
        """Move rows (n, D) from clusters `old` (n,), -1 for none, to clusters `new` (n,).

        Returns:
            Number of rows moved.
        """
        moved = (old != new).nonzero()[:, 0]
        for index in moved.split(_TILE) if len(moved) else ():
            # Most rows move in the first pass only, where copying a whole tile is faster.
            whole = int(index[-1] - index[0]) + 1 == index.shape[0]
            tile = rows[index[0] : index[-1] + 1] if whole else rows[index]
            values = on_grid(tile.double(), grid)
            target, origin = new[index], old[index]
            self.sums.index_add_(0, target, values)
            self.counts.index_add_(0, target, torch.ones_like(target, dtype=torch.float64))
            known = origin >= 0
            if not bool(known.all()):
                values, origin = values[known], origin[known]
            self.sums.index_add_(0, origin, values, alpha=-1)
            self.counts.index_add_(0, origin, torch.full_like(origin, -1, dtype=torch.float64))
        return moved.shape[0]

    def means(self, fallback: Tensor) -> Tensor:
        """Return float32 means (K, D), with rows of `fallback` (K, D) for empty clusters."""
        means = (self.sums / self.counts.clamp(min=1)[:, None]).float()
        return torch.where(self.counts[:, None] > 0, means, fallback)

    def explained(self) -> float:
        """Return the part of the rows' sum of squares explained by the means: sum of n |mean|^2."""
        # NumPy adds on one thread, in the same order everywhere.
        sums, counts = self.sums.cpu().numpy(), self.counts.clamp(min=1).cpu().numpy()
        return float(((sums * sums).sum(1) / counts).sum())


def on_grid(values: Tensor, grid: Tensor) -> Tensor:
    """Round float64 values (n, D) to the grid (D,) of `exact_grid`, in place."""
    return values.add_(grid).sub_(grid)


def square_grids(largest: Tensor, num_rows: int) -> Tensor:
    """Return two grids (2, D) for squares of values up to `largest` (D,).

    The second one is for the rounding errors of the first, whose step is too coarse for small
    values beside a large one.
    """
    coarse = exact_grid(largest.double().square(), num_rows)
    # 1.5 · 2^52 steps is the constant.
    return torch.stack([coarse, exact_grid(coarse / (1.5 * 2**52), num_rows)])


def column_squares(rows: Tensor, grids: Tensor) -> Tensor:
    """Return float64 sums (2, D) of the squares of rows (n, D), exact on each of the two grids."""
    total = torch.zeros_like(grids)
    for tile in rows.split(_TILE):
        squares = tile.double().square_()
        rounded = on_grid(squares.clone(), grids[0])
        total[0] += rounded.sum(0)
        total[1] += on_grid(squares.sub_(rounded), grids[1]).sum(0)
    return total
