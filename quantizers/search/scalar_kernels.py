"""Compiled finite scalar quantization: one pass over blocks of vectors that fit in the cache."""

import numpy as np

from ...kernels.cache import kernel

_BLOCK = 128


@kernel
def pack_levels(values, thresholds, sizes, codes):  # type: ignore[no-untyped-def]
    """Quantize values (N, D) float32 to codes (N,) int64 (output); return whether there is a NaN.

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


@kernel
def unpack_levels(codes, sizes, values):  # type: ignore[no-untyped-def]
    """Decode codes (N,) int64, in range, to values (N, D) float32 (output)."""
    total = 1.0
    for size in sizes:
        total *= size
    if total <= 2.0**21:
        _unpack_few(codes, sizes, values)
        return
    for i in range(codes.shape[0]):
        rest = codes[i]
        for d in range(values.shape[1]):
            above = rest // sizes[d]
            middle = np.float32(sizes[d] // 2)
            values[i, d] = (np.float32(rest - above * sizes[d]) - middle) / middle
            rest = above


@kernel
def _unpack_few(codes, sizes, values):  # type: ignore[no-untyped-def]
    """Decode up to 2^21 different codes, without integer division, which can't be vectorized.

    The quotient of (code + 1/2) and a size is at least half a part away from an integer, and
    float32's error is smaller.
    """
    dim = values.shape[1]
    rest = np.empty(_BLOCK, np.float32)
    columns = np.empty((dim, _BLOCK), np.float32)
    for start in range(0, codes.shape[0], _BLOCK):
        count = min(_BLOCK, codes.shape[0] - start)
        for i in range(count):
            rest[i] = np.float32(codes[start + i])
        for d in range(dim):
            size = np.float32(sizes[d])
            middle = np.float32(sizes[d] // 2)
            inverse = np.float32(1) / size
            for i in range(_BLOCK):
                above = np.floor((rest[i] + np.float32(0.5)) * inverse)
                columns[d, i] = (rest[i] - above * size - middle) / middle
                rest[i] = above
        for i in range(count):
            for d in range(dim):
                values[start + i, d] = columns[d, i]
