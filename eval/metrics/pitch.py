"""Preservation of intonation: correlation of F0, voicing errors, gross pitch errors.

F0 is estimated by WORLD's DIO, refined by StoneMask (Morise et al., 2009, 2016), of the `pyworld`
package. DIO also decides voicing, which YIN does not; Harvest takes 60 times as long, and pYIN four
times. DIO runs on the signal at a quarter of the sample rate, enough for a pitch of up to 500 Hz
(on speech 1 % of the frames differ), and StoneMask on the full signal: 55 ms for 10 s of audio. The
three metrics share one analysis, and systems share the reference's.
"""

from dataclasses import replace

import numpy as np

from ..analysis_cache import remembered
from .interface import Clip, Metric, MetricError, Ratio
from .requirements import check_pair, package

#: Hz; seconds between frames.
PITCH_MIN, PITCH_MAX, HOP = 60.0, 500.0, 0.010

#: Minimal number of frames voiced in both for a correlation: 0.2 s.
LEAST_FRAMES = 20

#: A deviation by more than this share of the reference's F0 is a gross error.
GROSS = 0.2


def pitch_correlation(clip: Clip) -> float:
    """Pearson's correlation of F0 in Hz, over the frames that are voiced in both; up to 1.

    Frames that lost their voicing are not counted: see `voicing_error`.

    Raises:
        MetricError: the two can't be compared, fewer than 20 frames (0.2 s) are voiced in both, F0
            is constant in one of them, or no `pyworld` package.
    """
    reference, estimate = _tracks(clip)
    both = (reference > 0) & (estimate > 0)
    if both.sum() < LEAST_FRAMES:
        raise MetricError(
            f"F0 correlation: {both.sum()} frames voiced in both; expected at least {LEAST_FRAMES}"
        )
    first, second = (track[both] - track[both].mean() for track in (reference, estimate))
    norm = np.sqrt((first @ first) * (second @ second))
    # A variation below a thousandth of a Hz is rounding noise of a monotone voice.
    if min(first @ first, second @ second) <= both.sum() * 1e-6:
        raise MetricError("F0 correlation: F0 is constant")
    return float(np.clip(first @ second / norm, -1, 1))


def voicing_error(clip: Clip) -> Ratio:
    """Share of the frames that are voiced in only one of the two.

    Raises:
        MetricError: the two can't be compared, the reference is unvoiced, or no `pyworld` package.
    """
    reference, estimate = _tracks(clip)
    if not (reference > 0).any():
        raise MetricError("voicing error: the reference has no voiced frame")
    return Ratio(float(((reference > 0) != (estimate > 0)).sum()), float(reference.size))


def gross_pitch_error(clip: Clip) -> Ratio:
    """Share of the frames voiced in both whose F0 is off by more than 20 %.

    Raises:
        MetricError: the two can't be compared, no frame is voiced in both, or no `pyworld` package.
    """
    reference, estimate = _tracks(clip)
    both = (reference > 0) & (estimate > 0)
    if not both.any():
        raise MetricError("gross pitch error: no frame is voiced in both")
    gross = np.abs(estimate[both] / reference[both] - 1) > GROSS
    return Ratio(float(gross.sum()), float(both.sum()))


def _tracks(clip: Clip) -> tuple[np.ndarray, np.ndarray]:
    check_pair(clip)
    return pitch_track(clip.reference, clip.sample_rate), pitch_track(
        clip.estimate, clip.sample_rate
    )


@remembered
def pitch_track(wave: np.ndarray, sample_rate: int) -> np.ndarray:
    """Pitch track (frames,) float64 in Hz, every 10 ms; 0 where unvoiced."""
    pyworld = package("pyworld")
    wave = wave.astype(np.float64)
    if not wave.any():
        return np.zeros(int(wave.size / sample_rate / HOP) + 1)
    coarse, times = pyworld.dio(
        wave,
        sample_rate,
        f0_floor=PITCH_MIN,
        f0_ceil=PITCH_MAX,
        frame_period=1000 * HOP,
        speed=4,
    )
    found: np.ndarray = pyworld.stonemask(wave, coarse, times, sample_rate)
    return found


F0_CORRELATION = Metric(
    name="f0-corr",
    heading="F0 corr.",
    compute=pitch_correlation,
    description="Correlation of the pitch in Hz, over frames that are voiced in both.",
    higher_is_better=True,
    bounds=(-1, 1),
    sample_rates=(16000,),
    paper="Morise et al., 2009 (DIO); 2016 (StoneMask)",
    package="pyworld-prebuilt",
)

VOICING = replace(
    F0_CORRELATION,
    name="voicing",
    heading="voicing error",
    compute=voicing_error,
    description="Share of frames that are voiced in one of the two only.",
    higher_is_better=False,
    bounds=(0, 1),
    paper="Morise et al., 2009 (DIO)",
)

GROSS_PITCH_ERROR = replace(
    F0_CORRELATION,
    name="gpe",
    heading="gross pitch error",
    compute=gross_pitch_error,
    description="Share of frames voiced in both whose pitch is off by more than 20 %.",
    higher_is_better=False,
    bounds=(0, 1),
    paper="Chu & Alwan, 2009, doi 10.1109/ICASSP.2009.4960497",
)
