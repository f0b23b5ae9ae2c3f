"""Locate the samples in a WAV, W64, AIFF, AU, CAF, 8SVX or NIST file and determine their size.

The size in the header may be wrong: programs that write to a pipe can't go back to fill it in,
killed programs don't, and 32 bits overflow at 4 GiB. A size is valid if the file ends after it, or
other chunks follow.
"""

import struct
from dataclasses import dataclass
from typing import Any

#: Sizes that mean "unknown", as in headers written to a pipe.
_UNKNOWN = frozenset((0, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF))
#: Most zeros, in bytes, after the samples that pass as padding.
_PADDING = 1 << 16
_W64_DATA = b"data" + bytes.fromhex("f3acd3118cd100c04f8edb8a")
_TAGS = (b"TAG", b"ID3", b"APETAGEX", b"LYRICSBEGIN")


@dataclass(frozen=True)
class SampleData:
    """Location of the samples in a file.

    Attributes:
        start: offset of their first byte.
        size: their true size in bytes; None if unexplained bytes follow.
        declared: the size in the header.
        follow: number of bytes after the declared size.
        endian: byte order of samples, for containers with only one.
        width: bytes per frame (all channels), if the header tells.
    """

    start: int
    size: int | None
    declared: int
    follow: int
    endian: str
    width: int | None = None


def find_samples(data: Any) -> SampleData | None:
    """Locate the samples in a file.

    Args:
        data: the whole file; may be a memory map.

    Returns:
        None for other containers, and if the header can't be parsed.
    """
    magic = data[:4]
    try:
        if magic in (b"RIFF", b"RIFX", b"RF64", b"BW64") and data[8:12] == b"WAVE":
            return _riff(data, "<" if magic != b"RIFX" else ">")
        if magic == b"FORM" and data[8:12] in (b"AIFF", b"AIFC", b"8SVX", b"16SV"):
            return _iff(data)
        if data[:16] == b"riff" + bytes.fromhex("2e91cf11a5d628db04c10000"):
            return _w64(data)
        if magic in (b".snd", b"dns."):
            return _au(data, ">" if magic == b".snd" else "<")
        if magic == b"caff":
            return _caf(data)
        if data[:8] == b"NIST_1A\n":
            return _nist(data)
    except (struct.error, ValueError, IndexError):
        pass  # truncated within its header
    return None


def _riff(data: Any, order: str) -> SampleData | None:
    at, wide, width = 12, None, None
    while at + 8 <= len(data):
        name = data[at : at + 4]
        (size,) = struct.unpack_from(f"{order}I", data, at + 4)
        if name == b"ds64":
            (wide,) = struct.unpack_from("<Q", data, at + 16)
        if name == b"fmt ":
            (width,) = struct.unpack_from(f"{order}H", data, at + 20)
        if name == b"data":
            declared = wide if wide is not None and size in (0xFFFFFFFF, 0) else size
            wraps = 0 if wide is not None else 1 << 32
            endian = "LITTLE" if order == "<" else "BIG"
            return _settled(data, at + 8, declared, endian, wraps, 2, order, width)
        at += 8 + size + (size & 1)
    return None


def _iff(data: Any) -> SampleData | None:
    at = 12
    while at + 8 <= len(data):
        name = data[at : at + 4]
        (size,) = struct.unpack_from(">I", data, at + 4)
        if name == b"SSND":
            (skip,) = struct.unpack_from(">I", data, at + 8)
            start = at + 16 + skip
            # Sizes of 0, of only the 8 bytes before the samples, and unknown ones.
            declared = max(size - 8 - skip, 0) if size != 0xFFFFFFFF else size
            return _settled(data, start, declared, "BIG", 1 << 32, 2, ">")
        if name == b"BODY":
            return _settled(data, at + 8, size, "BIG", 1 << 32, 2, ">")
        at += 8 + size + (size & 1)
    return None


