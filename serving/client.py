"""The client: a stream to a server that survives lost connections.

    async with connect("http://localhost:8700", "encode", "rvq-16k") as stream:
        await stream.send(pcm)
        await stream.end()
        async for message in stream:
            file.write(message.payload)

Two tasks run beside the caller (`client_link`): one connects and reads, one writes. `send` only
puts messages into a log (`client_log`), once the server's acknowledgements leave room; they stay
there until the server says that it won't ask for them again.
"""

import ssl
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self

import numpy as np
from aiohttp import ClientSession

from ..errors import ServingError
from .client_connection import addresses
from .client_link import Link
from .input_pieces import PCMPieces, Piece, SylPieces
from .protocol import PCM, End, Ended, Limits, Message, Open, Reset, Task

#: Output is acknowledged after so many messages, or soon.
_ACK_MESSAGES = 8


class Stream(Link):
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

    ended: Ended | None = None

    async def start(self) -> None:
        """Open the stream.

        Raises:
            Refusal: the server refused it.
            ServingError: no server is there.
        """
        await super().start()
        self._backlog: deque[Piece] = deque()
        self._begun, self._over = 1, 0  # utterances
        self._input_ended = False
        self._new_pieces(self.ready.limits)

    def _new_pieces(self, limits: Limits) -> None:
        encodes = self._open.task == "encode"
        self._pieces: Any = PCMPieces(self._open.input, limits) if encodes else SylPieces(limits)

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
