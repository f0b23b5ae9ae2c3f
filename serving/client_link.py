"""A client's link to its servers: one connection after the other, and nothing lost between them."""

import asyncio
import contextlib
import random
import ssl
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientError, ClientSession, ClientWebSocketResponse, WSMsgType

from ..errors import ServingError
from .client_connection import Address, addresses, dial, reason_of, refusal
from .client_log import InputLog, OutputLog
from .protocol import (
    CLOSE_NORMAL,
    FROM_SERVER,
    Ack,
    Ended,
    Error,
    GoAway,
    Kind,
    Message,
    Open,
    Ready,
    Refusal,
    Resume,
    dump,
    parse,
)

#: Output is acknowledged after so many seconds at the latest.
_ACK_SECONDS = 0.1
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


class Link:
    """What is below a `Stream`: the logs of both directions, and the connection of the moment.

    Args:
        http: to connect with.
        places: the servers.
        opening: the first message.
        tls: None: certificates are checked with the system's authorities.
        patience: seconds without a connection, until it is given up.

    Attributes:
        ready: the server's answer: tokenizers, latency, limits. A new one after a reconnection.
        counts: see `Counts`.
    """

    ready: Ready

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
        self.counts = Counts()
        self._outputs: deque[Message | Ended] = deque()
        self._complete = False  # the output of the latest utterance has come
        self._write = asyncio.Event()
        self._waiters: list[asyncio.Future[None]] = []
        self._ack_due = False
        self._ack_timer: asyncio.TimerHandle | None = None
        self._sealed: list[Message] = []
        self._failure: ServingError | None = None
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        self._socket: ClientWebSocketResponse | None = None

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
        source = self.ready.source or self.ready.codec
        limits = self.ready.limits
        rate: float = self._open.input.rate
        if self._open.task != "encode":
            rate = source.frame_rate[0] / source.frame_rate[1]
        self._log = InputLog(rate, limits.input_ms)
        self._received = OutputLog()
        self._task = asyncio.create_task(self._run(socket))

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
        except Exception as error:  # nobody may wait for a stream that nobody serves
            self._failure = ServingError(f"an error of the client's own: {error!r}")
            self._failure.__cause__ = error
        finally:
            self._changed()

    async def _converse(self, socket: ClientWebSocketResponse) -> Refusal | None:
        """Read and write until the connection ends; return why, if the server said so."""
        self._socket = socket
        why: Refusal | None = None
        self._write.set()
        writer = asyncio.create_task(self._write_or_close(socket))
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
            if self._sealed and not self._sealed[-1].final:
                self._sealed.clear()  # the rest was lost: the server gives it again
            writer.cancel()
            (failed,) = await asyncio.gather(writer, return_exceptions=True)
            with contextlib.suppress(TimeoutError, ClientError, OSError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await socket.close()
        if isinstance(failed, Exception):
            raise failed
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

    async def _write_or_close(self, socket: ClientWebSocketResponse) -> None:
        try:
            await self._write_all(socket)
        except Exception:
            await socket.close()  # so that reading ends, too
            raise

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
