"""Unit edit distance (UED): how much units change when a recording does and its words do not.

After Gat et al., "Augmentation invariant discrete representation for generative spoken language
modeling" (arXiv 2209.15483): Levenshtein distance of de-duplicated units of the original and of the
perturbed recording. The divisor is the length of the original's de-duplicated units; both are
summed over all recordings before they are divided, so that a recording counts by its length. (Gat
et al. divide each by its number of frames and take the mean, which gives smaller figures.)
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from .edit_distance import UnitErrorRate, unit_error_rate
from .perturbations import PERTURBATIONS, Perturbation


def robustness(
    encode: Callable[[np.ndarray], np.ndarray],
    waves: Iterable[np.ndarray],
    sample_rate: int,
    perturbations: Sequence[Perturbation] = PERTURBATIONS,
) -> dict[str, UnitErrorRate]:
    """UED under each perturbation.

    Args:
        encode: (samples,) float32 at `sample_rate` to (frames,) integers.
        waves: (samples,) each.
        sample_rate: Hz.
        perturbations: what to do to them.

    Returns:
        By name of the perturbation; each has its `rate`.

    Raises:
        MetricError: a wave or its units have a wrong shape, or no `rapidfuzz` package.
    """
    totals = {change.name: UnitErrorRate(0, 0, 0) for change in perturbations}
    for wave in waves:
        reference = encode(wave)
        for change in perturbations:
            units = encode(change.apply(wave, sample_rate))
            totals[change.name] += unit_error_rate([(reference, units)])
    return totals
