"""A stream pool for asyncio: calls run on a few threads and never block the event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self, TypeVar

import numpy as np
from torch import Tensor

from ...errors import CapacityError, WaveError
from ..latents import Latents
from ..tokens import Tokens
from .latency import StreamStats
from .pool import PooledTokenizer, PoolStream, StreamPool
from .session import Chunk, StreamEnd

T = TypeVar("T")


class AsyncStreamPool:
    """A `StreamPool` whose streams have awaitable methods.

    Args:
        tokenizer, capacity, num_codebooks, idle_s: see `StreamPool`. The constructor runs the
            tokenizer once, which may take seconds, so create the pool before the event loop is
            busy.
        threads: number of threads that run the calls; at most the number of spare cores.

    Raises:
        CapacityError, TokenError: as for `StreamPool`; or `threads` is below 1.
    """

    def __init__(
        self,
        tokenizer: PooledTokenizer,
        capacity: int,
        threads: int,
        num_codebooks: int | None = None,
        idle_s: float | None = None,
    ) -> None:
        if threads < 1:
            raise CapacityError(f"the number of threads must be at least 1, got {threads}")
        self._pool = StreamPool(tokenizer, capacity, num_codebooks, idle_s)
        self._closed = False
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="syllabary")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"Async{self._pool!r}"

    @property
    def clients(self) -> int:
        """Number of clients at present."""
        return self._pool.clients

    @property
    def stats(self) -> StreamStats:
        """Statistics of all present and past clients, excluding the wait for a thread."""
        return self._pool.stats

    def join(self, state: bytes | None = None, sample_rate: int | None = None) -> "AsyncPoolStream":
        """See `StreamPool.join`. Use as ``async with pool.join() as stream``.

        The place is taken at once. A state is imported on a thread, on entering the stream or at
        its first call; that may raise `StateError`, which frees the place again.
        """
        return AsyncPoolStream(self, self._pool.join(sample_rate=sample_rate), state)

    async def close(self) -> None:
        """End all streams and threads."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self._pool.close)
        self._closed = True
        self._threads.shutdown(wait=False)

    def _start(self, call: Callable[[], T]) -> "asyncio.Future[T]":
        if self._closed:
            raise WaveError("the pool is closed: its streams have ended")
        return asyncio.get_running_loop().run_in_executor(self._threads, call)


class AsyncPoolStream:
    """The stream of one client of an `AsyncStreamPool`; see `PoolStream`.

    Overlapping calls run one by one, in the order in which they were made. If a task is cancelled
    during its call, the call's result is lost and the stream can't be continued: it raises
    `WaveError` until it is reset.
    """

    def __init__(self, pool: AsyncStreamPool, stream: PoolStream, state: bytes | None) -> None:
        self._pool, self._stream = pool, stream
        self._state = state  # imported at the first call
        self._order = asyncio.Lock()  # asyncio's locks are fair
        self._cancelled: asyncio.Future[Any] | None = None  # a call whose result was lost

    def __repr__(self) -> str:
        return f"Async{self._stream!r}"

    async def __aenter__(self) -> Self:
        if self._state is not None:
            try:
                await self._run(lambda: None)
            except asyncio.CancelledError:
                # `__aexit__` won't be called, and the import may take a while.
                asyncio.get_running_loop().run_in_executor(None, self._stream.leave)
                raise
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.leave()

    async def encode(self, chunk: Chunk, final: bool = False) -> Tokens:
        """See `PoolStream.encode`."""
        return await self._run(lambda: self._stream.encode(chunk, final))

    async def latents(self, chunk: Chunk, final: bool = False) -> Latents:
        """See `PoolStream.latents`."""
        return await self._run(lambda: self._stream.latents(chunk, final))

    async def decode(
        self,
        tokens: Tokens | Latents | None,
        final: bool = False,
        lost: Tensor | np.ndarray | None = None,
    ) -> Tensor:
        """See `PoolStream.decode`."""
        return await self._run(lambda: self._stream.decode(tokens, final, lost))

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
            state, self._state = self._state, None

            def work() -> T:
                if state is not None:
                    self._stream._import_state(state)
                return call()

            running = self._pool._start(work)
            try:
                await asyncio.wait([running])  # a cancelled `wait` does not cancel the call
            except asyncio.CancelledError:
                self._cancelled = running
                # Read the exception, or asyncio logs that it was never retrieved.
                running.add_done_callback(lambda ended: ended.exception())
                raise
            return running.result()
