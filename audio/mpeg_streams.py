"""Find the streams of an MP3 file by walking over its frames.

MP3 has no length field: libraries take the length from a Xing header in the first frame, or
estimate it from the file size, and then stop there. Both may be wrong: files written to a pipe have
no such header, and concatenated files have several. So this module visits every frame (its header
gives the position of the next one) and counts the frames of each stream.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

#: kbit/s by (is version 1, layer), for indices 1 to 14
_BITRATES = {
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_LAYERS = {3: 1, 2: 2, 1: 3}
#: Tolerance of an encoder's frame count: some include the header's frame.
_SLACK = 2


@dataclass(frozen=True)
class Header:
    """Header of a frame.

    Attributes:
        size: bytes of the frame.
        samples: per channel.
        sample_rate: in Hz.
        kind: fields that all frames of a stream share: version, layer, rate, mono or stereo.
    """

    size: int
    samples: int
    sample_rate: int
    kind: tuple[int, int, int, bool]


@dataclass
class Stream:
    """A run of frames that one encoder wrote.

    Attributes:
        start, stop: its byte range.
        frames: number of whole audio frames in it.
        samples: per frame and channel.
        declared: number of frames in its Xing header, or None.
        audio_start: start of the first audio frame, after the Xing header.
        by_count: whether it was split off only because the previous stream's count was reached.
    """

    start: int
    stop: int
    samples: int
    kind: tuple[int, int, int, bool]
    frames: int = 0
    declared: int | None = None
    audio_start: int = 0
    by_count: bool = False

    @property
    def is_counted(self) -> bool:
        """Whether it has a Xing header whose count matches the frames found."""
        return self.declared is not None and abs(self.declared - self.frames) <= _SLACK

    @property
    def is_cut(self) -> bool:
        """Whether it has fewer frames than its Xing header declares."""
        return self.declared is not None and self.declared - self.frames > _SLACK


@dataclass(frozen=True)
class Damage:
    """Bytes between frames that are neither a frame nor a tag."""

    start: int
    size: int


_headers: dict[int, Header | None] = {}


def header_at(data: Any, at: int) -> Header | None:
    """Parse the frame header at a byte; None if there is none."""
    word = int.from_bytes(data[at : at + 4], "big")
    if word >> 21 != 0x7FF:
        return None
    word &= 0xFFFEFEC0  # the bits that determine a frame's size and kind
    if word not in _headers:
        _headers[word] = _parse(word)
    return _headers[word]


def _parse(word: int) -> Header | None:
    version, layer = word >> 19 & 3, _LAYERS.get(word >> 17 & 3)
    bitrate, rate = word >> 12 & 15, word >> 10 & 3
    if version == 1 or layer is None or bitrate in (0, 15) or rate == 3:
        return None
    bits = _BITRATES[version == 3, layer][bitrate - 1] * 1000
    sample_rate = _RATES[version][rate]
    padding = word >> 9 & 1
    if layer == 1:
        samples, size = 384, (12 * bits // sample_rate + padding) * 4
    else:
        samples = 576 if layer == 3 and version != 3 else 1152
        size = samples // 8 * bits // sample_rate + padding
    return Header(size, samples, sample_rate, (version, layer, sample_rate, word >> 6 & 3 == 3))


def find_streams(data: Any) -> tuple[list[Stream], list[Damage]]:
    """Find the streams of a file by walking over its frames.

    Args:
        data: the whole file; may be a memory map.

    Returns:
        The streams in order, and the damage: bytes between frames that are no audio, tag or zeros.
        Bytes before the first frame are ignored. No streams if the file can't be walked over, for
        example with a free bitrate.
    """
    streams: list[Stream] = []
    damages: list[Damage] = []
    current: Stream | None = None
    for at, header in _frames(data, damages):
        if header is None:  # a tag: another stream follows
            current = None
            continue
        declared = _declared(data, at, header)
        marked = current is None or declared is not None or header.kind != current.kind
        by_count = (
            current is not None
            and current.frames == current.declared
            and _begins_anew(data, at, header)
        )
        if current is None or marked or by_count:
            current = Stream(
                at, at, header.samples, header.kind, audio_start=at, by_count=not marked
            )
            streams.append(current)
        current.stop = at + header.size
        if declared is not None:
            current.declared = declared or None
            current.audio_start = current.stop
        else:
            current.frames += 1
    found: list[Stream] = []
    for stream in streams:
        if stream.by_count and stream.frames <= _SLACK:  # the count was slightly off
            found[-1].frames += stream.frames
            found[-1].stop = stream.stop
        elif stream.frames or stream.is_cut:
            found.append(stream)
    return found, damages


def _frames(data: Any, damages: list[Damage]) -> Iterator[tuple[int, Header | None]]:
    """Yield (position, header) of every frame, and (position, None) of every tag."""
    end = len(data)
    at = 0
    known: Header | None = None
    while at < end:
        header = header_at(data, at)
        if header is not None and _is_confirmed(data, at, header, known, end):
            if at + header.size > end:
                return  # the last frame is truncated
            known = header
            yield at, header
            at += header.size
            continue
        size = _tag(data, at)
        if size:
            yield at, None
            at += size
            continue
        found = _next(data, at, end)
        if known is not None and data[at : min(found, at + (1 << 20))].strip(b"\0"):
            damages.append(Damage(at, found - at))
        at = found


def _is_confirmed(data: Any, at: int, header: Header, known: Header | None, end: int) -> bool:
    """Whether a header is genuine, by the next frame or by the headers before it."""
    if known is not None and header.kind == known.kind:
        return True
    after = at + header.size
    follower = header_at(data, after)
    return (follower is not None and follower.kind == header.kind) or after == end


def _next(data: Any, at: int, end: int) -> int:
    """Return the position of the next frame or tag, or the end."""
    while True:
        at += 1
        sync = data.find(b"\xff", at)
        tags = [data.find(mark, at, sync if sync >= 0 else end) for mark in (b"ID3", b"APETAGEX")]
        for place in tags:
            if place >= 0 and _tag(data, place):
                return place
        if end - at >= 128 and data[end - 128 : end - 125] == b"TAG" and not 0 <= sync < end - 128:
            return end - 128
        if sync < 0:
            return end
        header = header_at(data, sync)
        if header is not None:
            follower = header_at(data, sync + header.size)
            if follower is not None and follower.kind == header.kind:
                return sync
        at = sync


def _tag(data: Any, at: int) -> int:
    """Return the size of the tag at a position; 0 if there is none."""
    mark = data[at : at + 10]
    if mark[:3] == b"ID3" and len(mark) == 10 and max(mark[6:10]) < 128:
        size = 0
        for byte in mark[6:10]:
            size = size << 7 | byte
        return 20 + size if mark[5] & 16 else 10 + size
    if mark[:4] == b"TAG+":
        return 227
    if mark[:3] == b"TAG":
        return 128
    if mark[:8] == b"APETAGEX":
        fields = data[at : at + 32]
        size = int.from_bytes(fields[12:16], "little")
        is_header = int.from_bytes(fields[20:24], "little") >> 29 & 1
        return 32 + size if is_header else 32
    if mark == b"LYRICSBEGI":
        stop = data.find(b"LYRICS200", at)
        return stop + 9 - at if stop >= 0 else 0
    return 0


def _side_info(data: Any, at: int, header: Header) -> tuple[int, int]:
    """Return position and size of a Layer III frame's side information."""
    version, _, _, mono = header.kind
    size = (17 if mono else 32) if version == 3 else (9 if mono else 17)
    return at + (4 if data[at + 1] & 1 else 6), size


def _declared(data: Any, at: int, header: Header) -> int | None:
    """Return the frame count in a Xing or VBRI header; 0 if missing; None for other frames."""
    if header.kind[1] != 3:
        return None
    start, size = _side_info(data, at, header)
    # Some writers leave room for a checksum.
    for place in {start + size, at + 4 + size}:
        fields = data[place : place + 12]
        if fields[:4] in (b"Xing", b"Info"):
            return int.from_bytes(fields[8:12], "big") if fields[7] & 1 else 0
    if data[at + 36 : at + 40] == b"VBRI":
        return 0  # VBRI counts frames, but does not tell the encoder's delay
    return None


def _begins_anew(data: Any, at: int, header: Header) -> bool:
    """Whether a frame needs no bits from earlier frames, like an encoder's first one."""
    if header.kind[1] != 3:
        return True
    start, _ = _side_info(data, at, header)
    bits = int.from_bytes(data[start : start + 2], "big")
    return bits >> (7 if header.kind[0] == 3 else 8) == 0
