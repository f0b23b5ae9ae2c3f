"""Streaming: stateful encoder and decoder streams, and the sessions and pools that run them.

A family supplies an `EncoderStream` and a `DecoderStream` (`protocol.py`), whose rows have states
of fixed shapes (`state.py`). Users run them through a `StreamSession` (`session.py`), or through a
`StreamPool` or `AsyncStreamPool` of many clients. Rows move between processes as bytes
(`migration.py`), and every call is timed (`latency.py`).
"""

from .async_pool import AsyncPoolStream, AsyncStreamPool
from .latency import CallStats, StreamStats
from .pool import PoolStream, StreamPool
from .protocol import DecoderStream, EncoderStream, LatentStream, RowStream, row_flags
from .session import StreamEnd, StreamSession

__all__ = [
    "AsyncPoolStream",
    "AsyncStreamPool",
    "CallStats",
    "DecoderStream",
    "EncoderStream",
    "LatentStream",
    "PoolStream",
    "RowStream",
    "StreamEnd",
    "StreamPool",
    "StreamSession",
    "StreamStats",
    "row_flags",
]
