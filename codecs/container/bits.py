"""Pack codes into bits: ceil(log2(size)) bits each, most significant first, frame by frame."""

from collections.abc import Sequence

import numpy as np


def pack(codes: np.ndarray, widths: Sequence[int]) -> bytes:
    """Pack codes (positions, codebooks); the last byte is filled with zero bits."""
    positions = codes.shape[0]
    if set(widths) == {8}:
        return codes.astype(np.uint8).tobytes()
    if set(widths) == {16}:
        return codes.astype(">u2").tobytes()
    if set(widths) == {4} and len(widths) % 2 == 0:
        pairs: np.ndarray = codes[:, ::2] << 4 | codes[:, 1::2]
        return pairs.astype(np.uint8).tobytes()
    bits = np.empty((positions, sum(widths)), np.uint8)
    at = 0
    for codebook, width in enumerate(widths):
        shifts = np.arange(width - 1, -1, -1)
        bits[:, at : at + width] = (codes[:, codebook, None] >> shifts) & 1
        at += width
    return np.packbits(bits).tobytes()


def packed_size(positions: int, widths: Sequence[int]) -> int:
    """Number of bytes that `pack` returns."""
    return -(-positions * sum(widths) // 8)


def unpack(data: bytes, positions: int, widths: Sequence[int]) -> np.ndarray:
    """Unpack `packed_size` bytes to codes (positions, codebooks) int64."""
    codes = np.empty((positions, len(widths)), np.int64)
    raw = np.frombuffer(data, np.uint8)
    if set(widths) == {8}:
        codes[:] = raw.reshape(codes.shape)
    elif set(widths) == {16}:
        codes[:] = raw.view(">u2").reshape(codes.shape)
    elif set(widths) == {4} and len(widths) % 2 == 0:
        pairs = raw.reshape(positions, len(widths) // 2)
        codes[:, ::2], codes[:, 1::2] = pairs >> 4, pairs & 15
    else:
        bits = np.unpackbits(raw, count=positions * sum(widths)).reshape(positions, sum(widths))
        at = 0
        for codebook, width in enumerate(widths):
            codes[:, codebook] = 0
            for bit in range(at, at + width):
                codes[:, codebook] <<= 1
                codes[:, codebook] |= bits[:, bit]
            at += width
    return codes
