"""Find the streams of a FLAC file and count their samples by their last frames.

The header's count is 0 in files that were written to a pipe, and covers only the first stream in
concatenated files. Every frame has its position, so the last one gives the true count.
"""

from dataclasses import dataclass
from typing import Any

_MAGIC = b"fLaC\x00\x00\x00\x22"  # and the header of the STREAMINFO block, always the first
_TAIL = 1 << 20  # more than the largest frame that encoders write


@dataclass(frozen=True)
class Stream:
    """A FLAC stream in a file.

    Attributes:
        start, stop: its byte range.
        declared: number of samples in its header; 0: unknown.
        found: samples up to the end of its last whole frame; None if no frame was found.
    """

    start: int
    stop: int
    declared: int
    found: int | None

    def patch(self, samples: int) -> tuple[int, bytes]:
        """Return (offset, bytes) that change the header's sample count to `samples`."""
        return _COUNT_AT, (self._bits << 36 | samples).to_bytes(8, "big")

    _bits: int = 0  # the 28 bits before the count: rate, channels, bits per sample


_COUNT_AT = 8 + 10  # a 64-bit field whose last 36 bits are the count


def find_streams(data: Any) -> list[Stream]:
    """Return the FLAC streams of a file, given all of it (may be a memory map)."""
    starts = []
    at = data.find(_MAGIC)
    while at >= 0:
        starts.append(at)
        at = data.find(_MAGIC, at + 4)
    stops = [*starts[1:], len(data)]
    return [_stream(data, start, stop) for start, stop in zip(starts, stops, strict=True)]


def _stream(data: Any, start: int, stop: int) -> Stream:
    info = data[start + 8 : start + 8 + 34]
    word = int.from_bytes(info[10:18], "big")
    declared = word & (1 << 36) - 1
    block = int.from_bytes(info[2:4], "big")
    found = None
    # Possible ends of the last frame: the stream's end, or the start of a later frame.
    ends = {_without_tag(data, start, stop)}
    at = stop
    least = max(start + 42, stop - _TAIL)
    while found is None:
        at = data.rfind(b"\xff", least, at)
        if at < 0:
            break
        # sync codes for fixed and for variable block sizes
        if data[at + 1 : at + 2] in (b"\xf8", b"\xf9"):
            head = _head(data, at, word >> 36, block)
            # Verify the whole frame only if its position disagrees with the count: the sync code
            # may appear by chance.
            if head is not None and (head == declared or _is_whole(data, at, ends)):
                found = head
            elif head is not None:
                ends.add(at)
    return Stream(start, stop, declared, found, word >> 36)


def _head(data: Any, at: int, bits: int, block_size: int) -> int | None:
    """Return the sample position after the frame at a byte; None if there is no frame header."""
    head = data[at : at + 16]
    if len(head) < 6:
        return None
    channels, width = (bits >> 5 & 7) + 1, (bits & 31) + 1
    block, rate = head[2] >> 4, head[2] & 15
    assignment, size_code = head[3] >> 4, head[3] >> 1 & 7
    if block == 0 or rate == 15 or head[3] & 1 or assignment > 10 or size_code == 3:
        return None
    if (2 if assignment > 7 else assignment + 1) != channels:
        return None
    if size_code and {1: 8, 2: 12, 4: 16, 5: 20, 6: 24, 7: 32}[size_code] != width:
        return None
    ones = 8 - (~head[4] & 255).bit_length()
    length = max(ones, 1)
    if ones in (1, 8) or len(head) < 4 + length + 5:
        return None
    number = head[4] & (127 if ones == 0 else (1 << (7 - ones)) - 1)
    for byte in head[5 : 4 + length]:
        if byte >> 6 != 2:
            return None
        number = number << 6 | byte & 63
    place = 4 + length
    if block in (6, 7):
        count = int.from_bytes(head[place : place + block - 5], "big") + 1
        place += block - 5
    else:
        count = 192 if block == 1 else 576 << block - 2 if block < 6 else 256 << block - 8
    place += {12: 1, 13: 2, 14: 2}.get(rate, 0)
    if place >= len(head) or _crc8(head[:place]) != head[place]:
        return None
    return (number if head[1] & 1 else number * block_size) + count


def _without_tag(data: Any, start: int, stop: int) -> int:
    """Return the end of the audio in data that ends at `stop`, before an ID3v1 tag if any."""
    if data[stop - 128 : stop - 125] == b"TAG":
        stop -= 128
    tag = data.rfind(b"ID3", max(start, stop - _TAIL), stop)
    if tag >= 0 and len(mark := data[tag : tag + 10]) == 10 and max(mark[6:]) < 128:
        size = mark[6] << 21 | mark[7] << 14 | mark[8] << 7 | mark[9]
        if tag + 10 + size == stop:
            return tag
    return stop


def _is_whole(data: Any, at: int, ends: set[int]) -> bool:
    """Whether a frame ends at one of `ends`: its last 16 bits are its CRC."""
    return any(_crc16(data[at:end]) == 0 for end in ends)


def _table(polynomial: int, width: int) -> list[int]:
    table = []
    for byte in range(256):
        value = byte << width - 8
        for _ in range(8):
            value = value << 1 ^ (polynomial if value >> width - 1 else 0)
            value &= (1 << width) - 1
        table.append(value)
    return table


_TABLE8, _TABLE16 = _table(0x07, 8), _table(0x8005, 16)


def _crc8(data: bytes) -> int:
    value = 0
    for byte in data:
        value = _TABLE8[value ^ byte]
    return value


def _crc16(data: bytes) -> int:
    value = 0
    for byte in data:
        value = (value << 8 & 0xFFFF) ^ _TABLE16[value >> 8 ^ byte]
    return value
