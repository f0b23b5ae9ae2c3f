"""Lag of a reconstruction: the alignment is fixed by the system, and not corrected here."""

import numpy as np

from .interface import Clip, Metric, MetricError
from .requirements import check_pair

#: Seconds: largest lag in either direction; width of the Gaussian that smooths envelopes.
MOST, SMOOTHING = 0.050, 0.002


def samples_late(reference: np.ndarray, estimate: np.ndarray, sample_rate: int) -> int:
    """Return the samples by which the estimate's envelope is late, within ±50 ms; negative: early.

    The peak of the cross-correlation of the envelopes, |x| smoothed by a Gaussian of 2 ms, because
    parametric codecs do not preserve phases.

    Args:
        reference, estimate: (samples,) each.
        sample_rate: Hz.
    """
    from scipy.ndimage import gaussian_filter1d
    from scipy.signal import correlate

    most = round(MOST * sample_rate)
    envelopes = [
        gaussian_filter1d(np.abs(wave.astype(np.float64)), SMOOTHING * sample_rate)
        for wave in (reference, estimate)
    ]
    first, second = (envelope - envelope.mean() for envelope in envelopes)
    found = correlate(second, first, "full", "fft")
    middle = len(reference) - 1
    window = found[max(0, middle - most) : middle + most + 1]
    return int(window.argmax()) - min(middle, most)


def lag(clip: Clip) -> float:
    """`samples_late` in ms. A few tenths are normal; tens of ms mean a wrong `delay` of the system.

    Raises:
        MetricError: the two can't be compared, or the reconstruction is silent.
    """
    check_pair(clip)
    if not clip.estimate.any():
        raise MetricError("lag: the reconstruction is silent")
    return 1000 * samples_late(clip.reference, clip.estimate, clip.sample_rate) / clip.sample_rate


LAG = Metric(
    name="lag",
    heading="lag",
    compute=lag,
    description="By how much the reconstruction's envelope is late, within 50 ms.",
    higher_is_better=None,
    bounds=(-1000 * MOST, 1000 * MOST),
    unit="ms",
    digits=1,
)
