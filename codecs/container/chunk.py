"""A chunk of a `.syl` file: its bytes, and the codes in them."""

from dataclasses import dataclass

import numpy as np

from . import bits, entropy
from .header import Header
from .layout import CHECK, CHUNK, CODED, MAX_CODES, MAX_DURATION_BITS, START


@dataclass(frozen=True)
class Chunk:
    """Codes (codebooks, positions) and, if the file has them, durations (positions,), int64.

    Attributes:
        lost: whether these positions are lost, and their codes are zeros. A reader gives such
            chunks with `recover` only.
    """

    codes: np.ndarray
    durations: np.ndarray | None
    lost: bool = False


def chunk_size(start: bytes) -> int | None:
    """Return a chunk's size in bytes by its first bytes; None if there are fewer than 12.

    Readers of pipes use it to see whether a whole chunk has arrived.
    """
    if len(start) < CHUNK.size:
        return None
    _, length, _ = CHUNK.unpack(start[: CHUNK.size])
    return CHUNK.size + CHECK.size + int(length)


@dataclass(frozen=True)
class WholeChunk:
    """The bytes of a chunk whose checksum is right.

    Attributes:
        kind: `PACKED`, `CODED` or `END`.
        number: None if it has none.
        positions: in it.
        payload: see docs/token-format.md.
    """

    kind: bytes
    number: int | None
    positions: int
    payload: bytes


def unpack(found: WholeChunk, header: Header) -> tuple[Chunk, int | None]:
    """Return the codes of a chunk, and the frame at which it starts if it tells that.

    Raises:
        ValueError: its counts do not fit its bytes, or a code is out of range.
    """
    kind, positions, payload = found.kind, found.positions, found.payload
    widths = header.widths
    if not 1 <= positions <= MAX_CODES // header.num_codebooks:
        raise ValueError(f"{positions} positions; 1 to {MAX_CODES // header.num_codebooks}")
    if kind == CODED:
        if len(payload) < CHECK.size:
            raise ValueError("payload too short")
        start, size = CHECK.size, CHECK.unpack(payload[: CHECK.size])[0]
    else:
        start, size = 0, bits.packed_size(positions, widths)
    # Check the counts against the bytes before anything is allocated by them.
    rest = payload[start + size :]
    if start + size > len(payload) or bool(rest) != header.has_durations:
        raise ValueError(f"{positions} positions do not fit {len(payload)} bytes of payload")
    durations = first = None
    if header.has_durations:
        if found.number is not None:
            if len(rest) <= START.size:
                raise ValueError("the payload is too short for its place")
            rest, place = rest[: -START.size], rest[-START.size :]
            first = int(START.unpack(place)[0])
        width = rest[0]
        if not 1 <= width <= MAX_DURATION_BITS or len(rest) - 1 != bits.packed_size(
            positions, [width]
        ):
            raise ValueError("the durations do not fit the payload")
        durations = bits.unpack(rest[1:], positions, [width])[:, 0]
        if durations.min() < 1:
            raise ValueError("a duration of 0 frames")
    data = payload[start : start + size]
    if kind == CODED:
        codes = entropy.decode(data, positions, widths)
    else:
        codes = bits.unpack(data, positions, widths)
    if (codes >= header.sizes).any():
        raise ValueError("a code out of its codebook's range")
    return Chunk(np.ascontiguousarray(codes.T), durations), first
