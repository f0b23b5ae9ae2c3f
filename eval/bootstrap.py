"""Confidence intervals of means by resampling items (Efron & Tibshirani, "An Introduction to the
Bootstrap").

Items are drawn with replacement, as often as there are items; the interval contains the middle 95 %
of the means of many such draws. Dependence among items of a speaker is ignored: with few speakers,
intervals are too narrow.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

RESAMPLES = 1000
LEVEL = 0.95
# Most items whose draws are kept for further means: 16 MB.
_KEPT = 2048


def interval(
    numerators: Sequence[float] | np.ndarray,
    denominators: Sequence[float] | np.ndarray | None = None,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Return the 95 % interval of a mean, or of a quotient of totals.

    Args:
        numerators: (items,) values.
        denominators: (items,) weights, such as words of each reference; default: 1 each.
        seed: of the draws.

    Returns:
        Lower and upper end; None for fewer than two items.
    """
    values = np.asarray(numerators, np.float64)
    count = len(values)
    if count < 2:
        return None
    weights = np.ones(count) if denominators is None else np.asarray(denominators, np.float64)
    drawn = _drawn(count, seed) if count <= _KEPT else _drawn.__wrapped__(count, seed)
    # Sums in float64 in a fixed order, for the same result everywhere.
    totals = (drawn * weights).sum(1)
    means = (drawn * values).sum(1)[totals > 0] / totals[totals > 0]
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


@lru_cache(maxsize=16)
def _drawn(count: int, seed: int) -> np.ndarray:
    """How often each item is drawn (RESAMPLES, count)."""
    random = np.random.default_rng(seed)
    return random.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
