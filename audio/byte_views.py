"""A byte range of a file as a file object, for libraries that read a file to its end."""

import io
import os
from pathlib import Path


class ByteView(io.RawIOBase):
    """Bytes `start` to `stop` of a file, read-only and seekable.

    Args:
        path: of the file.
        start, stop: the range, in bytes.
        claim: the size to report when seeking to the end; default: the true one. A larger size
            makes a library that estimates a stream's length from its size overestimate it, so that
            it reads all there is. The last 128 bytes of the claimed range read as zeros, since MP3
            readers look for a tag there.
        patch: replacement bytes at an offset of the view: (offset, bytes).
    """

    TAG = 128

    def __init__(
        self,
        path: Path,
        start: int,
        stop: int,
        claim: int | None = None,
        patch: tuple[int, bytes] | None = None,
    ) -> None:
        self._file = path.open("rb")
        self._start, self._size = start, stop - start
        self._claim = max(claim or 0, self._size)
        self._patch = patch
        self._at = 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._claim}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def]
        view = memoryview(buffer).cast("B")
        if self._claim > self._size and self._at >= max(self._claim - self.TAG, self._size):
            count = min(len(view), self._claim - self._at)
            view[:count] = bytes(count)
        else:
            self._file.seek(self._start + self._at)
            data = self._file.read(max(0, min(len(view), self._size - self._at)))
            count = len(data)
            view[:count] = data
            self._lay_patch(view[:count])
        self._at += count
        return count

    def _lay_patch(self, view: memoryview) -> None:
        if self._patch is None:
            return
        offset, data = self._patch
        first = max(offset, self._at)
        last = min(offset + len(data), self._at + len(view))
        if first < last:
            view[first - self._at : last - self._at] = data[first - offset : last - offset]

    def close(self) -> None:
        self._file.close()
        super().close()
