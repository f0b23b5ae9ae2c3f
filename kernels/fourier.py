"""Fourier transforms whose results do not depend on the number of frames per call."""

from functools import lru_cache
from typing import Any

import numpy as np
import scipy.fft

Array = np.ndarray[Any, Any]

# Numbers of frames to test: all remainders for vectors of up to 16, and whole blocks.
_COUNTS = (*range(1, 18), 31, 64)


def spectra(pieces: Array) -> Array:
    """Transform real pieces (frames, …, samples) to spectra (frames, …, bins)."""
    if _alike("rfft", pieces.shape[1:], pieces.dtype.name, pieces.shape[-1]):
        return np.asarray(scipy.fft.rfft(pieces))
    return np.stack([scipy.fft.rfft(frame) for frame in pieces])


def samples(bins: Array, size: int) -> Array:
    """Transform spectra (frames, …, size / 2 + 1) to pieces (frames, …, size)."""
    if _alike("irfft", bins.shape[1:], bins.dtype.name, size):
        return np.asarray(scipy.fft.irfft(bins, size))
    return np.stack([scipy.fft.irfft(frame, size) for frame in bins])


@lru_cache(maxsize=64)
def _alike(name: str, shape: tuple[int, ...], dtype: str, size: int) -> bool:
    """Whether one call for all frames is bit-identical to one call per frame.

    A library's order of additions may depend on the number of transforms: some are grouped in
    vector code, the rest are not, and compilers may fuse operations differently in the two. If they
    differ at all, thousands of random numbers show it.
    """
    generator = np.random.default_rng(0)
    values = generator.standard_normal((_COUNTS[-1], *shape)).astype(dtype)
    if np.iscomplexobj(values):
        values += values.dtype.type(1j) * generator.standard_normal(values.shape)
    transform = getattr(scipy.fft, name)
    each = np.stack([transform(frame, size) for frame in values])
    return all(np.array_equal(transform(values[:count], size), each[:count]) for count in _COUNTS)
