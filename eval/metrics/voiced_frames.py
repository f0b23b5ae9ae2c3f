"""Voiced frames of four pitch periods each, their time warped so that all periods are equally long.

Any voice so has its harmonics on every fourth bin, glides or not, and nothing between them but
noise (pitch-synchronous harmonic analysis; Murphy, 1999, "Perturbation-free measurement of the
harmonics-to-noise ratio in voice signals"). Both signals are looked at in the frames that are
voiced in the original.
"""

import numpy as np

from .interface import MetricError
from .pitch import HOP, pitch_track

#: Hz, of the signals.
RATE = 16000

#: Pitch periods in a frame: with a Hann window, a harmonic is then gone half a pitch further.
PERIODS = 4

#: Every third point of the pitch track is looked at, one each 30 ms. Every second would fall on the
#: same place of each frame of a codec with frames of 20 ms, where its sound may be another than
#: between: by 2 dB of contrast.
EVERY = 3

#: Frames that a score needs: 0.2 s of voice.
LEAST_FRAMES = 7


def voiced_pitch(reference: np.ndarray, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """The original's pitch, and where to look.

    Args:
        reference: (samples,) at 16 kHz.
        metric: named in errors.

    Returns:
        The pitch, (points,) float64 in Hz every 10 ms, 0 where there is no voice; and the points,
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
    """(frames, PERIODS × per_period) the samples, not whole, at even steps of the pitch's phase.

    Args:
        pitch: (points,) Hz every 10 ms, 0 where there is no voice.
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
    """(PERIODS × per_period,) Hann, periodic."""
    size = PERIODS * per_period
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
