"""Many clients in one process: a stream for each, used from any threads."""

import threading
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from torch import Tensor

from ...errors import CapacityError
from ..tokens import Tokens
from .latency import StreamStats, StreamTiming
from .session import StreamEnd, StreamSession

if TYPE_CHECKING:
    from ..interface import AudioTokenizer


class StreamPool:
    """Opens streams for clients, up to a capacity, on one tokenizer.

    Each client has a session of one row, and calls it from whatever thread it likes, when it likes:
    none waits for another's frame. In threads, one for each core, they run side by side, since
    compiled kernels release the interpreter's lock. The weights are there once; a client adds
    `state_bytes`.

    What it costs: each call reads all weights, and pays for a call, for the frames of one client.
    Where a server hears all clients at a tick, as a mixer does, drive them as rows of a
    `StreamSession`, one session for each core: the frames of all rows go through the network
    together, at a fraction of the time (`benchmarks/stream_sessions.py` measures both). Rows join,
    pause, leave and move as clients do, and give the same codes.

    PyTorch's own threads only get in the way: a service should call ``torch.set_num_threads(1)``.

    Args:
        tokenizer: for all clients. It is run once, so that no client waits for its compilation.
        capacity: clients at a time.
        num_codebooks: as in `AudioTokenizer.encode`.

    Raises:
        CapacityError: the capacity is below 1.
        TokenError: `num_codebooks` out of range.
    """

    def __init__(
        self, tokenizer: "AudioTokenizer", capacity: int, num_codebooks: int | None = None
    ) -> None:
        if capacity < 1:
            raise CapacityError(f"the capacity must be at least 1, got {capacity}")
        self.tokenizer = tokenizer
        self.capacity = capacity
        self._num_codebooks = num_codebooks
        self._lock = threading.Lock()
        self._clients: set[PoolStream] = set()
        self._left = StreamTiming()  # of the clients that have left
        self._closed = False
        frame = torch.zeros(tokenizer.spec.tokens.hop)
        tokenizer.decode(tokenizer.encode(frame, tokenizer.spec.sample_rate, None, num_codebooks))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    @property
    def clients(self) -> int:
        """How many there are now."""
        return len(self._clients)

    @property
    def stats(self) -> StreamStats:
        """Of all clients that are here or were."""
        with self._lock:
            parts = [self._left, *(client._session.timing for client in self._clients)]
            return StreamTiming.of(parts).stats(self.tokenizer.spec)

    def join(self, state: bytes | None = None) -> "PoolStream":
        """Open a stream for a client; it holds its place until it leaves.

        Args:
            state: go on where another stream was, which exported it.

        Raises:
            CapacityError: the pool is full, or closed; nothing was done with the state.
            StateError: as in `StreamSession.import_row`; the place is free again.
            WaveError: the pool was closed meanwhile.
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
        """End all streams. A call that is at work is waited for."""
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

    Calls may come from any thread, one at a time; others wait. The order of calls that wait is not
    kept, so a client that has several threads must keep the order of its pieces itself.
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

    def decode(self, tokens: Tokens, final: bool = False) -> Tensor:
        """See `StreamSession.decode`: (1, samples)."""
        with self._lock:
            return self._session.decode(tokens, final)

    def flush(self) -> StreamEnd:
        """See `StreamSession.flush`."""
        with self._lock:
            return self._session.flush()

    def reset(self) -> None:
        """Begin afresh: another speaker."""
        with self._lock:
            self._session.reset()

    def export_state(self) -> bytes:
        """See `StreamSession.export_row`; `StreamPool.join` takes it."""
        with self._lock:
            return self._session.export_row(0)

    def _import_state(self, state: bytes) -> None:
        """Go on where another stream was, or leave."""
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
        """Give the place back; calls that follow raise `WaveError`. Leaving twice is no error."""
        with self._lock:
            self._session.__exit__()
        self._pool._leave(self)
