"""A pool of streams for many clients in one process, usable from any thread."""

import math
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol, Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from ...errors import CapacityError
from ..latents import Latents
from ..tokens import Tokens
from ..waves import Wave
from .latency import StreamStats, StreamTiming
from .session import Chunk, StreamEnd, StreamSession
from .tokenizer import StreamingTokenizer

T = TypeVar("T")


class PooledTokenizer(StreamingTokenizer, Protocol):
    """What a pool needs of a tokenizer: also a session for each client."""

    def stream(
        self,
        batch_size: int = 1,
        num_codebooks: int | None = None,
        sample_rate: int | None = None,
    ) -> StreamSession:
        """See `AudioTokenizer.stream`."""

    def encode(
        self,
        wave: Wave,
        sample_rate: int,
        lengths: Tensor | Sequence[int] | None = None,
        num_codebooks: int | None = None,
    ) -> Tokens:
        """See `AudioTokenizer.encode`."""

    def decode(self, tokens: Tokens) -> Tensor:
        """See `AudioTokenizer.decode`."""


class StreamPool:
    """Opens streams for clients, up to a capacity, on one tokenizer.

    Each client has a session of one row, and calls it from any thread at any time: no client waits
    for another's frame. With one thread per core they run in parallel, since compiled kernels
    release the GIL. The weights are shared; each client adds `state_bytes`.

    The cost: every call reads all weights for the frames of a single client. A server that gets
    audio from all clients at the same time, as a mixer does, should rather use the rows of a
    `StreamSession`, one session per core: the frames of all rows go through the network together,
    in a fraction of the time (`benchmarks/stream_sessions.py` measures both). Rows can join, pause,
    leave and move as clients can, and give the same codes.

    PyTorch's own threads only add overhead here: a service should call
    ``torch.set_num_threads(1)``.

    Args:
        tokenizer: for all clients. It is run once, so that no client waits for its compilation.
        capacity: maximum number of clients at a time.
        num_codebooks: as in `AudioTokenizer.encode`.
        idle_s: seconds without a call after which a client loses its place, if another one needs
            it; default: never.

    Raises:
        CapacityError: the capacity is below 1, or `idle_s` is not positive.
        TokenError: `num_codebooks` out of range.
    """

    def __init__(
        self,
        tokenizer: PooledTokenizer,
        capacity: int,
        num_codebooks: int | None = None,
        idle_s: float | None = None,
    ) -> None:
        if capacity < 1:
            raise CapacityError(f"the capacity must be at least 1, got {capacity}")
        if idle_s is not None and not idle_s > 0:
            raise CapacityError(f"idle_s must be positive, got {idle_s}")
        self.tokenizer = tokenizer
        self.capacity = capacity
        self.idle_s = idle_s
        self._num_codebooks = num_codebooks
        self._lock = threading.Lock()
        # A client that nobody holds any more leaves its place. The garbage collector may notice it
        # at any moment, while the lock is held too, so that it only appends to a queue.
        self._clients: weakref.WeakSet[PoolStream] = weakref.WeakSet()
        self._dropped: deque[StreamTiming] = deque()
        self._left = StreamTiming()  # of clients that have left
        self._closed = False
        frame = torch.zeros(tokenizer.spec.tokens.hop)
        tokenizer.decode(tokenizer.encode(frame, tokenizer.spec.sample_rate, None, num_codebooks))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def __repr__(self) -> str:
        name = self.tokenizer.spec.tokens.tokenizer
        state = "closed, " if self._closed else ""
        return f"StreamPool({name!r}, {state}{self.clients} of {self.capacity} places taken)"

    @property
    def clients(self) -> int:
        """Number of clients at present."""
        return len(self._clients)

    @property
    def stats(self) -> StreamStats:
        """Statistics of all present and past clients."""
        with self._lock:
            self._count_dropped()
            parts = [self._left, *(client._session.timing for client in self._clients)]
            return StreamTiming.of(parts).stats(self.tokenizer.spec)

    def join(self, state: bytes | None = None, sample_rate: int | None = None) -> "PoolStream":
        """Open a stream for a client.

        It holds its place until it leaves, or nobody holds it any more, or it was idle for `idle_s`
        seconds when another one joins a full pool.

        Args:
            state: exported by another stream, to continue from there.
            sample_rate: as in `AudioTokenizer.stream`.

        Raises:
            CapacityError: the pool is full or closed; the state was not used.
            StateError: as for `StreamSession.import_row`; the place is free again.
            WaveError: the pool was closed in the meantime; or a rate that can't be converted.
        """
        session = self.tokenizer.stream(1, self._num_codebooks, sample_rate)
        client = PoolStream(self, session)
        while not self._add(client):
            if (idle := self._idle_client()) is None:
                raise CapacityError(
                    f"all {self.capacity} places of the pool are taken; try again when a client "
                    "has left"
                )
            idle.leave()
            del idle
        if state is not None:
            client._import_state(state)
        return client

    def _add(self, client: "PoolStream") -> bool:
        """Give a client a place; return whether there was one."""
        with self._lock:
            if self._closed:
                raise CapacityError("the pool is closed")
            if len(self._clients) >= self.capacity:
                return False
            self._clients.add(client)
            timing = client._session.timing
            client._dropping = weakref.finalize(client, self._dropped.append, timing)
            client._dropping.atexit = False
            return True

    def _idle_client(self) -> "PoolStream | None":
        """Return the client that was idle longest, if that was long enough."""
        if self.idle_s is None:
            return None
        latest = time.monotonic() - self.idle_s
        with self._lock:
            idle = [each for each in self._clients if each._idle_since <= latest]
        return min(idle, key=lambda each: each._idle_since, default=None)

    def _count_dropped(self) -> None:
        while self._dropped:
            self._left.merge(self._dropped.popleft())

    def close(self) -> None:
        """End all streams, waiting for calls in progress."""
        with self._lock:
            self._closed = True
            clients = list(self._clients)
        for client in clients:
            client.leave()

    def _leave(self, client: "PoolStream") -> None:
        with self._lock:
            if client in self._clients:
                self._clients.remove(client)
                if client._dropping is not None:
                    client._dropping.detach()
                self._left.merge(client._session.timing)


