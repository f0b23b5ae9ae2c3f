"""Scalar quantization of each channel on its own, with uniform levels or levels fitted to data.

This is dMel's quantizer (arXiv 2407.15835), with the Lloyd-Max algorithm for fitted levels (S. P.
Lloyd, "Least squares quantization in PCM", 1982).
"""

from typing import TypeVar

import numpy as np
from torch import Tensor

Levels = TypeVar("Levels", np.ndarray, Tensor)


def inner_edges(levels: Levels) -> Levels:
    """Return the boundaries (…, n - 1) of ascending levels (…, n): halfway between neighbours."""
    halfway: Levels = (levels[..., 1:] + levels[..., :-1]) / 2
    return halfway


def uniform_edges(minimum: float, maximum: float, num_levels: int) -> np.ndarray:
    """Return the (num_levels - 1,) inner edges of equal cells over [minimum, maximum].

    Raises:
        ValueError: fewer than 2 levels, or minimum >= maximum.
    """
    if num_levels < 2:
        raise ValueError(f"expected at least 2 levels, got {num_levels}")
    if not minimum < maximum:
        raise ValueError(f"expected minimum < maximum, got {minimum}, {maximum}")
    return minimum + np.arange(1, num_levels) * ((maximum - minimum) / num_levels)


def fit_levels(values: np.ndarray, num_levels: int, iterations: int = 100) -> np.ndarray:
    """Fit the levels of least squared error to the values, by Lloyd's algorithm from quantiles.

    Args:
        values: (n,) samples of the quantity, with at least `num_levels` distinct ones.
        num_levels: number of levels.
        iterations: maximum number of rounds; it stops when no level changes.

    Returns:
        (num_levels,) ascending. The edges between them are the midpoints.

    Raises:
        ValueError: too few distinct values.
    """
    values = np.sort(np.asarray(values, np.float64).ravel())
    distinct = np.unique(values)
    if distinct.size < num_levels:
        raise ValueError(f"{distinct.size} distinct values can't fill {num_levels} levels")
    totals = np.concatenate([[0.0], np.cumsum(values)])
    levels: np.ndarray = np.quantile(distinct, (np.arange(num_levels) + 0.5) / num_levels)
    for _ in range(iterations):
        edges = np.searchsorted(values, inner_edges(levels))
        bounds = np.concatenate([[0], edges, [values.size]])
        counts = np.diff(bounds)
        means = np.diff(totals[bounds]) / np.maximum(counts, 1)
        # An empty cell keeps its level, which is still between its neighbours.
        moved = np.where(counts > 0, means, levels)
        if np.array_equal(moved, levels):
            break
        levels = moved
    return levels
