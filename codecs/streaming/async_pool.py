"""The pool for asyncio: calls run in a few threads, and the event loop goes on."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np
from torch import Tensor

from ...errors import CapacityError, WaveError
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
        CapacityError, TokenError: as `StreamPool` does; or `threads` is below 1.
    """

    def __init__(
        self,
        tokenizer: "AudioTokenizer",
        capacity: int,
        threads: int,
        num_codebooks: int | None = None,
    ) -> None:
        if threads < 1:
            raise CapacityError(f"the number of threads must be at least 1, got {threads}")
        self._pool = StreamPool(tokenizer, capacity, num_codebooks)
        self._closed = False
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
        """See `StreamPool.join`. Use it as ``async with pool.join() as stream``.

        The place is taken at once. A state is read in a thread, when the stream is entered or with
        its first call, which so may raise `StateError`; the place is free again then.
        """
        return AsyncPoolStream(self, self._pool.join(), state)

    async def close(self) -> None:
        """End all streams, and the threads."""
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

    Calls that overlap run one by one, in the order in which they were made. A task that is
    cancelled while its call runs loses what the call gives, so that nothing could go on from it:
    the stream raises `WaveError` from then on, until it is reset.
    """

    def __init__(self, pool: AsyncStreamPool, stream: PoolStream, state: bytes | None) -> None:
        self._pool, self._stream = pool, stream
        self._state = state  # to go on from, until the first call
        self._order = asyncio.Lock()  # which is fair
        self._cancelled: asyncio.Future[Any] | None = None  # a call whose result nobody has

    async def __aenter__(self) -> Self:
        if self._state is not None:
            try:
                await self._run(lambda: None)
            except asyncio.CancelledError:
                # `__aexit__` will not come, and the import may take its time.
                asyncio.get_running_loop().run_in_executor(None, self._stream.leave)
                raise
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
            state, self._state = self._state, None

            def work() -> T:
                if state is not None:
                    self._stream._import_state(state)
                return call()

            running = self._pool._start(work)
            try:
                await asyncio.wait([running])  # which leaves it alone when it is cancelled itself
            except asyncio.CancelledError:
                self._cancelled = running
                # Nobody else will look at how it ends, which asyncio would complain of.
                running.add_done_callback(lambda ended: ended.exception())
                raise
            return running.result()