class PoolStream:
    """The stream of one client of a `StreamPool`: a `StreamSession` of one row, behind a lock.

    Calls may come from any thread; they run one at a time. The order of waiting calls is not
    kept, so a client with several threads must keep the order of its chunks itself.
    """

    def __init__(self, pool: StreamPool, session: StreamSession) -> None:
        self._pool, self._session = pool, session
        self._lock = threading.Lock()
        self._dropping: weakref.finalize[..., PoolStream] | None = None
        self._idle_since = time.monotonic()  # infinite within a call

    def __repr__(self) -> str:
        return f"PoolStream({self._session!r})"

    def _call(self, call: Callable[[], T]) -> T:
        """Make a call on the session, alone."""
        with self._lock:
            self._idle_since = math.inf
            try:
                return call()
            finally:
                self._idle_since = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.leave()

    def encode(self, chunk: Chunk, final: bool = False) -> Tokens:
        """See `StreamSession.encode`; the chunk is (samples,) or bytes."""
        return self._call(lambda: self._session.encode(chunk, final=final))

    def latents(self, chunk: Chunk, final: bool = False) -> Latents:
        """See `StreamSession.latents`; the chunk is (samples,) or bytes."""
        return self._call(lambda: self._session.latents(chunk, final=final))

    def decode(
        self,
        tokens: Tokens | Latents | None,
        final: bool = False,
        lost: Tensor | np.ndarray | None = None,
    ) -> Tensor:
        """See `StreamSession.decode`; returns (1, samples)."""
        return self._call(lambda: self._session.decode(tokens, final, lost))

    def flush(self) -> StreamEnd:
        """See `StreamSession.flush`."""
        return self._call(self._session.flush)

    def reset(self) -> None:
        """Reset the stream's state, for new audio."""
        self._call(self._session.reset)

    def export_state(self) -> bytes:
        """See `StreamSession.export_row`; `StreamPool.join` accepts the result."""
        return self._call(lambda: self._session.export_row(0))

    def _import_state(self, state: bytes) -> None:
        """Continue from another stream's state; on failure, leave the pool."""
        try:
            with self._lock:
                self._session.import_row(0, state)
        except BaseException:
            self.leave()
            raise

    @property
    def stats(self) -> StreamStats:
        """See `StreamSession.stats`."""
        with self._lock:
            return self._session.stats

    @property
    def state_bytes(self) -> int:
        """See `StreamSession.state_bytes`."""
        with self._lock:
            return self._session.state_bytes[0]

    def leave(self) -> None:
        """Free the place; later calls raise `WaveError`. Leaving twice is allowed."""
        with self._lock:
            self._session.__exit__()
        self._pool._leave(self)