def _w64(data: Any) -> SampleData | None:
    at = 40
    while at + 24 <= len(data):
        (size,) = struct.unpack_from("<Q", data, at + 16)
        if data[at : at + 16] == _W64_DATA:
            declared = size - 24 if 24 <= size < 1 << 62 else 0
            return _settled(data, at + 24, declared, "LITTLE", 0, 8, "w64")
        at += -(-max(size, 24) // 8) * 8
    return None


def _au(data: Any, order: str) -> SampleData:
    start, declared = struct.unpack_from(f"{order}II", data, 4)
    endian = "BIG" if order == ">" else "LITTLE"
    return _settled(data, start, declared, endian, 1 << 32, 1, None)


def _caf(data: Any) -> SampleData | None:
    at = 8
    while at + 12 <= len(data):
        name = data[at : at + 4]
        (size,) = struct.unpack_from(">q", data, at + 4)
        if name == b"data":
            declared = size - 4 if size >= 4 else 0xFFFFFFFF
            return _settled(data, at + 16, declared, "BIG", 0, 1, "caf")
        if size < 0:
            return None
        at += 12 + size
    return None


def _nist(data: Any) -> SampleData | None:
    start = int(data[8:16])
    fields = {}
    for line in data[16:start].decode("latin-1").splitlines():
        name, _, rest = line.partition(" ")
        fields[name] = rest.split(" ", 1)[-1]
    if "pcm" not in fields.get("sample_coding", "pcm").split(","):
        return None
    width = int(fields.get("channel_count", 1)) * int(fields.get("sample_n_bytes", 2))
    declared = int(fields.get("sample_count", 0)) * width
    endian = "LITTLE" if fields.get("sample_byte_format", "01") == "01" else "BIG"
    return _settled(data, start, declared, endian, 0, 1, None, width)


def _settled(
    data: Any,
    start: int,
    declared: int,
    endian: str,
    wraps: int,
    align: int,
    chunks: str | None,
    width: int | None = None,
) -> SampleData:
    """Determine the true size of samples from the declared one and what follows.

    Args:
        data: the file.
        start: of the samples.
        declared: size in bytes.
        endian: see `SampleData`.
        wraps: the modulus at which the header's size overflows, or 0.
        align: chunks start at multiples of this.
        chunks: kind of chunks that may follow; None: none.
        width: see `SampleData`.
    """
    rest = max(len(data) - start, 0)
    follow = max(rest - declared, 0)

    def made(size: int | None) -> SampleData:
        return SampleData(start, size, declared, follow, endian, width)

    if not follow:
        return made(rest)
    if declared not in _UNKNOWN or chunks is not None:
        # Largest size first: in 4 GiB of silence, all smaller ones look like padding.
        sizes = [declared + wraps * turn for turn in range(follow // wraps if wraps else 0, -1, -1)]
        for size in sizes:
            end = start + size
            if _is_end(data, end + -size % align, chunks, padding=size > 0 and size == sizes[0]):
                return made(size)
    return made(rest if declared in _UNKNOWN else None)


def _is_end(data: Any, at: int, chunks: str | None, padding: bool) -> bool:
    """Whether samples can end here: chunks follow to the end of the file, or a tag, or zeros."""
    end = len(data)
    while at < end:
        if end - at < 8 or any(data[at : at + len(tag)] == tag for tag in _TAGS):
            return padding or end - at >= 8
        if padding and end - at <= _PADDING and not data[at:end].strip(b"\0"):
            return True
        size = _chunk(data, at, chunks)
        if size is None or at + size > end:
            return False
        at = min(at + size, end)
    return True


def _chunk(data: Any, at: int, chunks: str | None) -> int | None:
    """Return the size of the chunk at a byte, header included; None if there can't be one."""
    if chunks is None:
        return None
    if chunks == "w64":
        if len(data) - at < 24:
            return None
        (size,) = struct.unpack_from("<Q", data, at + 16)
        return -(-size // 8) * 8 if 24 <= size <= len(data) - at else None
    name = data[at : at + 4]
    if not all(32 <= byte < 127 for byte in name) or not any(byte > 64 for byte in name):
        return None
    if chunks == "caf":
        (size,) = struct.unpack_from(">q", data, at + 4) if len(data) - at >= 12 else (-1,)
        return 12 + size if size >= 0 else None
    (size,) = struct.unpack_from(f"{chunks}I", data, at + 4)
    whole: int = 8 + size
    # The padding byte of the last chunk is often omitted.
    return whole + (size & 1) if at + whole < len(data) else whole
