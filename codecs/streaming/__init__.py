"""The streaming engine: what a family's machines do, and what drives them.

A family supplies an `EncoderStream` and a `DecoderStream` (`protocol.py`), whose rows have states
of fixed shapes (`state.py`). A user drives them by a `StreamSession` (`session.py`), or by a
`StreamPool` or `AsyncStreamPool` of many. Rows move between processes as bytes (`migration.py`),
and every call is timed (`latency.py`).
"""

from .async_pool import AsyncPoolStream, AsyncStreamPool
from .latency import CallStats, StreamStats
from .pool import PoolStream, StreamPool
from .protocol import DecoderStream, EncoderStream, RowStream, row_flags
from .session import StreamEnd, StreamSession

__all__ = [
    "AsyncPoolStream",
    "AsyncStreamPool",
    "CallStats",
    "DecoderStream",
    "EncoderStream",
    "PoolStream",
    "RowStream",
    "StreamEnd",
    "StreamPool",
    "StreamSession",
    "StreamStats",
    "row_flags",
]
