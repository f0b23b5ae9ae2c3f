"""One WebSocket of a client: reading its messages into a session, and sending what comes out."""

import asyncio
import contextlib
import socket
import time
from typing import TYPE_CHECKING, Any

from aiohttp import WSMsgType, web

from .logs import event
from .protocol import (
    CLOSE_NORMAL,
    HEADER,
    REASONS,
    Ack,
    End,
    Ended,
    Error,
    GoAway,
    Kind,
    Message,
    Ready,
    Refusal,
    Reset,
    dump,
    parse,
)
from .session import Session
from .worker_messages import RowConfig, Totals

if TYPE_CHECKING:
    from .parts import ServerParts

#: Audio in milliseconds, or else the time in seconds, after which consumed input is acknowledged.
_ACK_MS, _ACK_SECONDS = 100.0, 0.1
#: Seconds that a client has to answer a close.
_CLOSE_SECONDS = 2.0


class Connection:
    """A client's WebSocket, after its first message.

    Args:
        server: of the connection.
        websocket: accepted.
        transport: below it.
    """

    def __init__(
        self,
        server: "ServerParts",
        websocket: web.WebSocketResponse,
        transport: asyncio.Transport | None,
    ) -> None:
        self._server, self._engine, self._transport = server, server.engine, transport
        self._websocket = websocket
        self._wake = asyncio.Event()
        self._sent = 0  # number of the next message to send
        self._acknowledged = self._safe = 0  # what the client was told
        self._ack_due = 0.0
        self._refusal: Refusal | None = None
        self._sealed: bytes | None = None
        self._told_goaway: GoAway | None = None
        self.closed = False

    # --- a session's life on this connection -----------------------------------------------------

    async def run(self, session: Session, ready: Ready) -> None:
        """Serve a session, whose row has a place, until the connection ends."""
        self._session = session
        before, session.connection = session.connection, self
        if before is not None:
            before.refuse(Refusal("superseded", "another connection goes on with this stream"))
        session.on_change = self._wake.set
        if session.failure is None:
            self._engine.recover(session)  # in case its worker has died since
        self._sent = session.output.acknowledged
        # Told anew on each connection: what was on the way when the last one broke may be lost.
        self._acknowledged = self._safe = 0
        self._replayed = session.sent
        self._wake.set()  # there may be output to send again
        sender = None
        try:
            await self._websocket.send_str(dump(ready))
            sender = asyncio.create_task(self._send_all())
            await self._read_all(session)
        except ConnectionError:
            pass
        except Refusal as refused:
            self.refuse(refused)
        except Exception as error:
            event("fault", session.id, level="error", error=repr(error))
            self.refuse(Refusal("fault", "an error of the server's own"))
        finally:
            self.closed = True
            if sender is not None:
                self._wake.set()
                with contextlib.suppress(ConnectionError, asyncio.CancelledError, TimeoutError):
                    await sender
            if session.connection is self:
                session.on_change = lambda: None
                session.park()
            await self._finish(session)

    async def _finish(self, session: Session) -> None:
        """Park the session, or forget it."""
        if session.connection is not None:
            return  # another connection has it
        refusal = self._refusal
        if self._websocket.close_code == CLOSE_NORMAL and refusal is None:
            self._engine.discard(session, "end")
        elif session.failure is not None or (refusal and not refusal.reason.resumable):
            self._engine.discard(session, refusal.code if refusal else "fault")
        elif session.resumable is not True:
            self._engine.discard(session, "gone")
        elif not self._engine.draining:
            event("parked", session.id, code=self._websocket.close_code)
            self._engine.limit_parked(session.client)
            await self._engine.leave(session)

    # --- from the client -------------------------------------------------------------------------

    async def _read_all(self, session: Session) -> None:
        limits = self._engine.limits
        while True:
            try:
                message = await self._websocket.receive(timeout=limits.idle_seconds)
            except TimeoutError:
                raise Refusal("too_slow", f"no message for {limits.idle_seconds:.0f} s") from None
            if session.connection is not self:
                return  # fenced off: another connection has resumed the stream
            if message.type == WSMsgType.BINARY:
                self._take(session, Message.unpack(message.data))
            elif message.type == WSMsgType.TEXT:
                self._control(session, message.data)
            else:
                return
            session.confirmed = True

    def _take(self, session: Session, message: Message) -> None:
        size = HEADER.size + len(message.payload)
        self._server.security.spend(session.client, session.input.ms_of(message) / 1000)
        item = session.input.append(message, message.seq)
        limit = self._engine.limits.input_ms
        # Who resumes again and again with new credit each time fills the log of a paused row.
        most = 4 * (limit + 1000 * self._engine.config.checkpoint_seconds)
        if session.input.unacknowledged_ms > limit or session.input.kept_ms > most:
            raise Refusal(
                "too_much_input",
                f"{session.input.unacknowledged_ms:.0f} ms of input are not acknowledged; at most "
                f"{limit:.0f} ms, and none while output is not acknowledged either",
            )
        self._server.metrics.received(size, item.ms / 1000)
        self._engine.forward(session)

    def _control(self, session: Session, text: str) -> None:
        limits = self._engine.limits
        if len(text) > limits.control_bytes:
            raise Refusal(
                "too_big", f"a text message of {len(text)} bytes; at most {limits.control_bytes}"
            )
        message = parse(text)
        if isinstance(message, Ack):
            if message.next > self._sent:
                raise Refusal(
                    "sequence", f"{message.next} messages acknowledged, {self._sent} were sent"
                )
            session.output.acknowledge(message.next)
        elif isinstance(message, End):
            session.input.end(message.seq)
        elif isinstance(message, Reset):
            session.input.append(None, message.seq)
        else:
            raise Refusal("malformed", f"`{message.type}` is a connection's first message only")
        self._engine.forward(session)

    # --- to the client ---------------------------------------------------------------------------

    async def _send_all(self) -> None:
        session, websocket = self._session, self._websocket
        try:
            if session.output.ended is not None and session.output.ended[0] < self._sent:
                await self._send_ended(*session.output.ended)  # that may have been lost
            while True:
                await self._wake.wait()
                self._wake.clear()
                if self.closed and self._refusal is None:
                    return
                if self._told_goaway is not None:
                    goaway, self._told_goaway = self._told_goaway, None
                    await websocket.send_str(dump(goaway))
                await self._send_ack(session)
                while (output := session.output.get(self._sent)) is not None:
                    if self._refusal is not None and self._sealed is None:
                        break
                    if self.closed and self._refusal is None:
                        return
                    message = output.message
                    replayed = message.seq < self._replayed
                    data = message.pack() if not replayed else _replay(message).pack()
                    await websocket.send_bytes(data)
                    self._sent += 1
                    session.sent = max(session.sent, self._sent)
                    if output.ended is not None:
                        await self._send_ended(message.seq, output.ended)
                    seconds = output.units / session.output.rate
                    self._server.metrics.sent(len(data), seconds)
                if session.failure is not None:
                    self.refuse(session.failure)
                if self._sealed is not None:
                    await self._send_state(self._sealed)
                if self._refusal is not None:
                    break
        except ConnectionError:
            return
        await self._close(self._refusal)

    async def _send_ack(self, session: Session) -> None:
        next_, safe = session.consumed, self._engine.safe(session)
        if next_ <= self._acknowledged and safe <= self._safe:
            return
        now = time.monotonic()
        due = now >= self._ack_due
        waiting = session.input.unacknowledged_ms
        if not due and waiting < min(_ACK_MS, self._engine.limits.input_ms / 2):
            return
        self._ack_due = now + _ACK_SECONDS
        session.input.acknowledge(next_)
        self._acknowledged, self._safe = next_, safe
        await self._websocket.send_str(dump(Ack(next_, min(safe, next_))))

    async def _send_ended(self, seq: int, totals: Totals) -> None:
        await self._websocket.send_str(dump(Ended(seq + 1, **vars(totals))))

    async def _send_state(self, sealed: bytes) -> None:
        size = self._engine.limits.message_bytes - HEADER.size
        for number, at in enumerate(range(0, len(sealed), size)):
            part = sealed[at : at + size]
            final = at + size >= len(sealed)
            await self._websocket.send_bytes(
                Message(Kind.STATE, number, at, part, final=final).pack()
            )

    # --- from the server -------------------------------------------------------------------------

    def remind(self) -> None:
        """Send what is due by time: called a few times a second."""
        self._wake.set()

    def abort(self) -> None:
        """End the connection without a word."""
        if self._transport is not None:
            self._transport.abort()

    def go_away(self, message: GoAway) -> None:
        self._told_goaway = message
        self._wake.set()

    def refuse(self, refusal: Refusal, sealed: bytes | None = None) -> None:
        """Close the connection, with the sealed state before if one is given."""
        if self._refusal is None:
            self._refusal, self._sealed = refusal, sealed
            # In case it takes nothing, not even why it is closed.
            asyncio.get_running_loop().call_later(2 * _CLOSE_SECONDS, self.abort)
        self._wake.set()

    async def _close(self, refusal: Refusal | None) -> None:
        if refusal is not None:
            await close(self._websocket, refusal, self._server)


