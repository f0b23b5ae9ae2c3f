"""The two ends of a pipe, without waiting for more than what has come."""

import os
import select
import time
from typing import Self

_MOST = 1 << 16  # what a pipe holds on Linux


class PipeInput:
    """Bytes of a file descriptor as soon as they arrive.

    Python's own buffered files wait for as many bytes as were asked for. `arrivals` does not;
    `read` does, for readers that know what comes next.

    Args:
        descriptor: open for reading; it stays open.

    Attributes:
        bytes_read: so far, those still in the buffer included.
        arrived: `time.perf_counter()` when the last bytes came.
        stopped: whether `stop` was called.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._buffer = bytearray()
        self._ended = False
        # A signal's handler can't make a blocked read return, unless it raises, and then anywhere.
        self._wake_end, self._wake = os.pipe()
        self.bytes_read = 0
        self.arrived = time.perf_counter()
        self.stopped = False

    def stop(self) -> None:
        """Let the input end here, also while something waits for it; fit for signal handlers."""
        self.stopped = True
        os.write(self._wake, b"\0")

    @property
    def waiting(self) -> int:
        """Bytes that have come already and were not read."""
        return len(self._buffer)

    def peek(self, count: int) -> bytes:
        """The first of them, which stay unread."""
        return bytes(self._buffer[:count])

    def arrivals(self) -> bytes:
        """Whatever has come, at least one byte; none at the end."""
        if not self._buffer:
            self._fill()
        data = bytes(self._buffer)
        self._buffer.clear()
        return data

    def read(self, count: int) -> bytes:
        """`count` bytes, or fewer at the end."""
        while len(self._buffer) < count and self._fill():
            pass
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    def _fill(self) -> bool:
        """Wait for more bytes; False at the end."""
        while not (self._ended or self.stopped):
            ready, _, _ = select.select([self._descriptor, self._wake_end], [], [])
            if self._wake_end in ready:
                break
            try:
                data = os.read(self._descriptor, _MOST)
            except BlockingIOError:
                continue  # another process has made the pipe non-blocking and was faster
            self.arrived = time.perf_counter()
            self.bytes_read += len(data)
            self._buffer += data
            self._ended = not data
            return bool(data)
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        os.close(self._wake)
        os.close(self._wake_end)


class PipeOutput:
    """Collects what is written and sends it off, all of it, with `flush`.

    Args:
        descriptor: open for writing; it stays open.

    Attributes:
        bytes_written: sent so far.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._buffer = bytearray()
        self.bytes_written = 0

    def write(self, data: bytes) -> int:
        self._buffer += data
        return len(data)

    def flush(self) -> None:
        """Send what was collected, however long that takes.

        Raises:
            BrokenPipeError: nobody reads any more.
        """
        while self._buffer:
            try:
                sent = os.write(self._descriptor, self._buffer)
            except BlockingIOError:
                select.select([], [self._descriptor], [])
                continue
            self.bytes_written += sent
            del self._buffer[:sent]
