"""What is left of a damaged `.syl` file: its whole chunks, and which frames are lost."""

import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Self

import numpy as np

from . import bits
from .chunk import WholeChunk
from .layout import (
    CHECK,
    CHUNK,
    END,
    MAX_DURATION_BITS,
    NUMBERED,
    PACKED,
    START,
    TOTALS,
    kind_of,
)

_MARK = re.compile(b"|".join(map(re.escape, (*NUMBERED.values(), END))))
_LONGEST_MARK = 4
_SHOWN_SPANS = 10


@dataclass(frozen=True)
class LostFrames:
    """The frames of a file that are lost.

    Attributes:
        spans: (first frame, frame after the last) of each gap, in order.
        frames: of the file, lost ones included.
        frame_rate: frames per second.
        length_known: whether the file still told how long it was. If not, frames after the last
            one may be lost, too.
    """

    spans: tuple[tuple[int, int], ...]
    frames: int
    frame_rate: Fraction
    length_known: bool

    @classmethod
    def of(
        cls,
        spans: Sequence[tuple[int, int]],
        frames: int,
        frame_rate: Fraction,
        length_known: bool,
    ) -> Self:
        """Make them of spans in order, joining those that touch."""
        found: list[tuple[int, int]] = []
        for start, stop in spans:
            if found and found[-1][1] == start:
                start = found.pop()[0]
            found.append((start, stop))
        return cls(tuple(found), frames, frame_rate, length_known)

    def __bool__(self) -> bool:
        """Whether any frame is lost, or may be."""
        return bool(self.spans) or not self.length_known

    @property
    def count(self) -> int:
        """Number of lost frames."""
        return sum(stop - start for start, stop in self.spans)

    @property
    def seconds(self) -> list[tuple[float, float]]:
        """Start and end of each gap in seconds."""
        rate = float(self.frame_rate)
        return [(round(start / rate, 4), round(stop / rate, 4)) for start, stop in self.spans]

    def mask(self) -> np.ndarray:
        """Return (frames,) bool: the `lost` of `AudioTokenizer.decode`, for one row."""
        lost = np.zeros(self.frames, bool)
        for start, stop in self.spans:
            lost[start:stop] = True
        return lost

    def to_json(self) -> dict[str, Any]:
        """Return the lost frames as JSON values."""
        return {
            "frames": self.count,
            "of": self.frames,
            "spans": [list(span) for span in self.spans],
            "seconds": [list(span) for span in self.seconds],
            "length_known": self.length_known,
        }

    def __str__(self) -> str:
        """Describe them in a line: how many, and where."""
        if not self.spans:
            text = "no frame that was read is lost"
        else:
            seconds = self.count / float(self.frame_rate)
            places = ", ".join(f"{a:.2f}–{b:.2f}" for a, b in self.seconds[:_SHOWN_SPANS])
            more = len(self.spans) - _SHOWN_SPANS
            places += f" and {more} more" if more > 0 else ""
            text = f"{self.count} of {self.frames} frames are lost ({seconds:.2f} s), at {places} s"
        if not self.length_known:
            text += "; it is cut short after them, and nothing tells how much is missing"
        return text


class ChunkFinder:
    """Finds the whole chunks in what may be damaged bytes.

    No more than the next chunk is read where nothing is damaged, so a pipe gives each chunk at
    once. After damage, the search goes on at the next bytes that may begin a chunk: a mark, and a
    length that fits its positions. So it reads at most one chunk's length ahead.

    Args:
        take: reads up to so many bytes; none at the end.
        chunk_positions: most positions of a chunk.
        widths: bits of a code, for each codebook.
        has_durations: of the file.

    Attributes:
        skipped: bytes that belong to no whole chunk.
    """

    def __init__(
        self,
        take: Callable[[int], bytes],
        chunk_positions: int,
        widths: Sequence[int],
        has_durations: bool,
    ) -> None:
        self._take = take
        self._chunk_positions, self._widths = chunk_positions, widths
        self._has_durations = has_durations
        self._bytes = bytearray()
        self.skipped = 0

    @property
    def held(self) -> int:
        """Bytes that were read and not used yet."""
        return len(self._bytes)

    def next(self) -> WholeChunk | None:
        """Return the next whole chunk; None at the end."""
        start = CHUNK.size + CHECK.size
        while self._have(start):
            head = bytes(self._bytes[: CHUNK.size])
            mark, length, positions = CHUNK.unpack(head)
            kind, number = kind_of(mark) or (b"", None)
            if self._fits(kind, number, positions, length) and self._have(start + length):
                payload = bytes(self._bytes[start : start + length])
                (check,) = CHECK.unpack(self._bytes[CHUNK.size : start])
                if check == zlib.crc32(payload, zlib.crc32(head)):
                    del self._bytes[: start + length]
                    return WholeChunk(kind, number, positions, payload)
            self._skip()
        self.skipped += len(self._bytes)
        self._bytes.clear()
        return None

    def _fits(self, kind: bytes, number: int | None, positions: int, length: int) -> bool:
        """Whether a chunk of this kind with so many positions can have a payload of this length."""
        if kind == END:
            return (positions, length) == (0, TOTALS.size)
        if number is None or not 1 <= positions <= self._chunk_positions:
            return False
        # A chunk is range-coded only if that makes it shorter.
        most = bits.packed_size(positions, self._widths)
        least = most if kind == PACKED else CHECK.size
        if self._has_durations:
            least += 1 + bits.packed_size(positions, [1]) + START.size
            most += 1 + bits.packed_size(positions, [MAX_DURATION_BITS]) + START.size
        return least <= length <= most

    def _skip(self) -> None:
        """Drop bytes up to the next that may begin a chunk."""
        found = _MARK.search(self._bytes, 1)
        at = found.start() if found else len(self._bytes) - (_LONGEST_MARK - 1)
        self.skipped += at
        del self._bytes[:at]

    def _have(self, count: int) -> bool:
        """Read until there are `count` bytes; return False if the end comes before."""
        while len(self._bytes) < count:
            piece = self._take(count - len(self._bytes))
            if not piece:
                return False
            self._bytes += piece
        return True
