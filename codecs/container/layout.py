"""The layout of a `.syl` file in bytes; docs/token-format.md describes it in words.

All integers are little-endian.

    magic      8 bytes  89 53 59 4C 0D 0A 1A 0A
    version    u16      1
    reserved   u16      0
    length     u32      of the header, at most 1 MiB
    check      u32      CRC-32 of the eight bytes before and the header
    header     JSON, UTF-8

    then chunks, each:
    kind       4 bytes  "TS" (bit-packed) or "TR" (range-coded) and the chunk's number, u16;
                        "TOKS" or "TOKR" without a number; or "END."
    length     u32      of the payload, at most 64 MiB
    positions  u32      in this chunk
    check      u32      CRC-32 of the twelve bytes before and the payload
    payload

A chunk holds at most 2^20 codes, and a duration takes at most 20 bits, so a reader's memory is
bounded whatever a file claims.

The END chunk's payload is the number of positions and of samples in the whole file, u64 each.

Chunks are numbered from 0, modulo 2^16, in files whose header has `chunk_positions`: each but the
last holds so many, so a chunk's number says where it belongs.
"""

import struct

MAGIC = b"\x89SYL\r\n\x1a\n"
VERSION = 1
PREAMBLE = struct.Struct("<HHI")
CHECK = struct.Struct("<I")
CHUNK = struct.Struct("<4sII")
TOTALS = struct.Struct("<QQ")

PACKED, CODED, END = b"TOKS", b"TOKR", b"END."
NUMBERED = {PACKED: b"TS", CODED: b"TR"}
NUMBER = struct.Struct("<H")
NUMBERS = 1 << 16
#: Frames before a numbered chunk, at the end of its payload in files with durations.
START = struct.Struct("<Q")

MAX_HEADER = 1 << 20
MAX_PAYLOAD = 1 << 26
MAX_CODES = 1 << 20
MAX_DURATION_BITS = 20


def kind_of(mark: bytes) -> tuple[bytes, int | None] | None:
    """Return the kind (`PACKED`, `CODED` or `END`) and the number in a chunk's first four bytes.

    None if they are no such mark.
    """
    if mark in (PACKED, CODED, END):
        return mark, None
    for kind, start in NUMBERED.items():
        if mark.startswith(start):
            return kind, int(NUMBER.unpack(mark[len(start) :])[0])
    return None
