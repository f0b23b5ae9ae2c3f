"""The server's end of a WebSocket, which hands over each message in the call that reads it.

aiohttp gives messages to a task: a future, a wake-up, a timer and two coroutines each, more than
all the rest that the server does with a short message. So aiohttp makes the handshake, and
`WebSocket` takes the connection over, with a reader of frames of its own (`frames.py`).
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from aiohttp import web

from .frames import BINARY, CLOSE, PING, TEXT, FrameError, FrameReader

#: Close codes: the other side said none; the connection broke.
NO_CODE, BROKEN = 1005, 1006
#: Bytes that the other side has not taken, from which its pings are not answered.
_MOST_UNREAD = 1 << 16
#: Seconds for the other side to take what was sent before the end.
_LAST_SECONDS = 2.0
_BUFFER = memoryview(bytearray(1 << 16))
_TEXT, _BINARY, _CLOSE, _PONG = 0x81, 0x82, 0x88, 0x8A


class WebSocket(asyncio.BufferedProtocol):
    """A connection, from its handshake on.

    Args:
        request: whose `web.WebSocketResponse` has just been prepared.
        most: bytes of a message; a longer one closes with 1009.

    Attributes:
        close_code: of the other side, or `NO_CODE` or `BROKEN`; None while it is open.
        ended: done when nothing more will come.
    """

    def __init__(self, request: web.Request, most: int) -> None:
        assert request.transport is not None
        self._transport = request.transport
        self._http = request.protocol
        self._feed: Callable[[bytes], None] = FrameReader(most, self._deliver).feed
        self._listener: Callable[[str | bytes], None] | None = None
        self._waiting: deque[str | bytes] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._close_sent = False
        self.close_code: int | None = None
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport.set_protocol(self)
        self._transport.resume_reading()

    # --- from the client -------------------------------------------------------------------------

    async def receive(self, seconds: float) -> str | bytes | None:
        """Return the next message, before there is a listener; None: the connection has ended.

        Raises:
            TimeoutError: none came within so many seconds.
        """
        if not self._waiting and self.close_code is None:
            self._transport.resume_reading()
            self._waiter = asyncio.get_running_loop().create_future()
            async with asyncio.timeout(seconds):
                await self._waiter
        return self._waiting.popleft() if self._waiting else None

    def listen(self, listener: Callable[[str | bytes], None]) -> None:
        """Call a function with each message from now on. It raises nothing."""
        self._listener = listener
        while self._waiting:
            listener(self._waiting.popleft())
        if self.close_code is None:
            self._transport.resume_reading()

    def get_buffer(self, sizehint: int) -> memoryview:
        return _BUFFER  # of all connections: it is read out before anything else happens

    def buffer_updated(self, nbytes: int) -> None:
        try:
            self._feed(bytes(_BUFFER[:nbytes]))
        except FrameError as error:
            self._fail(error)

    def _deliver(self, opcode: int, content: Any) -> None:
        if opcode in (BINARY, TEXT):
            if self._listener is not None:
                self._listener(content)
                return
            if not self._close_sent:
                self._waiting.append(content)
                self._transport.pause_reading()  # until somebody wants more
                self._wake()
        elif opcode == PING:
            # RFC 6455, 5.5.3: not each one needs an answer. One that takes none would fill memory.
            if self._transport.get_write_buffer_size() < _MOST_UNREAD:
                self._write(_PONG, content)
        elif opcode == CLOSE:
            self._send_close(content, b"")
            self._end(content or NO_CODE)

    def _fail(self, error: FrameError) -> None:
        """The client sent what is no WebSocket's."""
        self._feed = _ignore
        self._send_close(error.code, b"")
        self.close_code = BROKEN
        self._wake()
        asyncio.get_running_loop().call_later(_LAST_SECONDS, self.abort)
        # What it still sends is read until it ends, too: closed with something unread, TCP resets
        # the connection, and the code may be lost with it.
        self._transport.resume_reading()
        try:
            self._transport.write_eof()
        except NotImplementedError:  # TLS
            self._transport.close()

    def _end(self, code: int) -> None:
        self.close_code = code
        self._transport.close()
        # For one that does not even take what has been sent.
        asyncio.get_running_loop().call_later(_LAST_SECONDS, self.abort)
        self._wake()
        if not self.ended.done():
            self.ended.set_result(None)

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # --- to the client ---------------------------------------------------------------------------

    @property
    def open(self) -> bool:
        """Whether messages can be sent."""
        return self.close_code is None and not self._close_sent

    def send(self, *messages: str | bytes) -> None:
        """Send messages, text or binary, with one write.

        What the client does not take is kept in memory: it is for the caller to bound it.
        """
        if not self.open:
            return
        parts: list[bytes] = []
        for message in messages:
            if isinstance(message, str):
                data = message.encode()
                parts += _header(_TEXT, len(data)), data
            else:
                parts += _header(_BINARY, len(message)), message
        self._transport.write(b"".join(parts))

    def _write(self, first: int, data: bytes) -> None:
        if self.open:
            self._transport.write(_header(first, len(data)) + data)

    def _send_close(self, code: int | None, reason: bytes) -> None:
        self._write(_CLOSE, b"" if code is None else code.to_bytes(2) + reason)
        self._close_sent = True

    def close(self, code: int, reason: str, seconds: float) -> None:
        """Close; cut the connection if the client has not answered within so many seconds."""
        if self.open:
            self._send_close(code, reason.encode()[:123])
        if not self.ended.done():
            self._transport.resume_reading()  # until the answer comes
            asyncio.get_running_loop().call_later(seconds, self.abort)

    def abort(self) -> None:
        """Cut the connection."""
        self._transport.abort()

    # --- of the transport ------------------------------------------------------------------------

    def pause_writing(self) -> None:
        pass

    def resume_writing(self) -> None:
        pass

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self._end(self.close_code or BROKEN)
        self._http.connection_lost(exc)
        # Break the circles, or many short connections wait for the garbage collector.
        self._listener = None
        self._feed = _ignore


def _ignore(data: bytes) -> None:
    """Nothing is read any more."""


def _header(first: int, size: int) -> bytes:
    if size < 126:
        return bytes((first, size))
    if size < 65_536:
        return bytes((first, 126)) + size.to_bytes(2)
    return bytes((first, 127)) + size.to_bytes(8)
