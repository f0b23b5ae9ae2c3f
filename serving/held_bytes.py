"""Large bytes that a process gives to another in memory of their own.

The state of a row is larger than the buffer of a socket. Sent through one, it would keep both ends
busy in turns, and streams waiting meanwhile. Linux's memfd is sent as a handle, and read only if
somebody needs the bytes. What has been given outlives the process that gave it.
"""

import os
import socket

_CAN_HOLD = hasattr(os, "memfd_create")


class HeldBytes:
    """Bytes that nobody changes any more.

    Args:
        handle: file descriptor of their memory; closed with this object.
    """

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._size = os.fstat(handle).st_size

    def __len__(self) -> int:
        return self._size

    def __del__(self) -> None:
        os.close(self._handle)

    def read(self) -> bytes:
        parts, at = [], 0
        while at < self._size:
            parts.append(os.pread(self._handle, self._size - at, at))
            at += len(parts[-1])
        return b"".join(parts)


def give(data: bytes, end: socket.socket) -> bool:
    """Give bytes to whoever has the other end, to be taken with `take`.

    Returns:
        whether that was possible: not on systems without memfd, or where memory, handles or the
        socket are used up.
    """
    if not _CAN_HOLD:
        return False
    try:
        handle = os.memfd_create("syllabary")
    except OSError:
        return False
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(handle, rest) :]
        end.setblocking(False)  # `send_fds` ignores its flags
        socket.send_fds(end, [b"\0"], [handle])
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def take(end: socket.socket) -> HeldBytes:
    """Take the next bytes that were given.

    Raises:
        ConnectionError: there are none, or this process has too many handles.
    """
    try:
        end.setblocking(False)
        _, handles, _, _ = socket.recv_fds(end, 1, 1)
        return HeldBytes(handles[0])
    except (OSError, IndexError) as error:
        raise ConnectionError("no bytes were given, or too many files are open") from error
