"""Raw PCM for pipes: mono samples without a header."""

from functools import cache

import numpy as np

from ..errors import WaveError

#: Formats by their names in `ffmpeg -f` and `sox -t raw`; mulaw is G.711's, of telephones.
FORMATS: dict[str, np.dtype] = {
    "s16le": np.dtype("<i2"),
    "f32le": np.dtype("<f4"),
    "mulaw": np.dtype("u1"),
}

_FULL_SCALE = 32768


def _layout(name: str) -> np.dtype:
    if name not in FORMATS:
        raise WaveError(f"PCM formats are {', '.join(FORMATS)}; got {name!r}")
    return FORMATS[name]


class PCMDecoder:
    """Convert bytes to samples in [-1, 1]; chunks may end anywhere, even within a sample.

    Args:
        format_name: one of `FORMATS`.

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
        samples = np.frombuffer(data[:whole], self._layout)
        if self._layout.kind == "u":
            samples = _mulaw_levels()[samples]
        values = samples.astype(np.float32)
        return values if self._layout.kind == "f" else values / _FULL_SCALE


class PCMEncoder:
    """Convert samples to bytes; 16-bit ones equal those that `AudioWriter` writes.

    Args:
        format_name: one of `FORMATS`.

    Attributes:
        clipped: samples beyond [-1, 1] that were clamped so far; not of f32le.

    Raises:
        WaveError: the format is unknown.
    """

    def __init__(self, format_name: str) -> None:
        self._layout = _layout(format_name)
        self.clipped = 0

    def push(self, samples: np.ndarray) -> bytes:
        """Convert samples (n,) float32 to bytes."""
        if self._layout.kind != "f":
            self.clipped += int(np.count_nonzero(np.abs(samples) > 1))
            # As libsndfile does for 16-bit files: round to 32 bits and keep the upper half.
            whole = np.rint(samples.astype(np.float64) * 2**31) // 2**16
            samples = np.clip(whole, -_FULL_SCALE, _FULL_SCALE - 1)
        if self._layout.kind == "u":
            return _mulaw_bytes()[samples.astype(np.int64) + _FULL_SCALE].tobytes()
        return samples.astype(self._layout).tobytes()


@cache
def _mulaw_levels() -> np.ndarray:
    """Return the 16-bit value of each byte of µ-law (ITU-T G.711)."""
    inverted = 255 - np.arange(256)
    exponent, mantissa = inverted >> 4 & 7, inverted & 15
    magnitude = ((2 * mantissa + 33) << exponent + 2) - 132
    return np.where(inverted & 128, -magnitude, magnitude).astype(np.int16)


@cache
def _mulaw_bytes() -> np.ndarray:
    """Return the byte for each 16-bit value, from the lowest."""
    value = np.arange(-_FULL_SCALE, _FULL_SCALE)
    magnitude = np.minimum(np.abs(value), 32_635) + 132
    exponent = np.floor(np.log2(magnitude)).astype(np.int64) - 7
    inverted = (value < 0) << 7 | exponent << 4 | (magnitude >> exponent + 3) & 15
    return (255 - inverted).astype(np.uint8)