def _replay(message: Message) -> Message:
    return Message(
        message.kind, message.seq, message.position, message.payload, message.final, replayed=True
    )


async def close(websocket: web.WebSocketResponse, refusal: Refusal, server: "ServerParts") -> None:
    """Tell a client why, and close; without waiting long for one that doesn't listen."""
    server.metrics.refused(refusal.code)
    error = Error(refusal.code, refusal.message, refusal.retry_after)
    try:
        async with asyncio.timeout(_CLOSE_SECONDS):
            await websocket.send_str(dump(error))
            code = REASONS[refusal.code].close
            await websocket.close(code=code, message=refusal.code.encode())
    except (ConnectionError, TimeoutError, RuntimeError):
        pass


def no_delay(request: web.Request) -> None:
    """Send small messages at once."""
    transport = request.transport
    found: Any = None if transport is None else transport.get_extra_info("socket")
    if found is not None and found.family in (socket.AF_INET, socket.AF_INET6):
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def row_config(server: "ServerParts", message: "object") -> RowConfig:
    """Fill in an `open` message's defaults.

    Raises:
        Refusal: `unknown_codec` or `malformed`.
    """
    from .protocol import Open

    assert isinstance(message, Open)
    codec = server.engine.tokenizer(message.codec)
    if message.digest not in (None, codec.digest):
        raise Refusal(
            "unknown_codec", f"{message.codec} has the digest {codec.digest} here, not that one"
        )
    source_codebooks = 0
    if message.source is not None:
        source_codebooks = len(server.engine.tokenizer(message.source).codebook_sizes)
    most, least = len(codec.codebook_sizes), codec.min_codebooks
    count = most if message.codebooks is None else message.codebooks
    if not least <= count <= most:
        raise Refusal("malformed", f"{message.codec} has {least} to {most} codebooks, got {count}")
    return RowConfig(
        task=message.task,
        codec=message.codec,
        codebooks=count,
        source=message.source,
        source_codebooks=source_codebooks,
        input=message.input,
        output=message.output,
        frames=message.frames,
    )
