"""Messages between the server and its worker processes: pickles with a length, over a socket pair.

Pickle runs code that its bytes name, so nothing that came from a client is ever unpickled: both
ends are this package's own processes, and the socket has no name that others could connect to.
"""

import pickle
import select
import socket
import struct
from typing import Any

from .held_bytes import give
from .worker_messages import State

LENGTH = struct.Struct("<I")
#: Bytes to read at a time; for more, the memory would be mapped and unmapped with each read.
READ_BYTES = 1 << 16


def pack(content: Any) -> bytes:
    """Return an object as one message."""
    data = pickle.dumps(content, protocol=pickle.HIGHEST_PROTOCOL)
    return LENGTH.pack(len(data)) + data


def unpack_all(buffer: bytearray) -> list[Any]:
    """Remove all whole messages from the buffer, and return them."""
    found, at = [], 0
    while len(buffer) - at >= LENGTH.size:
        (length,) = LENGTH.unpack_from(buffer, at)
        end = at + LENGTH.size + length
        if end > len(buffer):
            break
        found.append(pickle.loads(memoryview(buffer)[at + LENGTH.size : end]))
        at = end
    if at:
        del buffer[:at]
    return found


class Channel:
    """The worker's end: blocking, for one thread.

    Args:
        end: the socket for messages.
        states: the one for states of rows (see `held_bytes`); None: they go with the others.
    """

    def __init__(self, end: socket.socket, states: socket.socket | None = None) -> None:
        self._socket, self._states = end, states
        self._buffer = bytearray()

    def receive(self, wait: bool) -> list[Any] | None:
        """Return all messages that have arrived; with `wait`, at least one. None: it is closed."""
        found: list[Any] = []
        while True:
            timeout = None if wait and not found else 0
            if not select.select([self._socket], [], [], timeout)[0]:
                return found
            data = self._socket.recv(READ_BYTES)
            if not data:
                return None
            self._buffer += data
            found += unpack_all(self._buffer)

    def send(self, answers: list[Any]) -> None:
        for answer in answers:
            if isinstance(answer, State) and self._states is not None:
                assert isinstance(answer.data, bytes)
                if give(answer.data, self._states):
                    answer.data = b""
        self._socket.sendall(pack(answers))
