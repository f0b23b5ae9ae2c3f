"""Voiced frames of four pitch periods each, time-warped so that all periods have equal lengths.

Every voice then has its harmonics in every fourth bin, also with a changing pitch, and only noise
between them (pitch-synchronous harmonic analysis; Murphy, 1999, "Perturbation-free measurement of
the harmonics-to-noise ratio in voice signals"). Both signals are analysed in the frames that are
voiced in the original.
"""

import numpy as np

from .interface import MetricError
from .pitch import HOP, pitch_track

#: Hz, of the signals.
RATE = 16000

#: Pitch periods in a frame: with a Hann window, a harmonic has no leakage half a pitch away.
PERIODS = 4

#: Every third point of the pitch track is used, one per 30 ms. Every second would be at the same
#: position in each frame of a codec with frames of 20 ms, where its quality may differ from that at
#: other positions: by 2 dB of contrast.
EVERY = 3

#: Minimal number of frames for a score: 0.2 s of voice.
LEAST_FRAMES = 7


def voiced_pitch(reference: np.ndarray, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the original's pitch, and the frames to analyse.

    Args:
        reference: (samples,) at 16 kHz.
        metric: named in errors.

    Returns:
        The pitch, (points,) float64 in Hz every 10 ms, 0 where unvoiced; and the points,
        (frames,), whose four periods around them are all voiced.

    Raises:
        MetricError: fewer than seven such frames, or no `pyworld` package.
    """
    pitch = pitch_track(reference, RATE)
    points = np.arange(0, pitch.size, EVERY)
    points = points[pitch[points] > 0]
    reach = np.ceil(PERIODS / 2 / pitch[points] / HOP).astype(int)
    first, last = points - reach, points + reach + 1
    inside = (first >= 0) & (last <= pitch.size)
    points, first, last = points[inside], first[inside], last[inside]
    voiced = np.concatenate([[0], np.cumsum(pitch > 0)])
    points = points[voiced[last] - voiced[first] == last - first]
    if points.size < LEAST_FRAMES:
        raise MetricError(
            f"{metric}: {points.size} frames of four voiced periods in the original; expected at "
            f"least {LEAST_FRAMES}"
        )
    return pitch, points


def warped_times(pitch: np.ndarray, points: np.ndarray, per_period: int) -> np.ndarray:
    """Return the times (frames, PERIODS × per_period), in fractional samples, at equal steps of the
    pitch's phase.

    Args:
        pitch: (points,) Hz every 10 ms, 0 where unvoiced.
        points: (frames,) the middles of the frames.
        per_period: steps in a period.
    """
    step = round(HOP * RATE)
    known = np.flatnonzero(pitch)
    at = np.arange((pitch.size - 1) * step + 1)
    hertz = np.interp(at, known * step, pitch[known])
    turns = np.concatenate([[0.0], np.cumsum(hertz[:-1]) / RATE])
    around = np.arange(PERIODS * per_period) / per_period - PERIODS / 2
    wanted = np.add.outer(turns[points * step], around)
    return np.interp(wanted, turns, at)


def period_window(per_period: int) -> np.ndarray:
    """Periodic Hann window (PERIODS × per_period,)."""
    size = PERIODS * per_period
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
