"""Harmonic contrast: level of a voice's harmonics relative to the level between them."""

from dataclasses import replace

import numpy as np

from ..analysis_cache import remembered
from .interface import Clip, Metric, Ratio
from .pitch import HOP
from .requirements import check_pair, check_rate, check_sounding, package
from .voiced_frames import PERIODS, RATE, period_window, voiced_pitch, warped_times

#: Hz: range of the harmonics, within the band of narrow-band codecs.
LOWEST, HIGHEST = 100.0, 3600.0

#: Samples per period, so many that frequencies below 8 kHz do not alias below 4 kHz at 60 Hz and
#: more.
PER_PERIOD = 200

#: Lower bound of levels relative to a frame's strongest, amplitude.
FLOOR = 1e-5

#: Maximal relative deviation of a signal's own pitch from the original's.
TUNING = 0.05


def harmonic_contrast(clip: Clip) -> Ratio:
    """Mean level of harmonics relative to that between them, at the original's pitch, minus the
    original's.

    In frames of four periods with equal lengths (see `voiced_frames`), every 30 ms: the level in dB
    at each multiple of the pitch from 100 to 3600 Hz minus the level half a pitch above it,
    averaged over harmonics (the geometric mean harmonics-to-noise ratio of Murphy, 2000) and
    frames; 0 for noise, about 11 dB for read speech. The pitch is the original's, by WORLD's DIO
    and StoneMask. Negative values mean that harmonics are hoarse, smeared, or at other frequencies;
    `own_contrast` distinguishes these. It is a ratio, so that the mean over clips is one over
    frames.

    Raises:
        MetricError: the two can't be compared, are not at 16 kHz, the reconstruction is silent, the
            original has hardly any voice, or no `pyworld` package.
    """
    _check(clip, "contrast")
    pitch, points = voiced_pitch(clip.reference, "contrast")
    after = contrasts(clip.estimate, pitch, points).sum()
    return Ratio(float(after) - _of_original(clip.reference, RATE), float(points.size))


def own_contrast(clip: Clip) -> Ratio:
    """`harmonic_contrast` with the pitch adjusted to each signal, within 5 % of the original's.

    StoneMask adjusts it, so that clear harmonics at other frequencies count as clear. Positive
    values mean a voice that is cleaner than the original, which may sound buzzy.

    Raises:
        MetricError: see `harmonic_contrast`.
    """
    _check(clip, "own contrast")
    pitch, points = voiced_pitch(clip.reference, "own contrast")
    after = contrasts(clip.estimate, _tuned(clip.estimate, pitch), points).sum()
    return Ratio(float(after) - _own_of_original(clip.reference, RATE), float(points.size))


def contrasts(wave: np.ndarray, pitch: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Level in dB (frames,) float64 of harmonics from 100 to 3600 Hz relative to that half a pitch
    above.

    Args:
        wave: (samples,) at 16 kHz.
        pitch: (points,) Hz every 10 ms, 0 where unvoiced.
        points: (frames,) the middles of the frames.
    """
    from scipy.ndimage import map_coordinates

    times = warped_times(pitch, points, PER_PERIOD)
    frames = map_coordinates(wave.astype(np.float64), [times], order=3, mode="constant")
    sizes = np.abs(np.fft.rfft(frames * period_window(PER_PERIOD), axis=1))
    sizes = np.maximum(sizes, FLOOR * sizes.max(1, keepdims=True))
    sizes[sizes == 0] = 1.0  # a silent frame has no contrast
    levels = 20 * np.log10(sizes[:, PERIODS :: PERIODS // 2])
    count = levels.shape[1] // 2
    steps: np.ndarray = levels[:, : 2 * count : 2] - levels[:, 1 : 2 * count : 2]
    order = np.arange(1, count + 1)
    hertz = pitch[points, None]
    counts = (order * hertz >= LOWEST) & ((order + 0.5) * hertz <= HIGHEST)
    found: np.ndarray = (steps * counts).sum(1) / counts.sum(1)
    return found


def _check(clip: Clip, metric: str) -> None:
    check_pair(clip)
    check_sounding(clip)
    check_rate(clip, metric, RATE)


@remembered
def _of_original(wave: np.ndarray, sample_rate: int) -> float:
    """Sum over frames, dB."""
    return float(contrasts(wave, *voiced_pitch(wave, "contrast")).sum())


@remembered
def _own_of_original(wave: np.ndarray, sample_rate: int) -> float:
    """Sum over frames, dB."""
    pitch, points = voiced_pitch(wave, "own contrast")
    return float(contrasts(wave, _tuned(wave, pitch), points).sum())


def _tuned(wave: np.ndarray, pitch: np.ndarray) -> np.ndarray:
    """Pitch track (points,) in Hz, adjusted to a signal within a limit."""
    times = HOP * np.arange(pitch.size)
    found = package("pyworld").stonemask(wave.astype(np.float64), pitch, times, RATE)
    near = np.abs(found - pitch) <= TUNING * pitch
    tuned: np.ndarray = np.where(near, found, pitch)
    return tuned


CONTRAST = Metric(
    name="contrast",
    heading="contrast",
    compute=harmonic_contrast,
    description=(
        "Level of harmonics (100 to 3600 Hz, at the original's pitch) over what lies between them, "
        "less the original's."
    ),
    higher_is_better=None,
    bounds=(None, None),
    unit="dB",
    digits=2,
    sample_rates=(RATE,),
    paper="after Murphy, 1999 (JASA 105); 2000 (ICSLP)",
    package="pyworld-prebuilt",
)

OWN_CONTRAST = replace(
    CONTRAST,
    name="own-contrast",
    heading="own contrast",
    compute=own_contrast,
    description="Contrast of the harmonics with the pitch tuned to each signal, within 5 %.",
)
