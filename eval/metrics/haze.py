"""Haze: noise above 5 kHz that is not modulated by the pitch, and so is heard separately from the
voice.

In a voice, noise above 5 kHz comes in bursts, one per period. Steady noise of the same level is
heard as a second sound (Hermes, 1991, "Synthesis of breathy vowels").
"""

import numpy as np

from ..analysis_cache import remembered
from .interface import Clip, Metric, MetricError, Ratio
from .requirements import check_pair, check_rate, check_sounding
from .voiced_frames import RATE, period_window, voiced_pitch, warped_times

#: Hz: the band; its upper end leaves room for the transition band of resamplers.
BAND = (5000.0, 7800.0)

#: Steps per period: enough for an envelope with a band of 2.8 kHz, for a pitch of 60 Hz or more.
PER_PERIOD = 64

#: dB: minimal energy of the original's band relative to its total, and of the reconstruction's band
#: relative to the original's, for a score.
FAINT, GONE = -60.0, -20.0


def haze(clip: Clip) -> Ratio:
    """Loss of modulation by the pitch in the band from 5 to 7.8 kHz.

    In frames of four periods with equal lengths (see `voiced_frames`), every 30 ms: the envelope of
    the band (squared, of the analytic signal) has a mean and a component at the original's pitch;
    twice the component over the mean is the modulation depth: 0.25 for steady noise, 0.65 for read
    speech, at most 2, for pulses. The score is the mean depth of the original minus that of the
    reconstruction. It is independent of the level, and of the band's level. It is a ratio, so that
    the mean over clips is one over frames.

    Raises:
        MetricError: the two can't be compared, are not at 16 kHz, the reconstruction is silent, the
            original has hardly any voice, nothing above 5 kHz in one of the two, or no `pyworld`
            package.
    """
    check_pair(clip)
    check_sounding(clip)
    check_rate(clip, "haze", RATE)
    pitch, points = voiced_pitch(clip.reference, "haze")
    before, level = _of_original(clip.reference, RATE)
    depths, other = pulsing(clip.estimate, pitch, points)
    if level < FAINT:
        raise MetricError(f"haze: the original has {level:.0f} dB of its energy above 5 kHz")
    if other - level < GONE:
        raise MetricError(
            f"haze: the reconstruction has nothing above 5 kHz: {other:.0f} dB of its energy, the "
            f"original {level:.0f} dB"
        )
    return Ratio(before - float(depths.sum()), float(points.size))


def pulsing(wave: np.ndarray, pitch: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, float]:
    """Modulation depth by the pitch above 5 kHz, and level of that band.

    Args:
        wave: (samples,) at 16 kHz.
        pitch: (points,) Hz every 10 ms, 0 where unvoiced.
        points: (frames,) the middles of the frames.

    Returns:
        (frames,) from 0 to 2; and the band's share of the energy in these frames, in dB.
    """
    from scipy.fft import ifft, next_fast_len, rfft
    from scipy.ndimage import map_coordinates

    # The band is shifted to 0 Hz before squaring, so half the sample rate suffices for the
    # envelope.
    half = next_fast_len(-(-wave.size // 2))
    spectrum = rfft(wave.astype(np.float64), 2 * half)
    first, last = (round(hertz * 2 * half / RATE) for hertz in BAND)
    band = ifft(spectrum[first:last], half)
    squares = band.real**2 + band.imag**2
    window = period_window(PER_PERIOD)
    times = warped_times(pitch, points, PER_PERIOD) / 2
    envelope = map_coordinates(squares, [times], order=1, mode="constant") * window
    turns = np.exp(-2j * np.pi * np.arange(window.size) / PER_PERIOD)
    mean, moving = envelope.sum(1), np.abs(envelope @ turns)
    power = wave[: 2 * (wave.size // 2)].astype(np.float64).reshape(-1, 2) ** 2
    whole = map_coordinates(power.mean(1), [times], order=1, mode="constant") * window
    # The square of an analytic signal is twice its power.
    share = mean.sum() / 2 / max(float(whole.sum()), 1e-30)
    return 2 * moving / np.maximum(mean, 1e-30), 10 * np.log10(max(share, 1e-30))


@remembered
def _of_original(wave: np.ndarray, sample_rate: int) -> tuple[float, float]:
    """Sum of the depths over frames; the band's share in dB."""
    depths, level = pulsing(wave, *voiced_pitch(wave, "haze"))
    return float(depths.sum()), level


HAZE = Metric(
    name="haze",
    heading="haze",
    compute=haze,
    description=(
        "How much less the band above 5 kHz pulses with the pitch than in the original "
        "(0 … 2 each), in voiced frames."
    ),
    higher_is_better=False,
    bounds=(-2, 2),
    sample_rates=(RATE,),
    paper="after Hermes, 1991 (Speech Communication 10)",
    package="pyworld-prebuilt",
)
