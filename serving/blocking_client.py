"""The client for programs without asyncio: the same stream, run by a thread."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import Any, Self, TypeVar

import numpy as np

from ..errors import ServingError
from .client import Stream, connect
from .client_link import Counts
from .protocol import Ended, Message, Ready

T = TypeVar("T")


class BlockingStream:
    """A `Stream` whose methods block. One thread may send while another iterates."""

    def __init__(self, stream: Stream, loop: asyncio.AbstractEventLoop) -> None:
        self._stream, self._loop = stream, loop

    @property
    def ready(self) -> Ready:
        """The server's answer."""
        return self._stream.ready

    @property
    def ended(self) -> Ended | None:
        """Totals of the latest complete utterance."""
        return self._stream.ended

    @property
    def counts(self) -> Counts:
        return self._stream.counts

    def send(self, data: bytes | np.ndarray) -> None:
        """See `Stream.send`."""
        self._wait(self._stream.send(data))

    def end(self) -> None:
        """See `Stream.end`."""
        self._wait(self._stream.end())

    def reset(self) -> None:
        """See `Stream.reset`."""
        self._wait(self._stream.reset())

    def close(self) -> None:
        """End the stream for good, whatever other threads wait for; see `Stream.close`."""
        self._wait(self._stream.close())

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Message:
        message = self._wait(_next(self._stream))
        if message is None:
            raise StopIteration
        return message

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return _run(self._loop, work)


async def _next(stream: Stream) -> Message | None:
    try:
        return await anext(stream)
    except StopAsyncIteration:  # a future can't hold it
        return None


def _run(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    if loop.is_closed():
        work.close()
        raise ServingError("the stream is closed")
    future = asyncio.run_coroutine_threadsafe(work, loop)
    try:
        return future.result()
    except CancelledError:
        raise ServingError("the stream is closed") from None
    except BaseException:  # a signal: don't leave it running
        future.cancel()
        raise


@contextmanager
def connect_blocking(*arguments: Any, **options: Any) -> Iterator[BlockingStream]:
    """Open a stream, as `connect` does, for use without asyncio."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="syllabary-stream", daemon=True)
    thread.start()
    try:
        context = connect(*arguments, **options)
        stream = _run(loop, context.__aenter__())
        try:
            yield BlockingStream(stream, loop)
        finally:
            _run(loop, context.__aexit__(None, None, None))
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
