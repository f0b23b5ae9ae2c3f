"""Scale-invariant signal-to-distortion ratio of waveforms."""

import numpy as np

from .interface import Clip, Metric, MetricError
from .requirements import check_pair

#: dB. The precision of float32 samples: higher values are rounding of a copy.
_MOST = 140.0


def si_sdr(clip: Clip) -> float:
    """SI-SDR in dB: energy of the reference's part of the estimate over that of the rest.

    Means are removed first, as the paper assumes. A codec that does not preserve phases scores
    below 0 dB even if it sounds good. The score of a scaled copy is infinite, which can't be
    averaged, and so is an error: above 140 dB, the precision of float32 samples.

    Raises:
        MetricError: the two can't be compared, one of them is silent or constant, or they are
            equal up to their volume.
    """
    check_pair(clip)
    reference = clip.reference.astype(np.float64)
    estimate = clip.estimate.astype(np.float64)
    reference -= reference.mean()
    estimate -= estimate.mean()
    if not reference.any():
        raise MetricError("SI-SDR: the reference is constant")
    if not estimate.any():
        raise MetricError("SI-SDR: the reconstruction is silent")
    target = reference * (reference @ estimate) / (reference @ reference)
    rest = estimate - target
    kept, lost = float(target @ target), float(rest @ rest)
    if not kept:
        raise MetricError("SI-SDR: minus infinity, as nothing of the reference is left")
    if lost <= kept * 10 ** (-_MOST / 10):
        raise MetricError("SI-SDR: infinite, as the two are equal up to their volume")
    return 10 * np.log10(kept / lost)


SI_SDR = Metric(
    name="si-sdr",
    heading="SI-SDR",
    compute=si_sdr,
    description=(
        "Scale-invariant signal-to-distortion ratio: agreement of the samples, phases included."
    ),
    higher_is_better=True,
    bounds=(None, _MOST),
    unit="dB",
    digits=1,
    paper="Le Roux et al., arXiv 1811.02508",
)
