"""A pool of streams for many clients in one process, usable from any thread."""

import threading
from collections.abc import Sequence
from typing import Protocol, Self

import numpy as np
import torch
from torch import Tensor

from ...errors import CapacityError
from ..latents import Latents
from ..tokens import Tokens
from .latency import StreamStats, StreamTiming
from .session import StreamEnd, StreamSession
from .tokenizer import StreamingTokenizer


class PooledTokenizer(StreamingTokenizer, Protocol):
    """What a pool needs of a tokenizer: also a session for each client."""

    def stream(self, batch_size: int = 1, num_codebooks: int | None = None) -> StreamSession:
        """See `AudioTokenizer.stream`."""

    def encode(
        self,
        wave: Tensor | np.ndarray,
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

    Raises:
        CapacityError: the capacity is below 1.
        TokenError: `num_codebooks` out of range.
    """

    def __init__(
        self, tokenizer: PooledTokenizer, capacity: int, num_codebooks: int | None = None
    ) -> None:
        if capacity < 1:
            raise CapacityError(f"the capacity must be at least 1, got {capacity}")
        self.tokenizer = tokenizer
        self.capacity = capacity
        self._num_codebooks = num_codebooks
        self._lock = threading.Lock()
        self._clients: set[PoolStream] = set()
        self._left = StreamTiming()  # of clients that have left
        self._closed = False
        frame = torch.zeros(tokenizer.spec.tokens.hop)
        tokenizer.decode(tokenizer.encode(frame, tokenizer.spec.sample_rate, None, num_codebooks))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    @property
    def clients(self) -> int:
        """Number of clients at present."""
        return len(self._clients)

    @property
    def stats(self) -> StreamStats:
        """Statistics of all present and past clients."""
        with self._lock:
            parts = [self._left, *(client._session.timing for client in self._clients)]
            return StreamTiming.of(parts).stats(self.tokenizer.spec)

    def join(self, state: bytes | None = None) -> "PoolStream":
        """Open a stream for a client; it holds its place until it leaves.

        Args:
            state: exported by another stream, to continue from there.

        Raises:
            CapacityError: the pool is full or closed; the state was not used.
            StateError: as for `StreamSession.import_row`; the place is free again.
            WaveError: the pool was closed in the meantime.
        """
        client = PoolStream(self, self.tokenizer.stream(num_codebooks=self._num_codebooks))
        with self._lock:
            if self._closed:
                raise CapacityError("the pool is closed")
            if len(self._clients) >= self.capacity:
                raise CapacityError(
                    f"all {self.capacity} places of the pool are taken; try again when a client "
                    "has left"
                )
            self._clients.add(client)
        if state is not None:
            client._import_state(state)
        return client

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
                self._left.merge(client._session.timing)


class PoolStream:
    """The stream of one client of a `StreamPool`: a `StreamSession` of one row, behind a lock.

    Calls may come from any thread; they run one at a time. The order of waiting calls is not
    kept, so a client with several threads must keep the order of its chunks itself.
    """

    def __init__(self, pool: StreamPool, session: StreamSession) -> None:
        self._pool, self._session = pool, session
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.leave()

    def encode(self, chunk: Tensor | np.ndarray, final: bool = False) -> Tokens:
        """See `StreamSession.encode`; the chunk is (samples,)."""
        with self._lock:
            return self._session.encode(chunk, final=final)

    def latents(self, chunk: Tensor | np.ndarray, final: bool = False) -> Latents:
        """See `StreamSession.latents`; the chunk is (samples,)."""
        with self._lock:
            return self._session.latents(chunk, final=final)

    def decode(self, tokens: Tokens | Latents, final: bool = False) -> Tensor:
        """See `StreamSession.decode`; returns (1, samples)."""
        with self._lock:
            return self._session.decode(tokens, final)

    def flush(self) -> StreamEnd:
        """See `StreamSession.flush`."""
        with self._lock:
            return self._session.flush()

    def reset(self) -> None:
        """Reset the stream's state, for new audio."""
        with self._lock:
            self._session.reset()

    def export_state(self) -> bytes:
        """See `StreamSession.export_row`; `StreamPool.join` accepts the result."""
        with self._lock:
            return self._session.export_row(0)

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
