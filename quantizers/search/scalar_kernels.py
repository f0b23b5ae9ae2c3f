"""Compiled finite scalar quantization: one pass over blocks of vectors that stay in the cache."""

import numpy as np
from numba import njit

_BLOCK = 128


@njit(nogil=True, cache=True)
def pack_levels(values, thresholds, sizes, codes):  # type: ignore[no-untyped-def]
    """Codes (N,) int64, out, of values (N, D) float32; returns whether there is a NaN.

    Args:
        thresholds: (D, T) float32, ascending; sizes: (D,) levels, at most T + 1.
    """
    column = np.empty(_BLOCK, np.float32)
    level = np.empty(_BLOCK, np.int32)
    unordered = 0
    for start in range(0, values.shape[0], _BLOCK):
        count = min(_BLOCK, values.shape[0] - start)
        basis = 1
        for d in range(values.shape[1]):
            for i in range(count):
                column[i] = values[start + i, d]
            for i in range(_BLOCK):
                level[i] = 0
            for t in range(sizes[d] - 1):
                threshold = thresholds[d, t]
                for i in range(_BLOCK):
                    level[i] += np.int32(column[i] >= threshold)
            for i in range(count):
                unordered += column[i] != column[i]
            if d == 0:
                for i in range(count):
                    codes[start + i] = level[i]
            else:
                for i in range(count):
                    codes[start + i] += basis * level[i]
            basis *= sizes[d]
    return unordered > 0


@njit(nogil=True, cache=True)
def unpack_levels(codes, sizes, values):  # type: ignore[no-untyped-def]
    """Values (N, D) float32, out, of codes (N,) int64 in range."""
    rest = np.empty(_BLOCK, np.int64)
    total = 1.0
    for size in sizes:
        total *= size
    for start in range(0, codes.shape[0], _BLOCK):
        count = min(_BLOCK, codes.shape[0] - start)
        for i in range(count):
            rest[i] = codes[start + i]
        for d in range(values.shape[1]):
            size = sizes[d]
            middle = np.float32(size // 2)
            inverse = 1 / np.float64(size)
            for i in range(count):
                # Half a code away from the next whole number, far more than float64 loses;
                # processors have no vectors of integer divisions.
                if total < 2.0**45:
                    above = np.int64((rest[i] + 0.5) * inverse)
                else:
                    above = rest[i] // size
                level = np.float32(rest[i] - above * size)
                values[start + i, d] = (level - middle) / middle
                rest[i] = above
