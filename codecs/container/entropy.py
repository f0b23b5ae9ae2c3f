"""Lossless entropy coding of codes: an adaptive binary range coder with integer probabilities.

Each code is coded bit by bit down a binary tree, as LZMA does with its literals, so that a codebook
of any size works; each node holds a 16-bit probability that learns fast while young and slowly when
old. All arithmetic is on integers: every machine writes the same bytes. (Range coding: G. N. N.
Martin, 1979; the carry handling is that of LZMA's.)

Three models of the context are tried on every chunk and the shortest result is kept. Pure Python:
about a million bits a second, for archives rather than for streams.
"""

from collections.abc import Callable, Sequence

import numpy as np

_TOP = 1 << 24
_MASK = (1 << 32) - 1
_HALF = 1 << 15
_LEAST = 1024  # of 65536: no probability comes closer to 0 or 1
_OLDEST = 60
_RATES = [65536 // (age + 2) for age in range(_OLDEST + 1)]
_NEW = _HALF << 6  # a node's state: its probability of a 0, then 6 bits of age

#: One coded bit takes at least log2(65536 / (65536 - 1024)) bits, about 1 / 44: a payload that
#: claims more is a forgery. And no chunk may hold more coded bits than this.
_MOST_EXPANSION = 45
MAX_CODED_BITS = 1 << 20

_NODE_BITS = 32  # a node's number within its tree lies below 2^32


def _by_codebook(codebook: int, before: int, below: int) -> int:
    return codebook


def _by_previous(codebook: int, before: int, below: int) -> int:
    return codebook << 32 | before


def _by_neighbours(codebook: int, before: int, below: int) -> int:
    return before << 32 | below


#: Each maps (codebook, the code one position before in this codebook, the code of the codebook
#: below at this position) to a context. The third pools the codebooks, which pays where all of them
#: mean alike, as dMel's channels do.
_MODELS: tuple[Callable[[int, int, int], int], ...] = (_by_codebook, _by_previous, _by_neighbours)


def encode(codes: np.ndarray, widths: Sequence[int]) -> bytes:
    """Code (positions, codebooks), each below 2**width of its codebook, as bytes."""
    rows = codes.tolist()
    return min(
        (bytes([model]) + _encode(rows, widths, context) for model, context in enumerate(_MODELS)),
        key=len,
    )


def decode(data: bytes, positions: int, widths: Sequence[int]) -> np.ndarray:
    """Codes (positions, codebooks) int64 from what `encode` gave.

    Raises:
        ValueError: the data can't be what `encode` gave.
    """
    if not data or data[0] >= len(_MODELS):
        raise ValueError("unknown context model")
    if positions * sum(widths) > min(_MOST_EXPANSION * 8 * len(data), MAX_CODED_BITS):
        raise ValueError("more codes than the payload can hold")
    return np.array(_decode(data, positions, widths, _MODELS[data[0]]), np.int64).reshape(
        positions, len(widths)
    )


def _encode(
    rows: list[list[int]], widths: Sequence[int], context: Callable[[int, int, int], int]
) -> bytes:
    out = bytearray()
    low, span, cache, pending = 0, _MASK, 0, 0
    states: dict[int, int] = {}
    before = [0] * len(widths)

    def shift_low() -> None:
        nonlocal low, cache, pending
        if low < 0xFF000000 or low > _MASK:
            carry = low >> 32
            out.append((cache + carry) & 0xFF)
            out.extend(bytes([(0xFF + carry) & 0xFF]) * pending)
            pending = 0
            cache = (low >> 24) & 0xFF
        else:
            pending += 1
        low = (low << 8) & _MASK

    for row in rows:
        below = 0
        for codebook, width in enumerate(widths):
            code = row[codebook]
            base = context(codebook, before[codebook], below) << _NODE_BITS
            node = 1
            for shift in range(width - 1, -1, -1):
                state = states.get(base + node, _NEW)
                probability, age = state >> 6, state & 63
                bound = (span >> 16) * probability
                if code >> shift & 1:
                    low += bound
                    span -= bound
                    probability -= probability * _RATES[age] >> 16
                    if probability < _LEAST:
                        probability = _LEAST
                    step = 1
                else:
                    span = bound
                    probability += (65536 - probability) * _RATES[age] >> 16
                    if probability > 65536 - _LEAST:
                        probability = 65536 - _LEAST
                    step = 0
                states[base + node] = probability << 6 | (age + 1 if age < _OLDEST else age)
                node = node << 1 | step
                while span < _TOP:
                    span = span << 8 & _MASK
                    shift_low()
            before[codebook] = below = code
    for _ in range(5):
        shift_low()
    return bytes(out[1:])  # the first byte is the empty cache


def _decode(
    data: bytes,
    positions: int,
    widths: Sequence[int],
    context: Callable[[int, int, int], int],
) -> list[int]:
    at, end = 5, len(data)
    value = int.from_bytes(data[1:5].ljust(4, b"\0"), "big")
    span = _MASK
    states: dict[int, int] = {}
    before = [0] * len(widths)
    codes = []  # one flat list: a list for each position would take ten times the memory
    for _ in range(positions):
        below = 0
        for codebook, width in enumerate(widths):
            base = context(codebook, before[codebook], below) << _NODE_BITS
            node = 1
            for _ in range(width):
                state = states.get(base + node, _NEW)
                probability, age = state >> 6, state & 63
                bound = (span >> 16) * probability
                if value < bound:
                    span = bound
                    probability += (65536 - probability) * _RATES[age] >> 16
                    if probability > 65536 - _LEAST:
                        probability = 65536 - _LEAST
                    step = 0
                else:
                    value -= bound
                    span -= bound
                    probability -= probability * _RATES[age] >> 16
                    if probability < _LEAST:
                        probability = _LEAST
                    step = 1
                states[base + node] = probability << 6 | (age + 1 if age < _OLDEST else age)
                node = node << 1 | step
                while span < _TOP:
                    span = span << 8 & _MASK
                    value = (value << 8 | (data[at] if at < end else 0)) & _MASK
                    at += 1
            code = node - (1 << width)
            codes.append(code)
            before[codebook] = below = code
    return codes
