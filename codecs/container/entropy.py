"""Lossless entropy coding of codes: an adaptive binary range coder with integer probabilities.

Each code is coded bit by bit down a binary tree, as LZMA does with its literals, so codebooks may
have any size; each node holds a 16-bit probability that adapts fast at first and slowly later. All
arithmetic is on integers, so every computer writes the same bytes. (Range coding: G. N. N. Martin,
1979; the carry handling is LZMA's.)

Three context models are tried on every chunk and the shortest result is kept. The loops are
compiled (`entropy_kernels`) and loaded when the first chunk is encoded or decoded.
"""

from collections.abc import Sequence

import numpy as np

#: The context models, by the number at the start of a payload: the context is the codebook; the
#: codebook and its code at the position before; that code, and the code of the codebook below at
#: this position. The third shares its contexts among the codebooks, which helps where all have
#: similar statistics, as dMel's channels do.
_MODELS = ("codebook", "codebook and code before", "codes before and below")

#: One coded bit takes at least log2(65536 / (65536 - 1024)) bits, about 1 / 44: a payload that
#: claims more bits than that is invalid. This also bounds the coded bits of a chunk.
_MOST_EXPANSION = 45
MAX_CODED_BITS = 1 << 20


def encode(codes: np.ndarray, widths: Sequence[int]) -> bytes:
    """Encode codes (positions, codebooks), each below 2**width of its codebook."""
    return min((_encode(codes, widths, model) for model in range(len(_MODELS))), key=len)


def decode(data: bytes, positions: int, widths: Sequence[int]) -> np.ndarray:
    """Decode the output of `encode` to codes (positions, codebooks) int64.

    Raises:
        ValueError: the data can't be an output of `encode`.
    """
    if not data or data[0] >= len(_MODELS):
        raise ValueError("unknown context model")
    if positions * sum(widths) > min(_MOST_EXPANSION * 8 * len(data), MAX_CODED_BITS):
        raise ValueError("more codes than the payload can hold")
    from . import entropy_kernels

    codes = np.empty((positions, len(widths)), np.int64)
    coded = np.frombuffer(data, np.uint8, offset=1)
    entropy_kernels.decode(coded, np.array(widths, np.int64), data[0], codes)
    return codes


def _encode(codes: np.ndarray, widths: Sequence[int], model: int) -> bytes:
    from . import entropy_kernels

    rows = np.ascontiguousarray(codes, np.int64)
    # A bit takes at most 6 bits, at the lowest possible probability.
    out = np.empty(len(rows) * sum(widths) + 6, np.uint8)
    size = entropy_kernels.encode(rows, np.array(widths, np.int64), model, out)
    out[0] = model  # replaces the first byte, which is the empty cache
    return out[:size].tobytes()
