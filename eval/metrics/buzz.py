"""Buzz in fricatives: noise with a periodicity where the original is unvoiced.

Decoders that synthesise speech from pulses and noise must detect unvoiced frames; otherwise pulses
continue under the noise of an s or f, and are audible as buzz.
"""

import numpy as np

from ..analysis_cache import remembered
from .interface import Clip, Metric, MetricError, Ratio
from .pitch import pitch_track
from .requirements import check_pair, check_rate, check_sounding

#: Hz, of both signals. Samples: of a frame, between frames, and the lags, 500 to 50 Hz.
RATE, FRAME, HOP, SHORTEST, LONGEST = 16000, 480, 160, 32, 320

#: Hz: below are hum and rumble, and little of a fricative.
CUTOFF = 1000.0

#: Level in dB relative to the clip's loudest 10 ms, above the cutoff, from which a fricative is
#: loud.
RANGE = 30.0

#: Hops on either side of a frame that must be unvoiced too.
MARGIN = 1

#: Ratio of the largest to the median magnitude of noise correlations, for any bandwidth of the
#: noise.
NOISE_PEAK = 4.0

#: Minimal number of frames for a score: 50 ms.
LEAST_FRAMES = 5


def buzz(clip: Clip) -> Ratio:
    """Periodicity of the reconstruction's fricatives minus that of the original's.

    Frames of 30 ms every 10 ms, each compared with the following 20 ms. Frames are used where,
    including 10 ms before and after, WORLD's DIO finds no voice in the original, and every 10 ms
    have more energy above 1 kHz than below, within 30 dB of the clip's loudest. The periodicity of
    a frame, above 1 kHz, is the largest normalised cross-correlation (Talkin, 1995, "A robust
    algorithm for pitch tracking") of the frame at lags of 2 to 20 ms (500 to 50 Hz), minus four
    times the median magnitude over these lags, which is about the largest value for noise; negative
    values count as zero. Pulses with a share p of the energy give about p − 0.1, and noise of any
    bandwidth 0.02. The score is the mean of the reconstruction minus that of the original: 0 for
    the original. It is a ratio, so that the mean over clips is one over frames.

    Raises:
        MetricError: the two can't be compared, are not at 16 kHz, the reconstruction is silent, the
            original has fewer than five such frames, or no `pyworld` package.
    """
    check_pair(clip)
    check_sounding(clip)
    check_rate(clip, "buzz", RATE)
    frames, before = _fricatives(clip.reference, clip.sample_rate)
    if frames.size < LEAST_FRAMES:
        raise MetricError(
            f"buzz: {frames.size} loud frames of the original are without a voice; expected at "
            f"least {LEAST_FRAMES}"
        )
    return Ratio(float(repetition(clip.estimate, frames).sum() - before), float(frames.size))


def repetition(wave: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Return the periodicity (frames,) of each frame at lags of 2 to 20 ms, beyond that of noise.

    Args:
        wave: (samples,) at 16 kHz.
        frames: (frames,) their first samples, 50 ms or more before the end.
    """
    span = _high(wave)[frames[:, None] + np.arange(FRAME + LONGEST)]
    size = 1 << (2 * FRAME + LONGEST - 1).bit_length()
    spectra = np.fft.rfft(span[:, :FRAME], size).conj() * np.fft.rfft(span, size)
    products = np.fft.irfft(spectra, size)[:, SHORTEST : LONGEST + 1]
    energy = np.cumsum(np.pad(span**2, ((0, 0), (1, 0))), 1)
    lags = np.arange(SHORTEST, LONGEST + 1)
    later = energy[:, lags + FRAME] - energy[:, lags]
    norm = np.sqrt(energy[:, FRAME, None] * later)
    # A silent frame has no periodicity; the floor is far below one step of 16 bits.
    found = products / np.maximum(norm, FRAME * 1e-12)
    above: np.ndarray = found.max(1) - NOISE_PEAK * np.median(np.abs(found), 1)
    return np.clip(above, 0, 1)


@remembered
def _fricatives(wave: np.ndarray, sample_rate: int) -> tuple[np.ndarray, float]:
    """First samples of loud unvoiced frames; the sum of their `repetition`."""
    pitch = pitch_track(wave, sample_rate)
    hops = wave.size // HOP
    whole, high = (
        (signal[: hops * HOP].astype(np.float64) ** 2).reshape(hops, HOP).mean(1)
        for signal in (wave, _high(wave))
    )
    hiss = (high > whole / 2) & (high > whole.max(initial=0) * 10 ** (-RANGE / 10))
    quiet = pitch[: hops + 1] == 0  # at the edges of hops
    spanned = (FRAME + LONGEST) // HOP
    if hops < spanned:
        return np.zeros(0, int), 0.0
    quiet = np.pad(quiet, MARGIN, constant_values=True)
    windows = np.lib.stride_tricks.sliding_window_view
    chosen = windows(hiss, spanned).all(1) & windows(quiet, spanned + 1 + 2 * MARGIN).all(1)
    frames = HOP * np.flatnonzero(chosen)
    return frames, float(repetition(wave, frames).sum())


def _high(wave: np.ndarray) -> np.ndarray:
    """High-pass filter (samples,) at `CUTOFF`, float64."""
    from scipy.signal import butter, sosfilt

    filtered: np.ndarray = sosfilt(
        butter(4, CUTOFF, "high", fs=RATE, output="sos"), wave.astype(np.float64)
    )
    return filtered


BUZZ = Metric(
    name="buzz",
    heading="buzz",
    compute=buzz,
    description=(
        "By how much loud frames without a voice repeat themselves at 50 to 500 Hz (peak of the "
        "autocorrelation above that of noise), less what the original's do."
    ),
    higher_is_better=False,
    bounds=(-1, 1),
    sample_rates=(RATE,),
    paper="after Talkin, 1995 (normalised cross-correlation)",
    package="pyworld-prebuilt",
)
