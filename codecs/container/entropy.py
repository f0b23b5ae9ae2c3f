"""Lossless entropy coding of codes: an adaptive binary range coder with integer probabilities.

Each code is coded bit by bit down a binary tree, as LZMA does with its literals, so that a codebook
of any size works; each node holds a 16-bit probability that learns fast while young and slowly when
old. All arithmetic is on integers: every machine writes the same bytes. (Range coding: G. N. N.
Martin, 1979; the carry handling is that of LZMA's.)

Three models of the context are tried on every chunk and the shortest result is kept. The loops are
compiled (`entropy_kernels`) and loaded when the first chunk is coded or decoded.
"""

from collections.abc import Sequence

import numpy as np

#: What each code's probabilities depend on, by the number that a payload begins with: its codebook;
#: that, and the code one position before; that code, and the one of the codebook below at this
#: position. The third pools the codebooks, which pays where all of them mean alike, as dMel's
#: channels do.
_MODELS = ("codebook", "codebook and code before", "codes before and below")

#: One coded bit takes at least log2(65536 / (65536 - 1024)) bits, about 1 / 44: a payload that
#: claims more is a forgery. And no chunk may hold more coded bits than this.
_MOST_EXPANSION = 45
MAX_CODED_BITS = 1 << 20


def encode(codes: np.ndarray, widths: Sequence[int]) -> bytes:
    """Code (positions, codebooks), each below 2**width of its codebook, as bytes."""
    return min((_encode(codes, widths, model) for model in range(len(_MODELS))), key=len)


def decode(data: bytes, positions: int, widths: Sequence[int]) -> np.ndarray:
    """Codes (positions, codebooks) int64 from what `encode` gave.

    Raises:
        ValueError: the data can't be what `encode` gave.
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
    # A bit takes 6 bits at most, where its probability is the least that there is.
    out = np.empty(len(rows) * sum(widths) + 6, np.uint8)
    size = entropy_kernels.encode(rows, np.array(widths, np.int64), model, out)
    out[0] = model  # in place of the first byte, which is the empty cache
    return out[:size].tobytes()
