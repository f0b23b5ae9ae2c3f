"""The pool for asyncio: calls run in a few threads, and the event loop goes on."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np
from torch import Tensor

from ...errors import WaveError
from ..tokens import Tokens
from .latency import StreamStats
from .pool import PoolStream, StreamPool
from .session import StreamEnd

if TYPE_CHECKING:
    from ..interface import AudioTokenizer

T = TypeVar("T")


class AsyncStreamPool:
    """A `StreamPool` whose streams are awaited.

    Args:
        tokenizer, capacity, num_codebooks: see `StreamPool`. It runs the tokenizer once, which may
            take seconds, so make it before the event loop has anything to do.
        threads: that run the calls; as many as there are cores to spare.

    Raises:
        CapacityError, TokenError: as `StreamPool` does.
    """

    def __init__(
        self,
        tokenizer: "AudioTokenizer",
        capacity: int,
        threads: int,
        num_codebooks: int | None = None,
    ) -> None:
        self._pool = StreamPool(tokenizer, capacity, num_codebooks)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="syllabary")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.close()

    @property
    def clients(self) -> int:
        """How many there are now."""
        return self._pool.clients

    @property
    def stats(self) -> StreamStats:
        """Of all clients that are here or were. The time that calls wait for a thread is not in."""
        return self._pool.stats

    def join(self, state: bytes | None = None) -> "AsyncPoolStream":
        """See `StreamPool.join`. Use it as ``async with pool.join() as stream``."""
        return AsyncPoolStream(self._pool.join(state), self._threads)

    async def close(self) -> None:
        """End all streams, and the threads."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self._pool.close)
        self._threads.shutdown(wait=False)


class AsyncPoolStream:
    """The stream of one client of an `AsyncStreamPool`; see `PoolStream`.

    Calls that overlap run one by one, in the order in which they were made. A task that is
    cancelled while its call runs loses what the call gives, so that nothing could go on from it:
    the stream raises `WaveError` from then on, until it is reset.
    """

    def __init__(self, stream: PoolStream, threads: ThreadPoolExecutor) -> None:
        self._stream, self._threads = stream, threads
        self._order = asyncio.Lock()  # which is fair
        self._cancelled: asyncio.Future[Any] | None = None  # a call whose result nobody has

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.leave()

    async def encode(self, chunk: Tensor | np.ndarray, final: bool = False) -> Tokens:
        """See `PoolStream.encode`."""
        return await self._run(lambda: self._stream.encode(chunk, final))

    async def decode(self, tokens: Tokens, final: bool = False) -> Tensor:
        """See `PoolStream.decode`."""
        return await self._run(lambda: self._stream.decode(tokens, final))

    async def flush(self) -> StreamEnd:
        """See `PoolStream.flush`."""
        return await self._run(self._stream.flush)

    async def export_state(self) -> bytes:
        """See `PoolStream.export_state`."""
        return await self._run(self._stream.export_state)

    async def reset(self) -> None:
        """See `PoolStream.reset`."""
        if self._cancelled is not None:
            await asyncio.wait([self._cancelled])
            self._cancelled = None
        await self._run(self._stream.reset)

    async def leave(self) -> None:
        """See `PoolStream.leave`."""
        await asyncio.get_running_loop().run_in_executor(None, self._stream.leave)

    async def _run(self, call: Callable[[], T]) -> T:
        async with self._order:
            if self._cancelled is not None:
                raise WaveError(
                    "this stream lost a piece when a call was cancelled; reset it or leave"
                )
            work = asyncio.get_running_loop().run_in_executor(self._threads, call)
            try:
                return await asyncio.shield(work)
            except asyncio.CancelledError:
                self._cancelled = work
                raise
