"""Perturbations of a recording that keep its words: tempo, pitch, room and noise.

The kinds are those of Gat et al. (arXiv 2209.15483), who choose their strength at random; here each
has a fixed strength, so that figures are comparable. All are deterministic: noise and the room are
seeded by the wave.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..requirements import MetricError

_WINDOW = 0.032  # seconds; two to four periods of a voice
_SEARCH = 0.008  # seconds in either direction: a period of a low voice


@dataclass(frozen=True)
class Perturbation:
    """A perturbation of a wave.

    Attributes:
        name: short.
        apply: maps (samples,) float32 and the sample rate to (other samples,) float32.
    """

    name: str
    apply: Callable[[np.ndarray, int], np.ndarray]


def time_stretch(wave: np.ndarray, sample_rate: int, tempo: float) -> np.ndarray:
    """Change the tempo and keep the pitch, by WSOLA (Verhelst & Roelands, ICASSP 1993).

    Hann windows of 32 ms overlap by half; each is taken from the position, within 8 ms of its own,
    where it continues the last one best (highest normalised correlation).

    Args:
        wave: (samples,).
        sample_rate: Hz.
        tempo: above 1 is faster and shorter.

    Returns:
        (round(samples / tempo),) float32.
    """
    _check(wave)
    if not 0.25 <= tempo <= 4:
        raise MetricError(f"tempo {tempo}: expected 0.25 to 4")
    half = round(_WINDOW * sample_rate / 2)
    reach = round(_SEARCH * sample_rate)
    window = np.hanning(2 * half + 1)[:-1]
    length = round(len(wave) / tempo)
    count = -(-length // half) + 1
    needed = round((count - 1) * half * tempo) + 4 * half + 2 * reach
    # Padding: half a window and the search range before, the missing samples after.
    padded = np.pad(wave.astype(np.float64), (half + reach, max(0, needed - len(wave))))
    out = np.zeros((count + 1) * half)
    at = reach
    for number in range(count):
        if number:
            start = round(number * half * tempo)  # earliest; the middle is `reach` later
            wanted = padded[at + half : at + 3 * half]
            at = start + _best_match(padded[start : start + 2 * reach + 2 * half], wanted)
        out[number * half : (number + 2) * half] += window * padded[at : at + 2 * half]
    return out[half : half + length].astype(np.float32)


def _best_match(region: np.ndarray, wanted: np.ndarray) -> int:
    """Position in `region` of the segment most similar to `wanted`; the middle if there is none."""
    size = len(wanted)
    places = len(region) - size + 1
    products = np.correlate(region, wanted, "valid")
    energies = np.convolve(region**2, np.ones(size), "valid")
    floor = 1e-9 * max(float(energies.max()), 1e-12)
    likeness = products / np.sqrt(np.maximum(energies, floor))
    best = int(likeness.argmax())
    return best if likeness[best] > 0 else places // 2


def pitch_shift(wave: np.ndarray, sample_rate: int, semitones: float) -> np.ndarray:
    """Change the pitch and formants, and keep the tempo: stretch, then resample.

    Args:
        wave: (samples,).
        sample_rate: Hz.
        semitones: above 0 is higher.

    Returns:
        (samples,) float32.
    """
    import soxr

    ratio = 2 ** (semitones / 12)
    slow = time_stretch(wave, sample_rate, 1 / ratio)
    fast = soxr.resample(slow, sample_rate * ratio, sample_rate, quality="HQ")
    fast = fast[: len(wave)]
    return np.pad(fast, (0, len(wave) - len(fast))).astype(np.float32)


def reverberate(
    wave: np.ndarray, sample_rate: int, rt60: float, direct_to_reverberant: float = 0.0
) -> np.ndarray:
    """Add reverberation: direct sound, without delay, and exponentially decaying white noise.

    Args:
        wave: (samples,).
        sample_rate: Hz.
        rt60: seconds in which the tail falls by 60 dB; it begins 2.5 ms after the direct sound.
        direct_to_reverberant: energy of the direct sound over that of the tail, dB.

    Returns:
        (samples,) float32, of the same energy as the input.
    """
    from scipy.signal import fftconvolve

    _check(wave)
    if not rt60 > 0:
        raise MetricError(f"RT60 {rt60}: expected more than 0 s")
    times = np.arange(int(rt60 * sample_rate)) / sample_rate
    tail = np.random.default_rng(0).standard_normal(len(times)) * 10 ** (-3 * times / rt60)
    tail[: int(0.0025 * sample_rate)] = 0
    tail *= np.sqrt(10 ** (-direct_to_reverberant / 10) / max((tail**2).sum(), 1e-12))
    response = tail.copy()
    response[0] = 1
    return _with_energy_of(wave, fftconvolve(wave.astype(np.float64), response)[: len(wave)])


def add_noise(wave: np.ndarray, sample_rate: int, snr: float) -> np.ndarray:
    """Pink noise, 3 dB an octave down, from 20 Hz, at an SNR over the whole recording.

    Args:
        wave: (samples,); its samples seed the noise, so that recordings get different noise.
        sample_rate: Hz.
        snr: mean power of the wave over that of the noise, dB.

    Returns:
        (samples,) float32, which may go beyond [-1, 1].
    """
    _check(wave)
    digest = hashlib.sha256(wave.astype("<f4").tobytes()).digest()
    random = np.random.default_rng(int.from_bytes(digest[:8], "little"))
    spectrum = np.fft.rfft(random.standard_normal(len(wave)))
    frequencies = np.fft.rfftfreq(len(wave), 1 / sample_rate)
    noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(frequencies, 20)), len(wave))
    power = float((wave.astype(np.float64) ** 2).mean())
    scale = np.sqrt(power / 10 ** (snr / 10) / max(float((noise**2).mean()), 1e-30))
    return (wave + scale * noise).astype(np.float32)


def _check(wave: np.ndarray) -> None:
    if wave.ndim != 1 or not wave.size or not np.isfinite(wave).all():
        raise MetricError(f"perturbation: expected finite (samples,), got shape {wave.shape}")


def _with_energy_of(wave: np.ndarray, changed: np.ndarray) -> np.ndarray:
    energy = float((changed**2).sum())
    gain = np.sqrt(float((wave.astype(np.float64) ** 2).sum()) / energy) if energy else 1.0
    return (gain * changed).astype(np.float32)


#: The default perturbations of `robustness`.
PERTURBATIONS = (
    Perturbation("tempo ×0.9", lambda wave, rate: time_stretch(wave, rate, 0.9)),
    Perturbation("tempo ×1.1", lambda wave, rate: time_stretch(wave, rate, 1.1)),
    Perturbation("pitch −2 st", lambda wave, rate: pitch_shift(wave, rate, -2)),
    Perturbation("pitch +2 st", lambda wave, rate: pitch_shift(wave, rate, 2)),
    Perturbation("room 0.5 s", lambda wave, rate: reverberate(wave, rate, 0.5)),
    Perturbation("noise 10 dB", lambda wave, rate: add_noise(wave, rate, 10)),
)
