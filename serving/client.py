"""The client: a stream to a server that survives lost connections.

    async with connect("http://localhost:8700", "encode", "rvq-16k") as stream:
        await stream.send(pcm)
        await stream.end()
        async for message in stream:
            file.write(message.payload)

Two tasks run beside the caller: one connects and reads, one writes. `send` only puts messages into
a log, once the server's acknowledgements leave room; they stay there until the server says that it
won't ask for them again. `client_log` has the log, `client_connection` the connection.
"""

import asyncio
import contextlib
import random
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from aiohttp import ClientError, ClientSession, ClientWebSocketResponse, WSMsgType

from ..errors import ServingError
from .client_connection import Address, addresses, dial, reason_of, refusal
from .client_log import InputLog, OutputLog
from .input_pieces import PCMPieces, Piece, SylPieces
from .protocol import (
    CLOSE_NORMAL,
    FROM_SERVER,
    PCM,
    Ack,
    End,
    Ended,
    Error,
    GoAway,
    Kind,
    Limits,
    Message,
    Open,
    Refusal,
    Reset,
    Resume,
    Task,
    dump,
    parse,
)

#: Output is acknowledged after so many seconds at the latest, or so many messages.
_ACK_SECONDS, _ACK_MESSAGES = 0.1, 8
_FIRST_WAIT, _LONGEST_WAIT = 0.05, 2.0
_CLOSE_SECONDS = 2.0


@dataclass
class Counts:
    """What a stream has gone through.

    Attributes:
        bytes_sent, bytes_received: payloads, each once.
        reconnects: connections after the first.
        replayed: messages sent again.
    """

    bytes_sent: int = 0
    bytes_received: int = 0
    reconnects: int = 0
    replayed: int = 0


