"""Sample-rate conversion with soxr, offline or streaming, with equal results.

Another resampler, or another quality, gives other samples and so other tokens. Therefore every
file's metadata has its name (`resampler_name`).
"""

from numbers import Real

import numpy as np
import soxr

from ..errors import WaveError

QUALITY = "HQ"
#: Limits in Hz. Beyond them, a second of samples could become hours.
LEAST_RATE, MOST_RATE = 1_000, 384_000


def resampler_name() -> str:
    """Return the name and version of the resampler, for metadata."""
    return f"soxr {soxr.__version__} {QUALITY}"


class Resampler:
    """Convert a mono stream in chunks; any split of the input gives the same samples.

    Args:
        source_rate, target_rate: 1,000 to 384,000 Hz.

    Raises:
        WaveError: a rate out of range.
    """

    def __init__(self, source_rate: int, target_rate: int) -> None:
        for rate in (source_rate, target_rate):
            if isinstance(rate, bool) or not isinstance(rate, Real):
                raise WaveError(
                    f"sample rates must be numbers in Hz, got {rate!r} ({type(rate).__name__})"
                )
            if not LEAST_RATE <= rate <= MOST_RATE:
                raise WaveError(
                    f"sample rates that are resampled must be {LEAST_RATE} to {MOST_RATE} Hz, got "
                    f"{rate}"
                )
        self._stream = soxr.ResampleStream(
            source_rate, target_rate, 1, dtype="float32", quality=QUALITY
        )

    def push(self, samples: np.ndarray, final: bool = False) -> np.ndarray:
        """Take more samples (n,) float32 and return the resampled ones available so far."""
        return self._stream.resample_chunk(np.ascontiguousarray(samples, np.float32), last=final)


def resampled_length(num_samples: int, source_rate: int, target_rate: int) -> int:
    """Return the number of samples that so many become: as many as last as long, rounded."""
    return (2 * num_samples * target_rate + source_rate) // (2 * source_rate)


def resample(wave: np.ndarray, source_rate: int, target_rate: int) -> np.ndarray:
    """Resample a waveform (…, samples); returns float32.

    Raises:
        WaveError: a rate below 1,000 or above 384,000 Hz.
    """
    wave = np.asarray(wave, np.float32)
    if source_rate == target_rate:
        return wave
    if wave.size == 0:
        Resampler(source_rate, target_rate)  # checks the rates
        return wave.reshape(*wave.shape[:-1], 0)
    rows = [
        Resampler(source_rate, target_rate).push(row, final=True)
        for row in wave.reshape(-1, wave.shape[-1])
    ]
    return np.stack(rows).reshape(*wave.shape[:-1], -1)
