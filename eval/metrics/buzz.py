"""Buzz in fricatives: noise that repeats itself at a pitch, where the original has no voice.

Decoders that make speech from pulses and noise must be told when there is no voice; where they are
not, pulses go on under the noise of an s or f, and a buzz is heard.
"""

import numpy as np

from .cache import remembered
from .interface import Clip, Metric, MetricError, Ratio
from .pitch import pitch_track
from .requirements import check_pair, check_rate, check_sounding

#: Hz, of both signals. Samples: of a frame, between frames, and the lags, 500 to 50 Hz.
RATE, FRAME, HOP, SHORTEST, LONGEST = 16000, 480, 160, 32, 320

#: Hz: below are hum and rumble, and what little a fricative has.
CUTOFF = 1000.0

#: dB below the clip's loudest 10 ms: what is above the cutoff there is no loud fricative.
RANGE = 30.0

#: Hops on either side of a frame that are without a voice, too.
MARGIN = 1

#: The largest of a noise's correlations over their median size, whatever the noise's band.
NOISE_PEAK = 4.0

#: Frames that a score needs: 50 ms.
LEAST_FRAMES = 5


def buzz(clip: Clip) -> Ratio:
    """How much more the reconstruction's fricatives repeat themselves than the original's.

    Frames of 30 ms every 10 ms, with the 20 ms after them that they are compared with: where, and
    10 ms before and after, WORLD's DIO finds no voice in the original, and every 10 ms have more
    energy above 1 kHz than below, within 30 dB of the clip's loudest. In each, of what is above
    1 kHz: the largest normalised cross-correlation (Talkin, 1995, "A robust algorithm for pitch
    tracking") of the frame with what comes 2 to 20 ms (500 to 50 Hz) later, less four times the
    median of its size over these lags, which is where the largest of mere noise lies; what is below
    counts as zero. Pulses with a share p of the energy so give about p − 0.1, and noise of any
    bandwidth 0.02. The score is the mean of the reconstruction's less that of the original's: 0 for
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
    """(frames,) by how much each frame repeats itself at a lag of 2 to 20 ms more than noise does.

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
    # A silent frame repeats nothing; the floor is far below one step of 16 bits.
    found = products / np.maximum(norm, FRAME * 1e-12)
    above: np.ndarray = found.max(1) - NOISE_PEAK * np.median(np.abs(found), 1)
    return np.clip(above, 0, 1)


@remembered
def _fricatives(wave: np.ndarray, sample_rate: int) -> tuple[np.ndarray, float]:
    """First samples of loud frames without a voice; the sum of their `repetition`."""
    pitch = pitch_track(wave, sample_rate)
    hops = wave.size // HOP
    whole, high = (
        (signal[: hops * HOP].astype(np.float64) ** 2).reshape(hops, HOP).mean(1)
        for signal in (wave, _high(wave))
    )
    hiss = (high > whole / 2) & (high > whole.max(initial=0) * 10 ** (-RANGE / 10))
    quiet = pitch[: hops + 1] == 0  # at the hops' edges
    spanned = (FRAME + LONGEST) // HOP
    if hops < spanned:
        return np.zeros(0, int), 0.0
    quiet = np.pad(quiet, MARGIN, constant_values=True)
    windows = np.lib.stride_tricks.sliding_window_view
    chosen = windows(hiss, spanned).all(1) & windows(quiet, spanned + 1 + 2 * MARGIN).all(1)
    frames = HOP * np.flatnonzero(chosen)
    return frames, float(repetition(wave, frames).sum())


def _high(wave: np.ndarray) -> np.ndarray:
    """(samples,) float64, what is above `CUTOFF`."""
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
