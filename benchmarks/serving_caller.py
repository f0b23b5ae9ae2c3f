"""A client of the serving protocol over the `websockets` package: nothing of ours but its messages.

For the tests and the benchmark: it can lose its connection in several ways, read slowly, and say
when every message came.
"""

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import websockets
from websockets.asyncio.client import ClientConnection

from syllabary.serving.protocol import (
    CHAIN_START,
    FROM_SERVER,
    STREAM_PATH,
    SUBPROTOCOL,
    Ack,
    Ended,
    Error,
    GoAway,
    Kind,
    Message,
    Open,
    Ready,
    Resume,
    chain,
    dump,
    parse,
)

_BACKOFF = 0.05
#: Errors after which nothing will be better.
_FINAL = ("malformed", "sequence", "unauthorized", "expired", "bad_state", "fault", "unprocessable")


@dataclass
class Call:
    """What a caller sends, and what came of it.

    Attributes:
        open: the first message.
        messages: to send, the last one final.
        ms: of audio in each message; its share of the credit.
        received: messages that came, each once.
        came: `time.perf_counter()` of each; `due` of each input message when it was paced.
        resumes: connections after the first.
        replayed: messages that came a second time.
        gaps: seconds of each break, from its loss to the next `ready`.
        errors: codes that the server sent.
    """

    open: Open
    messages: list[Message]
    ms: list[float]
    received: list[Message] = field(default_factory=list)
    came: list[float] = field(default_factory=list)
    due: list[float] = field(default_factory=list)
    ended: Ended | None = None
    ready: Ready | None = None
    resumes: int = 0
    replayed: int = 0
    gaps: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    goaways: list[GoAway] = field(default_factory=list)
    sealed: bytes = b""
    parts: bytes = b""  # of a sealed state that is not complete yet

    @property
    def output(self) -> bytes:
        return b"".join(message.payload for message in self.received)

    def check(self) -> None:
        """Check what the server said about its own output."""
        assert self.ended is not None
        digest = CHAIN_START
        for number, message in enumerate(self.received):
            assert message.seq == number
            digest = chain(digest, message.payload)
        assert self.ended.next == len(self.received) and self.ended.digest == digest.hex()


class Lost(Exception):
    """The connection ended before the stream did."""