class Stream:
    """An open stream; `connect` makes it.

    Iterating gives the server's messages (`protocol.Message`) of one utterance in order, each once,
    and stops when it is complete. Their payloads, joined, are a `.syl` file or PCM; `CodeReader`
    reads the codes of each. A message that has not been taken is not acknowledged, so a caller that
    takes none makes the server pause.

    Attributes:
        ready: the server's answer: tokenizers, latency, limits. A new one after a reconnection.
        ended: totals of the latest complete utterance; None before.
        counts: see `Counts`.
    """

    def __init__(
        self,
        http: ClientSession,
        places: Sequence[Address],
        opening: Open,
        tls: ssl.SSLContext | None,
        patience: float,
    ) -> None:
        self._http, self._places, self._open = http, list(places), opening
        self._tls, self._patience = tls, patience
        self.ended: Ended | None = None
        self.counts = Counts()
        self._waiters: list[asyncio.Future[None]] = []
        self._backlog: deque[Piece] = deque()
        self._outputs: deque[Message | Ended] = deque()
        self._begun, self._over = 1, 0  # utterances
        self._input_ended = False
        self._write = asyncio.Event()
        self._ack_due = False
        self._ack_timer: asyncio.TimerHandle | None = None
        self._complete = False  # the output of the latest utterance has come
        self._sealed: list[Message] = []
        self._failure: ServingError | None = None
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        self._socket: ClientWebSocketResponse | None = None

    # --- opening and closing ---------------------------------------------------------------------

    async def start(self) -> None:
        """Open the stream.

        Raises:
            Refusal: the server refused it.
            ServingError: no server is there.
        """
        failure: Exception | None = None
        for place in self._places:
            try:
                socket, self.ready = await dial(self._http, place, self._open, [], self._tls)
                break
            except (Refusal, ClientError, OSError, TimeoutError) as error:
                if isinstance(error, Refusal) and not error.reason.again:
                    raise
                failure = failure or error
        else:
            if isinstance(failure, Refusal):
                raise failure
            raise ServingError(
                f"can't reach {' or '.join(place.url for place in self._places)}: "
                f"{reason_of(failure)}"
            ) from None
        self._current = place
        heard = self.ready.source or self.ready.codec
        limits = self.ready.limits
        rate: float = self._open.input.rate
        if self._open.task != "encode":
            rate = heard.frame_rate[0] / heard.frame_rate[1]
        self._log = InputLog(rate, limits.input_ms)
        self._received = OutputLog()
        self._new_pieces(limits)
        self._task = asyncio.create_task(self._run(socket))

    def _new_pieces(self, limits: Limits) -> None:
        encodes = self._open.task == "encode"
        self._pieces: Any = PCMPieces(self._open.input, limits) if encodes else SylPieces(limits)

    async def close(self) -> None:
        """End the stream for good; output that has not been taken is lost."""
        self._closing = True
        if self._socket is not None:
            with contextlib.suppress(TimeoutError, ClientError, OSError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await self._socket.close(code=CLOSE_NORMAL)
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._changed()

    # --- the caller's side -----------------------------------------------------------------------

    async def send(self, data: bytes | np.ndarray) -> None:
        """Send input; waits while the server is behind.

        If it is cancelled, what has not been sent goes with the next call.

        Args:
            data: for `encode`, PCM in the format of `connect`, or samples (n,) float32; else the
                bytes of a `.syl` file. Pieces may end anywhere.

        Raises:
            Refusal: the server ended the stream.
            ServingError: it was lost, or its input has ended.
            ContainerError, WaveError: the data are not what they should be.
        """
        self._check_open()
        if self._input_ended:
            raise ServingError("the input of this utterance has ended; `reset` begins another")
        self._backlog.extend(self._pieces.push(data))
        await self._send_backlog()

    async def _send_backlog(self) -> None:
        while self._backlog:
            await self._until(lambda: not self._backlog or self._log.room_for(self._backlog[0]))
            if self._backlog:
                piece = self._backlog.popleft()
                self._input_ended |= piece.final
                self.counts.bytes_sent += len(piece.payload)
                self._log.append(piece)
                self._write.set()

    async def end(self) -> None:
        """End the input; the rest of the output follows.

        Raises:
            ContainerError, WaveError: it ends where it can't; it has been ended all the same.
        """
        self._check_open()
        await self._send_backlog()
        if not self._input_ended:
            self._input_ended = True
            self._log.append_control(End)
            self._write.set()
            self._pieces.finish()

    async def reset(self) -> None:
        """Begin another utterance.

        The rest of one that has not been ended is dropped. After `end` this waits until the
        utterance is complete, so take its output before, or in another task.
        """
        self._check_open()
        if self._input_ended:
            await self._until(lambda: self._complete)
        else:
            self._over += 1
        self._backlog.clear()
        self._begun += 1
        self._complete = False
        self._input_ended = False
        self._new_pieces(self.ready.limits)
        self._log.append_control(Reset)
        self._write.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        await self._until(lambda: bool(self._outputs) or self._over >= self._begun)
        if not self._outputs:
            raise StopAsyncIteration
        item = self._outputs.popleft()
        if isinstance(item, Ended):
            self.ended = item
            self._over += 1
            self._acknowledge(now=True)
            raise StopAsyncIteration
        self._acknowledge(now=self._received.take(item) >= _ACK_MESSAGES)
        return item

    def _acknowledge(self, now: bool) -> None:
        if now:
            self._send_ack()
        elif self._ack_timer is None:
            loop = asyncio.get_running_loop()
            self._ack_timer = loop.call_later(_ACK_SECONDS, self._send_ack)

    def _send_ack(self) -> None:
        if self._ack_timer is not None:
            self._ack_timer.cancel()
            self._ack_timer = None
        self._ack_due = True
        self._write.set()

    def _check_open(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._closing:
            raise ServingError("the stream is closed")

    async def _until(self, test: Callable[[], bool]) -> None:
        while not test():
            self._check_open()
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter

    def _changed(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    # --- connections -----------------------------------------------------------------------------

    async def _run(self, socket: ClientWebSocketResponse) -> None:
        try:
            while True:
                why = await self._converse(socket)
                if self._closing:
                    return
                if isinstance(why, Refusal) and not why.reason.resumable:
                    raise why
                if self.ready.resumable is not True:
                    raise why or ServingError(
                        f"the connection was lost, and a stream of {self.ready.codec.name} can't "
                        f"be resumed: {self.ready.resumable}"
                    )
                socket = await self._reconnect(why)
        except ServingError as error:
            self._failure = error
        finally:
            self._changed()

    async def _converse(self, socket: ClientWebSocketResponse) -> Refusal | None:
        """Read and write until the connection ends; return why, if the server said so."""
        self._socket = socket
        why: Refusal | None = None
        self._write.set()
        writer = asyncio.create_task(self._write_all(socket))
        try:
            async for received in socket:
                if received.type == WSMsgType.BINARY:
                    self._take(Message.unpack(received.data))
                elif received.type == WSMsgType.TEXT:
                    message = parse(received.data, FROM_SERVER)
                    if isinstance(message, Error):
                        why = refusal(message)
                    else:
                        self._control(message)
                self._changed()
        except (ClientError, OSError):
            pass
        finally:
            self._socket = None
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
            with contextlib.suppress(TimeoutError, ClientError, OSError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await socket.close()
        return why

    def _take(self, message: Message) -> None:
        if message.kind == Kind.STATE:
            if message.position == 0:
                self._sealed.clear()
            self._sealed.append(message)
        elif self._received.add(message):
            self.counts.bytes_received += len(message.payload)
            self._outputs.append(message)

    def _control(self, message: Any) -> None:
        if isinstance(message, Ack):
            self._log.acknowledge(message)
        elif isinstance(message, Ended):
            if self._received.end(message):
                self._complete = True
                self._outputs.append(message)
        elif isinstance(message, GoAway):
            # Never from TLS to a connection without: the token goes there, too.
            here = self._current
            others = addresses(message.servers, here.token)
            safe = [place for place in others if place.tls or not here.tls]
            self._places = [*(p for p in safe if p not in self._places), *self._places]

    async def _write_all(self, socket: ClientWebSocketResponse) -> None:
        idle = self.ready.limits.idle_seconds / 3
        with contextlib.suppress(ClientError, OSError):
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(idle):
                        await self._write.wait()
                if not self._write.is_set():
                    self._ack_due = True  # to show that this client lives
                self._write.clear()
                while (entry := self._log.next_to_send()) is not None:
                    if isinstance(entry, Message):
                        self.counts.replayed += entry.replayed
                        await socket.send_bytes(entry.pack())
                    else:
                        await socket.send_str(dump(entry))
                if self._ack_due:
                    self._ack_due = False
                    await socket.send_str(dump(self._received.acknowledgement()))

    async def _reconnect(self, why: Refusal | None) -> ClientWebSocketResponse:
        """Resume the stream at any server that takes it."""
        begun, wait = time.monotonic(), _FIRST_WAIT
        last: Exception | None = why
        pause = (why and why.retry_after) or 0.0
        places = list(self._places)
        if why is None or why.code != "draining":
            places.sort(key=lambda place: place is not self._current)
        gone: set[Address] = set()
        while time.monotonic() - begun + pause < self._patience:
            await asyncio.sleep(pause)
            for place in places:
                if place in gone:
                    continue
                resume = Resume(self.ready.token, self._received.next, bool(self._sealed))
                try:
                    socket, ready = await dial(self._http, place, resume, self._sealed, self._tls)
                except (Refusal, ClientError, OSError, TimeoutError) as error:
                    last = error
                    if isinstance(error, Refusal) and not error.reason.resumable:
                        gone.add(place)  # another server may still have it
                    continue
                self._current, self.ready = place, ready
                self._sealed.clear()
                self.counts.reconnects += 1
                self._log.go_on(ready)
                self._received.go_on(ready)
                return socket
            if len(gone) == len(places):
                break  # no server has it any more
            asked = last.retry_after if isinstance(last, Refusal) else None
            pause = max(asked or 0.0, wait * random.uniform(0.5, 1.0))
            wait = min(2 * wait, _LONGEST_WAIT)
        if isinstance(last, Refusal):
            raise last
        raise ServingError(
            f"the connection was lost, and not restored within {self._patience:g} s: "
            f"{reason_of(last)}"
        )


@asynccontextmanager
async def connect(
    servers: str | Sequence[str],
    task: Task,
    codec: str,
    *,
    source: str | None = None,
    digest: str | None = None,
    codebooks: int | None = None,
    input: PCM | None = None,  # noqa: A002 (named as in `open`)
    output: PCM | None = None,
    frames: int = 1,
    token: str | None = None,
    tls: ssl.SSLContext | None = None,
    patience: float = 60.0,
) -> AsyncIterator[Stream]:
    """Open a stream; leaving the context ends it.

    Args:
        servers: URL of a server, or several of one deployment: the first that answers is taken, and
            any may go on with the stream later.
        task: `encode`, `decode` or `transcode`.
        codec, source, digest, codebooks, input, output, frames: see `protocol.Open`; PCM is s16le
            at 16 kHz by default.
        token: bearer token.
        tls: for authorities other than the system's.
        patience: seconds that a lost connection may take to come back.

    Raises:
        Refusal: the server refused the stream; its `code` says why.
        ServingError: no server is there, or the arguments don't agree.
    """
    urls = [servers] if isinstance(servers, str) else list(servers)
    try:
        opening = Open(
            task, codec, source, digest, codebooks, input or PCM(), output or PCM(), frames
        )
    except ValueError as error:
        raise ServingError(str(error)) from None
    async with ClientSession() as http:
        stream = Stream(http, addresses(urls, token), opening, tls, patience)
        await stream.start()
        try:
            yield stream
        finally:
            await stream.close()
