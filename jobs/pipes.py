"""Read and write pipes without waiting for more bytes than have arrived."""

import os
import select
import time
from typing import Self

_MOST = 1 << 16  # capacity of a pipe on Linux


class PipeInput:
    """Bytes of a file descriptor, available as soon as they arrive.

    Python's buffered files wait for as many bytes as were requested. `arrivals` does not; `read`
    does, for readers that know how much comes next.

    Args:
        descriptor: open for reading; it stays open.

    Attributes:
        bytes_read: so far, including those still in the buffer.
        arrived: `time.perf_counter()` at the arrival of the latest bytes.
        stopped: whether `stop` was called.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._buffer = bytearray()
        self._ended = False
        # A signal handler can't end a blocking read without raising, at an arbitrary place.
        self._wake_end, self._wake = os.pipe()
        self.bytes_read = 0
        self.arrived = time.perf_counter()
        self.stopped = False

    def stop(self) -> None:
        """End the input here, even during a blocking read; safe in signal handlers."""
        self.stopped = True
        os.write(self._wake, b"\0")

    @property
    def waiting(self) -> int:
        """Number of bytes that have arrived and are unread."""
        return len(self._buffer)

    def peek(self, count: int) -> bytes:
        """Return the first `count` unread bytes, without consuming them."""
        return bytes(self._buffer[:count])

    def arrivals(self) -> bytes:
        """Return the bytes that have arrived, waiting for at least one; empty at the end."""
        if not self._buffer:
            self._fill()
        data = bytes(self._buffer)
        self._buffer.clear()
        return data

    def read(self, count: int) -> bytes:
        """Return `count` bytes, or fewer at the end."""
        while len(self._buffer) < count and self._fill():
            pass
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    def _fill(self) -> bool:
        """Wait for more bytes; return False at the end."""
        while not (self._ended or self.stopped):
            ready, _, _ = select.select([self._descriptor, self._wake_end], [], [])
            if self._wake_end in ready:
                break
            try:
                data = os.read(self._descriptor, _MOST)
            except BlockingIOError:
                continue  # the pipe is non-blocking and another process took the bytes
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
    """Buffer what is written, and send all of it on `flush`.

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
        """Write all buffered bytes, waiting as long as needed.

        Raises:
            BrokenPipeError: the reader has closed the pipe.
        """
        while self._buffer:
            try:
                sent = os.write(self._descriptor, self._buffer)
            except BlockingIOError:
                select.select([], [self._descriptor], [])
                continue
            self.bytes_written += sent
            del self._buffer[:sent]
