"""Spectral tilt: the long-term spectrum of the reconstruction against that of the original."""

from typing import NamedTuple

import numpy as np

from ..analysis_cache import remembered
from .interface import Clip, Metric, MetricError
from .requirements import check_pair, check_rate, check_sounding

#: Hz, of both signals; samples of a window, half of it between windows.
RATE, WINDOW = 16000, 512

#: Hz: middles of third octaves, 125 Hz to 6.35 kHz.
CENTRES = 1000 * 2.0 ** (np.arange(-9, 9) / 3)

#: dB relative to the signal's total power: lower bound of a band's level.
RANGE = 60.0


class BandLevels(NamedTuple):
    """Levels by third octaves.

    Attributes:
        centres: (bands,) Hz.
        differences: (bands,) dB, reconstruction minus original, after removing the volume.
    """

    centres: np.ndarray
    differences: np.ndarray


def band_levels(clip: Clip) -> BandLevels:
    """Difference of long-term average spectra (Byrne et al., 1994) by third octaves.

    The power of periodic Hann windows of 32 ms every 16 ms, averaged over the clip, in 18 bands
    from 125 Hz to 6.35 kHz. Levels are at least −60 dB relative to the signal's total power. The
    difference in volume is removed: the median of the differences, which is robust to a missing
    band.

    Raises:
        MetricError: the two can't be compared, are not at 16 kHz, shorter than 32 ms, or the
            reconstruction is silent.
    """
    check_pair(clip)
    check_sounding(clip)
    check_rate(clip, "spectral tilt", RATE)
    if clip.reference.size < WINDOW:
        raise MetricError(
            f"spectral tilt: {clip.reference.size} samples; expected at least {WINDOW}"
        )
    differences = _levels(clip.estimate, RATE) - _levels(clip.reference, RATE)
    return BandLevels(CENTRES, differences - np.median(differences))


def spectral_tilt(clip: Clip) -> float:
    """Root mean square of the `band_levels`, in dB; 0 for the original at any volume.

    Raises:
        MetricError: see `band_levels`.
    """
    return float(np.sqrt((band_levels(clip).differences ** 2).mean()))


def middle_level(clip: Clip) -> float:
    """Mean of the `band_levels` from 0.9 to 3.6 kHz, in dB: negative is dull, positive sharp.

    These are the six bands with centres from 1 to 3.2 kHz, within the band of narrow-band codecs.

    Raises:
        MetricError: see `band_levels`.
    """
    centres, differences = band_levels(clip)
    return float(differences[(centres > 999) & (centres < 3999)].mean())


@remembered
def _levels(wave: np.ndarray, sample_rate: int) -> np.ndarray:
    """(bands,) dB."""
    from scipy.signal import welch

    hertz, density = welch(
        wave.astype(np.float64), sample_rate, "hann", WINDOW, detrend=False, scaling="spectrum"
    )
    edges = np.concatenate([[0.0], hertz + hertz[1] / 2])
    power = np.concatenate([[0.0], np.cumsum(density)])
    low, high = (np.interp(CENTRES * 2 ** (side / 6), edges, power) for side in (-1, 1))
    levels: np.ndarray = 10 * np.log10(
        np.maximum((high - low) / power[-1], 10 ** (-RANGE / 10)) * power[-1]
    )
    return levels


TILT = Metric(
    name="tilt",
    heading="tilt",
    compute=spectral_tilt,
    description=(
        "Long-term spectrum against the original's: root mean square over 18 third octaves, 125 Hz "
        "to 6.35 kHz, whatever the volume."
    ),
    higher_is_better=False,
    bounds=(0, None),
    unit="dB",
    digits=2,
    sample_rates=(RATE,),
    paper="after Byrne et al., 1994, doi 10.1121/1.410152",
)

MIDDLE = Metric(
    name="middle",
    heading="middle",
    compute=middle_level,
    description="Level from 0.9 to 3.6 kHz against the original's, whatever the volume.",
    higher_is_better=None,
    bounds=(None, None),
    unit="dB",
    digits=2,
    sample_rates=(RATE,),
    paper="after Byrne et al., 1994, doi 10.1121/1.410152",
)
