"""One WebSocket of a client: reading its messages into a session, and sending what comes out."""

import socket
import time
from typing import TYPE_CHECKING, Any

from aiohttp import web

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
from .websocket import BROKEN, WebSocket
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
    """

    def __init__(self, server: "ServerParts", websocket: WebSocket) -> None:
        self._server, self._engine, self._websocket = server, server.engine, websocket
        self._sent = 0  # number of the next message to send
        self._acknowledged = self._safe = 0  # what the client was told
        self._ack_due = self._heard = 0.0
        self._refusal: Refusal | None = None
        self._sealed: bytes | None = None
        self._close_seconds = _CLOSE_SECONDS
        self._told_goaway: GoAway | None = server.goaway
        self.closed = False

    # --- a session's life on this connection -----------------------------------------------------

    async def run(self, session: Session, ready: Ready) -> None:
        """Serve a session, whose row has a place, until the connection ends."""
        self._session = session
        before, session.connection = session.connection, self
        if before is not None:
            before.refuse(Refusal("superseded", "another connection goes on with this stream"))
        session.on_change = self.flush
        if session.failure is None and not self._engine.handing_over:
            self._engine.recover(session)  # in case its worker has died since
        self._sent = session.output.acknowledged
        # Told anew on each connection: what was on the way when the last one broke may be lost.
        self._acknowledged = self._safe = 0
        self._replayed = session.sent
        websocket = self._websocket
        try:
            websocket.send(dump(ready))
            if session.output.ended is not None and session.output.ended[0] < self._sent:
                websocket.send(_ended(*session.output.ended))  # that may have been lost
            self._heard = time.monotonic()
            websocket.listen(self._received)
            self.flush()  # there may be output to send again
            await websocket.ended
        finally:
            self.closed = True
            # Who answers the close has read what came before it.
            session.handed |= self._sealed is not None and websocket.close_code != BROKEN
            if session.connection is self:
                session.on_change = _nothing
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

    def _received(self, data: str | bytes) -> None:
        """Take a message. Called for each one, so that nothing waits for a task to be woken."""
        session = self._session
        if session.connection is not self or self._refusal is not None:
            return  # fenced off: another connection has resumed the stream; or being closed
        try:
            if isinstance(data, bytes):
                self._take(session, Message.unpack(data))
            else:
                self._control(session, data)
            session.confirmed = True
            self._heard = time.monotonic()
        except Refusal as refused:
            self.refuse(refused)
        except Exception as error:
            event("fault", session.id, level="error", error=repr(error))
            self.refuse(Refusal("fault", "an error of the server's own"))

    def _take(self, session: Session, message: Message) -> None:
        log = session.input
        if self._engine.config.audio_seconds_per_hour:
            self._server.security.spend(session.client, log.ms_of(message) / 1000)
        item = log.append(message, message.seq)
        self._check_room(session)
        self._server.metrics.received(HEADER.size + len(message.payload), item.ms / 1000)
        self._engine.forward(session)

    def _check_room(self, session: Session) -> None:
        """Raise `Refusal` if the client sends more than it may."""
        log, limit = session.input, self._engine.limits.input_ms
        # Who resumes again and again with new credit each time fills the log of a paused row.
        if log.exceeds(limit, 4 * (limit + 1000 * self._engine.config.checkpoint_seconds)):
            raise Refusal(
                "too_much_input",
                f"{log.unacknowledged_ms:.0f} ms of input, or far more messages than it takes, are "
                f"not acknowledged; at most {limit:.0f} ms, and none while output is not "
                "acknowledged either",
            )

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
            self._check_room(session)
        else:
            raise Refusal("malformed", f"`{message.type}` is a connection's first message only")
        self._engine.forward(session)

    # --- to the client ---------------------------------------------------------------------------

    def flush(self) -> None:
        """Send everything that is due, with one write.

        The socket's buffer needs no bound of its own: a row pauses while too much output, of audio
        or of messages, is not acknowledged. Raises nothing, since whoever notices a change calls
        it.
        """
        try:
            self._flush()
        except Exception as error:
            event("fault", self._session.id, level="error", error=repr(error))
            self.abort()

    def _flush(self) -> None:
        session, websocket = self._session, self._websocket
        if not websocket.open:
            return
        if self._refusal is not None and self._sealed is None:
            refuse(websocket, self._refusal, self._server)
            return
        messages: list[str | bytes] = []
        if self._told_goaway is not None:
            messages.append(dump(self._told_goaway))
            self._told_goaway = None
        if (ack := self._ack(session)) is not None:
            messages.append(ack)
        log = session.output
        size, units = 0, 0
        while (output := log.get(self._sent)) is not None:
            message = output.message
            if self._sent < self._replayed:
                message = message._replace(replayed=True)
            data = message.pack()
            messages.append(data)
            if output.ended is not None:
                messages.append(_ended(self._sent, output.ended))
            self._sent += 1
            size += len(data)
            units += output.units
        if size:
            session.sent = max(session.sent, self._sent)
            self._server.metrics.sent(size, units / log.rate)
        if self._sealed is not None:
            messages += self._state_messages(self._sealed)
        if messages:
            websocket.send(*messages)
        refusal = self._refusal or session.failure
        if refusal is not None:
            self._refusal = refusal
            refuse(websocket, refusal, self._server, self._close_seconds)

    def _ack(self, session: Session) -> str | None:
        next_, safe = session.consumed, self._engine.safe(session)
        if next_ <= self._acknowledged and safe <= self._safe:
            return None
        now = time.monotonic()
        waiting = session.input.unacknowledged_ms
        if now < self._ack_due and waiting < min(_ACK_MS, self._engine.limits.input_ms / 2):
            return None
        self._ack_due = now + _ACK_SECONDS
        session.input.acknowledge(next_)
        self._acknowledged, self._safe = next_, safe
        return dump(Ack(next_, min(safe, next_)))

    def _state_messages(self, sealed: bytes) -> list[bytes]:
        size = self._engine.limits.message_bytes - HEADER.size
        return [
            Message(
                Kind.STATE, number, at, sealed[at : at + size], final=at + size >= len(sealed)
            ).pack()
            for number, at in enumerate(range(0, len(sealed), size))
        ]

    # --- from the server -------------------------------------------------------------------------

    def remind(self, now: float) -> None:
        """Do what is due by time: called a few times a second."""
        idle = self._engine.limits.idle_seconds
        if self._refusal is None and now > self._heard + idle:
            self.refuse(Refusal("too_slow", f"no message for {idle:.0f} s"))
        self.flush()

    def abort(self) -> None:
        """End the connection without a word."""
        self._websocket.abort()

    def go_away(self, message: GoAway) -> None:
        self._told_goaway = message
        self.flush()

    def refuse(
        self, refusal: Refusal, sealed: bytes | None = None, seconds: float = _CLOSE_SECONDS
    ) -> None:
        """Close the connection, with the sealed state before if one is given.

        Args:
            seconds: for the client to take all that, and to answer.
        """
        if self._refusal is None:
            self._refusal, self._sealed, self._close_seconds = refusal, sealed, seconds
        self.flush()


def _nothing() -> None:
    """Nobody wants to know."""


def _ended(seq: int, totals: Totals) -> str:
    return dump(Ended(seq + 1, **vars(totals)))


def refuse(
    websocket: WebSocket,
    refusal: Refusal,
    server: "ServerParts",
    seconds: float = _CLOSE_SECONDS,
) -> None:
    """Tell a client why, and close; without waiting long for one that doesn't listen."""
    server.metrics.refused(refusal.code)
    websocket.send(dump(Error(refusal.code, refusal.message, refusal.retry_after)))
    websocket.close(REASONS[refusal.code].close, refusal.code, seconds)


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
