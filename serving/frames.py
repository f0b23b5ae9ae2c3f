"""Frames of a WebSocket as a server reads them: RFC 6455, sections 5, 7.4 and 8.1.

Written here rather than taken from a library since each message is handed over in the call that
reads it, and since readers that are shared with a client let pass what no client may send: frames
without a mask, lengths in more bytes than needed, close codes that nobody may send.
"""

from collections.abc import Callable
from typing import Any

from aiohttp._websocket.helpers import websocket_mask  # compiled

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
#: Close codes.
PROTOCOL_ERROR, NO_TEXT, TOO_BIG = 1002, 1007, 1009

_CONTINUATION = 0
_FINAL, _CONTROL, _MASKED = 128, 8, 128
#: First bytes of frames: data with or without the final bit, control with it; reserved bits zero.
_KNOWN = frozenset({0, 1, 2, 128, 129, 130, 136, 137, 138})
_MASK = 4
#: Codes that a peer may send (7.4, and the registry of the IANA), besides 3000 to 4999.
_CODES = frozenset({1000, 1001, 1002, 1003, *range(1007, 1015)})


class FrameError(Exception):
    """What came is no WebSocket's.

    Args:
        code: with which to close.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class FrameReader:
    """Reads messages out of a client's bytes.

    Args:
        most: bytes of a message.
        take: called with an opcode and: a text; bytes; the payload of a ping or pong; or the code
            of a close, None if it has none. After a close nothing more is read.
    """

    def __init__(self, most: int, take: Callable[[int, Any], None]) -> None:
        self._most, self._take = most, take
        self._rest = bytearray()  # of a frame that is not complete
        self._needed = 2  # bytes of it, until more is known of it
        self._opcode = _CONTINUATION  # of the message whose parts are coming; 0: there is none
        self._parts = bytearray()
        self._over = False

    def feed(self, data: bytes) -> None:
        """Read what has arrived.

        Raises:
            FrameError: it is no WebSocket's; nothing more may be read.
        """
        if self._over:
            return
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed:
                return
            data = bytes(self._rest)
            self._rest.clear()
        at = 0
        while (whole := self._frame(data, at)) and not self._over:
            at = whole
        if at < len(data) and not self._over:
            self._rest += data[at:]

    def _frame(self, data: bytes, at: int) -> int:
        """Take the frame that begins there; return where it ends, or 0 if it is not complete."""
        end = len(data)
        self._needed = 2
        if end - at < 2:
            return 0
        first, second = data[at], data[at + 1]
        if first not in _KNOWN:
            raise FrameError(PROTOCOL_ERROR, f"a frame can't begin with {first:#x}")
        if second < _MASKED:
            raise FrameError(PROTOCOL_ERROR, "a client masks its frames")
        size, mask = second - _MASKED, at + 2
        if size > 125:
            if first & _CONTROL:
                raise FrameError(PROTOCOL_ERROR, "a control frame has at most 125 bytes")
            mask += 2 if size == 126 else 8
            if end < mask:
                self._needed = mask - at
                return 0
            least = 126 if size == 126 else 1 << 16
            size = int.from_bytes(data[at + 2 : mask])
            if not least <= size < 1 << 63:
                raise FrameError(PROTOCOL_ERROR, "a length that takes fewer bytes, or is negative")
        if not first & _CONTROL:
            if (first & 15 == _CONTINUATION) != (self._opcode != _CONTINUATION):
                raise FrameError(PROTOCOL_ERROR, "a continuation of nothing, or none of something")
            if len(self._parts) + size > self._most:
                raise FrameError(TOO_BIG, f"a message has at most {self._most} bytes")
        start = mask + _MASK
        whole = start + size
        if end < whole:
            self._needed = whole - at
            return 0
        unmasked = bytearray(memoryview(data)[start:whole])
        websocket_mask(data[mask:start], unmasked)
        payload = bytes(unmasked)
        if first & _CONTROL:
            self._control(first & 15, payload)
        elif first & _FINAL and not self._opcode:
            self._message(first & 15, payload)
        else:
            self._part(first, payload)
        return whole

    def _part(self, first: int, payload: bytes) -> None:
        self._opcode = self._opcode or first & 15
        self._parts += payload
        if first & _FINAL:
            opcode, whole = self._opcode, bytes(self._parts)
            self._opcode = _CONTINUATION
            self._parts.clear()
            self._message(opcode, whole)

    def _message(self, opcode: int, payload: bytes) -> None:
        self._take(opcode, _text(payload) if opcode == TEXT else payload)

    def _control(self, opcode: int, payload: bytes) -> None:
        if opcode != CLOSE:
            self._take(opcode, payload)
            return
        code = None
        if payload:
            code = int.from_bytes(payload[:2])
            if len(payload) < 2 or not (code in _CODES or 3000 <= code < 5000):
                raise FrameError(PROTOCOL_ERROR, f"{code} is no close code that is ever sent")
            _text(payload[2:])
        self._over = True
        self._take(CLOSE, code)


def _text(payload: bytes) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise FrameError(NO_TEXT, "a text is UTF-8") from None
