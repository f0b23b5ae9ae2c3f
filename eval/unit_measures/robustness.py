"""Unit edit distance (UED): change of units under perturbations that keep the words.

After Gat et al., "Augmentation invariant discrete representation for generative spoken language
modeling" (arXiv 2209.15483): Levenshtein distance of de-duplicated units of the original and of the
perturbed recording. The divisor is the length of the original's de-duplicated units; both are
summed over all recordings before the division, so that recordings are weighted by length. (Gat et
al. divide each by its number of frames and average, which gives smaller figures.)

With several codebooks, the distance is that of the first one's codes, and the share of codes that
are equal frame by frame is given too. This is meaningful only for perturbations without changes in
time, such as noise.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..requirements import MetricError
from .edit_distance import UnitErrorRate, unit_error_rate
from .perturbations import PERTURBATIONS, Perturbation


@dataclass(frozen=True, eq=False)
class CodeChange:
    """Change of codes of some recordings under a perturbation.

    Attributes:
        first: edits of the first codebook's codes.
        equal: (codebooks,) int64, codes that are the same at the same frame.
        frames: compared.
        per_recording: (recordings, 2) int64, edits and length of `first` for each recording.
    """

    first: UnitErrorRate
    equal: np.ndarray
    frames: int
    per_recording: np.ndarray

    @property
    def kept(self) -> np.ndarray:
        """(codebooks,) share of codes that are the same at the same frame.

        Raises:
            MetricError: there are no frames.
        """
        if not self.frames:
            raise MetricError("robustness: the recordings have no frames")
        return self.equal / self.frames


def code_robustness(
    encode: Callable[[np.ndarray], np.ndarray],
    waves: Iterable[np.ndarray],
    sample_rate: int,
    perturbations: Sequence[Perturbation] = PERTURBATIONS,
) -> dict[str, CodeChange]:
    """Change of codes under each perturbation, for any number of codebooks.

    Args:
        encode: (samples,) float32 at `sample_rate` to (codebooks, frames) integers.
        waves: (samples,) each, at least one.
        sample_rate: Hz.
        perturbations: to be applied.

    Returns:
        By name of the perturbation. If a perturbed recording has another number of frames, the
        common frames are compared.

    Raises:
        MetricError: no waves, a wave or its codes have a wrong shape, or no `rapidfuzz` package.
    """
    rates: dict[str, list[UnitErrorRate]] = {change.name: [] for change in perturbations}
    equal: dict[str, list[np.ndarray]] = {change.name: [] for change in perturbations}
    frames = dict.fromkeys(rates, 0)
    for wave in waves:
        reference = _checked(encode(wave))
        for change in perturbations:
            codes = _checked(encode(change.apply(wave, sample_rate)))
            common = min(reference.shape[1], codes.shape[1])
            rates[change.name].append(unit_error_rate([(reference[0], codes[0])]))
            equal[change.name].append((reference[:, :common] == codes[:, :common]).sum(1))
            frames[change.name] += common
    if not all(rates.values()):
        raise MetricError("robustness: no recordings")
    return {
        name: CodeChange(
            sum(found, UnitErrorRate(0, 0, 0)),
            np.sum(equal[name], axis=0).astype(np.int64),
            frames[name],
            np.array([(rate.edits, rate.length) for rate in found], np.int64),
        )
        for name, found in rates.items()
    }


def _checked(codes: np.ndarray) -> np.ndarray:
    if codes.ndim != 2 or not len(codes):
        raise MetricError(f"codes of shape {codes.shape}; expected (codebooks, frames)")
    return codes


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
