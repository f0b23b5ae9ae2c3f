"""Fourier transforms that come out the same however many frames come at once."""

from functools import lru_cache
from typing import Any

import numpy as np
import scipy.fft

Array = np.ndarray[Any, Any]

# Frames that are tried: every remainder that vectors of up to 16 leave, and whole blocks.
_COUNTS = (*range(1, 18), 31, 64)


def spectra(pieces: Array) -> Array:
    """Spectra (frames, …, bins) of real pieces (frames, …, samples)."""
    if _alike("rfft", pieces.shape[1:], pieces.dtype.name, pieces.shape[-1]):
        return np.asarray(scipy.fft.rfft(pieces))
    return np.stack([scipy.fft.rfft(frame) for frame in pieces])


def samples(bins: Array, size: int) -> Array:
    """Pieces (frames, …, size) of spectra (frames, …, size / 2 + 1)."""
    if _alike("irfft", bins.shape[1:], bins.dtype.name, size):
        return np.asarray(scipy.fft.irfft(bins, size))
    return np.stack([scipy.fft.irfft(frame, size) for frame in bins])


@lru_cache(maxsize=64)
def _alike(name: str, shape: tuple[int, ...], dtype: str, size: int) -> bool:
    """Whether one call gives, to the bit, what a call for each frame gives.

    How the library adds up may depend on how many transforms it gets: some go together through
    vector code, the rest do not, and compilers fuse the two differently, or neither, or alike.
    Where they differ at all, thousands of random numbers show it.
    """
    generator = np.random.default_rng(0)
    values = generator.standard_normal((_COUNTS[-1], *shape)).astype(dtype)
    if np.iscomplexobj(values):
        values += values.dtype.type(1j) * generator.standard_normal(values.shape)
    transform = getattr(scipy.fft, name)
    each = np.stack([transform(frame, size) for frame in values])
    return all(np.array_equal(transform(values[:count], size), each[:count]) for count in _COUNTS)
