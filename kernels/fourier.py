"""Fourier transforms whose results do not depend on the number of frames per call."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import scipy.fft

Array = np.ndarray[Any, Any]

# Numbers of frames to test: all remainders for vectors of up to 16, and whole blocks.
_COUNTS = (*range(1, 18), 31, 64)


def spectra(pieces: Array) -> Array:
    """Transform real pieces (frames, …, samples) to spectra (frames, …, bins)."""
    shape = pieces.shape
    together = _alike("rfft", shape[1:], pieces.dtype.char, shape[-1])
    if together:
        return together(pieces)
    return np.stack([scipy.fft.rfft(frame) for frame in pieces])


def samples(bins: Array, size: int) -> Array:
    """Transform spectra (frames, …, size / 2 + 1) to pieces (frames, …, size)."""
    together = _alike("irfft", bins.shape[1:], bins.dtype.char, size)
    if together:
        return together(bins)
    return np.stack([scipy.fft.irfft(frame, size) for frame in bins])


@lru_cache(maxsize=64)
def _alike(
    name: str, shape: tuple[int, ...], dtype: str, size: int
) -> Callable[[Array], Array] | None:
    """Return the quickest function of all frames that is bit-identical to one call per frame.

    A library's order of additions may depend on the number of transforms: some are grouped in
    vector code, the rest are not, and compilers may fuse operations differently in the two. If they
    differ at all, thousands of random numbers show it; then there is no such function.
    """
    generator = np.random.default_rng(0)
    values = generator.standard_normal((_COUNTS[-1], *shape)).astype(dtype)
    if np.iscomplexobj(values):
        values += values.dtype.type(1j) * generator.standard_normal(values.shape)
    transform = getattr(scipy.fft, name)

    def public(frames: Array) -> Array:
        return np.asarray(transform(frames, size))

    each = np.stack([public(frame) for frame in values])
    for candidate in (_direct(name, size), public):
        if candidate and all(
            np.array_equal(candidate(values[:count]), each[:count]) for count in _COUNTS
        ):
            return candidate
    return None


def _direct(name: str, size: int) -> Callable[[Array], Array] | None:
    """Return the function that SciPy's ends in, if this version has it where it was.

    A stream transforms a single frame at a time, for which the way there takes five times as long
    as the transform.
    """
    try:
        from scipy.fft._pocketfft import pypocketfft

        forward, backward = pypocketfft.r2c, pypocketfft.c2r
        if name == "rfft":
            forward(np.zeros((1, size)), (1,), True, 0, None, 1)
            return lambda x: forward(x, (x.ndim - 1,), True, 0, None, 1)
        backward(np.zeros((1, size // 2 + 1), complex), (1,), size, False, 2, None, 1)
        return lambda x: backward(x, (x.ndim - 1,), size, False, 2, None, 1)
    except (ImportError, AttributeError, TypeError, ValueError):
        return None