@dataclass
class Caller:
    """Makes calls.

    Args:
        url: of the server, http://…; a function that returns it, where it changes.
        pace: send each message when its audio would have been spoken; else as credit allows.
        ack_every: acknowledge every so many messages.
        drops: numbers of received messages after which to cut the connection with a reset.
        bearer: token.
        patience: seconds to go on trying.
        read_pause: after so many messages, read nothing for so many seconds.
        may_end: the last message waits for this.
    """

    url: str | Callable[[], str]
    pace: bool = False
    ack_every: int = 4
    drops: Iterable[int] = ()
    bearer: str | None = None
    patience: float = 240.0
    read_pause: tuple[int, float] | None = None
    may_end: asyncio.Event | None = None

    async def call(self, call: Call) -> Call:
        """Make a call, resuming it until it has ended."""
        drops = sorted(self.drops)
        lost_at: float | None = None
        until = time.monotonic() + self.patience
        while call.ended is None:
            assert time.monotonic() < until, f"no end after {self.patience} s: {call.errors}"
            try:
                async with self._connect() as socket_:
                    await self._greet(socket_, call)
                    if lost_at is not None:
                        call.gaps.append(time.perf_counter() - lost_at)
                        call.resumes += 1
                        lost_at = None
                    await self._exchange(socket_, call, drops)
            except (Lost, OSError, websockets.WebSocketException, EOFError):
                if call.ready is not None:  # else it has not begun yet
                    lost_at = lost_at or time.perf_counter()
                if call.errors and call.errors[-1] in _FINAL:
                    raise
                await asyncio.sleep(_BACKOFF)
        return call

    def _connect(self) -> Any:
        url = self.url if isinstance(self.url, str) else self.url()
        headers = {"Authorization": f"Bearer {self.bearer}"} if self.bearer else None
        return websockets.connect(
            url.replace("http", "ws", 1) + STREAM_PATH,
            subprotocols=[SUBPROTOCOL],
            additional_headers=headers,
            compression=None,
            # One that stops reading also leaves what comes in the socket.
            max_queue=None if self.read_pause is None else 1,
            close_timeout=1,
            open_timeout=60,
            proxy=None,
        )

    async def _greet(self, socket_: ClientConnection, call: Call) -> None:
        if call.ready is None:
            await socket_.send(dump(call.open))
        else:
            resume = Resume(call.ready.token, len(call.received), bool(call.sealed))
            await socket_.send(dump(resume))
            size = 60_000
            for at in range(0, len(call.sealed), size):
                part = call.sealed[at : at + size]
                final = at + size >= len(call.sealed)
                await socket_.send(Message(Kind.STATE, at // size, at, part, final).pack())
        answer = parse(await socket_.recv(), FROM_SERVER)
        if isinstance(answer, Error):
            call.errors.append(answer.code)
            raise Lost(answer.message)
        assert isinstance(answer, Ready)
        call.ready, call.sealed = answer, b""

    async def _exchange(self, socket_: ClientConnection, call: Call, drops: list[int]) -> None:
        assert call.ready is not None
        credit = _Credit(call.ready.limits.input_ms)
        sender = asyncio.create_task(self._send(socket_, call, call.ready.next, credit))
        try:
            while call.ended is None:
                if not await self._receive(socket_, call, credit):
                    continue
                if drops and len(call.received) >= drops[0]:
                    drops.pop(0)
                    reset(socket_)
                    raise Lost("dropped")
                if self.read_pause and len(call.received) == self.read_pause[0]:
                    await asyncio.sleep(self.read_pause[1])
        finally:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)
        await socket_.close(1000)

    async def _send(
        self, socket_: ClientConnection, call: Call, first: int, credit: "_Credit"
    ) -> None:
        start = time.perf_counter() - sum(call.ms[:first]) / 1000
        at = start + sum(call.ms[:first]) / 1000
        for number in range(first, len(call.messages)):
            if self.pace:
                at += call.ms[number] / 1000
                await asyncio.sleep(max(0.0, at - time.perf_counter()))
                if number == len(call.due):
                    call.due.append(at)
            await credit.take(number, call.ms[number])
            if self.may_end is not None and number == len(call.messages) - 1:
                await self.may_end.wait()
            await socket_.send(call.messages[number].pack())

    async def _receive(self, socket_: ClientConnection, call: Call, credit: "_Credit") -> bool:
        """Take one message; return whether it is a new one of the stream."""
        data = await socket_.recv()
        if isinstance(data, str):
            message = parse(data, FROM_SERVER)
            if isinstance(message, Ack):
                credit.give(message.next)
            elif isinstance(message, Ended):
                call.ended = message
            elif isinstance(message, GoAway):
                call.goaways.append(message)
            elif isinstance(message, Error):
                call.errors.append(message.code)
                raise Lost(message.message)
            return False
        got = Message.unpack(data)
        if got.kind == Kind.STATE:
            call.parts = got.payload if got.position == 0 else call.parts + got.payload
            if got.final:
                call.sealed = call.parts
            return False
        if got.seq < len(call.received):
            assert call.received[got.seq].payload == got.payload, "a replay that differs"
            call.replayed += 1
            return False
        assert got.seq == len(call.received), f"expected message {len(call.received)}: {got.seq}"
        call.received.append(got)
        call.came.append(time.perf_counter())
        if len(call.received) % self.ack_every == 0:
            # The server may have closed: there is more to read before that, a sealed state at last.
            with contextlib.suppress(websockets.ConnectionClosed):
                await socket_.send(dump(Ack(len(call.received))))
        return True


class _Credit:
    """Milliseconds of audio that may be sent without an acknowledgement."""

    def __init__(self, most: float) -> None:
        self._most, self._used = most, 0.0
        self._open: list[tuple[int, float]] = []
        self._changed = asyncio.Event()

    async def take(self, number: int, ms: float) -> None:
        while self._used + ms > self._most and self._open:
            self._changed.clear()
            await self._changed.wait()
        self._open.append((number, ms))
        self._used += ms

    def give(self, next_: int) -> None:
        while self._open and self._open[0][0] < next_:
            self._used -= self._open.pop(0)[1]
        self._changed.set()


def reset(socket_: ClientConnection) -> None:
    """Cut a connection with a TCP reset."""
    found = socket_.transport.get_extra_info("socket")
    linger = (1).to_bytes(4, "little") + (0).to_bytes(4, "little")
    found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    socket_.transport.abort()
