"""Raw PCM for pipes: mono samples without a header."""

import numpy as np

from ..errors import WaveError

#: Formats by their names in `ffmpeg -f` and `sox -t raw`.
FORMATS: dict[str, np.dtype] = {"s16le": np.dtype("<i2"), "f32le": np.dtype("<f4")}

_FULL_SCALE = 32768


def _layout(name: str) -> np.dtype:
    if name not in FORMATS:
        raise WaveError(f"PCM formats are {', '.join(FORMATS)}; got {name!r}")
    return FORMATS[name]


class PCMDecoder:
    """Convert bytes to samples in [-1, 1]; chunks may end anywhere, even within a sample.

    Args:
        format_name: s16le or f32le.

    Attributes:
        leftover: bytes of an incomplete sample.

    Raises:
        WaveError: the format is unknown.
    """

    def __init__(self, format_name: str) -> None:
        self._layout = _layout(format_name)
        self.leftover = b""

    def push(self, data: bytes) -> np.ndarray:
        """Take more bytes and return the samples (n,) float32 that they complete."""
        data = self.leftover + data
        whole = len(data) - len(data) % self._layout.itemsize
        self.leftover = data[whole:]
        samples = np.frombuffer(data[:whole], self._layout).astype(np.float32)
        return samples / _FULL_SCALE if self._layout.kind == "i" else samples


class PCMEncoder:
    """Convert samples to bytes; 16-bit ones equal those that `AudioWriter` writes.

    Args:
        format_name: s16le or f32le.

    Attributes:
        clipped: samples beyond [-1, 1] that were clamped so far; s16le only.

    Raises:
        WaveError: the format is unknown.
    """

    def __init__(self, format_name: str) -> None:
        self._layout = _layout(format_name)
        self.clipped = 0

    def push(self, samples: np.ndarray) -> bytes:
        """Convert samples (n,) float32 to bytes."""
        if self._layout.kind == "i":
            self.clipped += int(np.count_nonzero(np.abs(samples) > 1))
            # As libsndfile does for 16-bit files: round to 32 bits and keep the upper half.
            whole = np.rint(samples.astype(np.float64) * 2**31) // 2**16
            samples = np.clip(whole, -_FULL_SCALE, _FULL_SCALE - 1)
        return samples.astype(self._layout).tobytes()
