"""Distribute rows over threads, and keep scratch memory per thread.

Allocating megabytes for every call costs more than the search (page faults), and matrix products
must run on the calling thread only, since rows are already distributed.
"""

import math
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import torch

_local = threading.local()
_pool: ThreadPoolExecutor | None = None
_pool_size = 0
_lock = threading.Lock()


def scratch(name: str, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """Return an uninitialized array of this thread, valid until the next call with the name."""
    buffers = _local.__dict__.setdefault("buffers", {})
    count = math.prod(shape)
    buffer: np.ndarray | None = buffers.get((name, dtype))
    if buffer is None or buffer.size < count:
        # Aligned to a cache line, for faster matrix kernels.
        raw = np.empty(count * np.dtype(dtype).itemsize + 64, np.uint8)
        start = -raw.ctypes.data % 64
        end = start + count * np.dtype(dtype).itemsize
        buffer = buffers[name, dtype] = raw[start:end].view(dtype)
    return buffer[:count].reshape(shape)


def share_rows(work: Callable[[int, int], None], num_rows: int, least: int) -> None:
    """Call work(start, stop) for ranges that cover all rows, on as many threads as torch uses.

    Args:
        work: must release the GIL for most of its time. Its first error is raised.
        num_rows: number of rows.
        least: number of rows that makes another thread worthwhile.
    """
    threads = min(torch.get_num_threads(), -(-num_rows // least))
    if threads <= 1:
        work(0, num_rows)
        return
    # Several ranges per thread, so that a delayed thread does not delay the rest.
    parts = min(4 * threads, -(-num_rows // least))
    bounds = [num_rows * part // parts for part in range(parts + 1)]
    ranges = pairwise(bounds)

    def consume() -> None:
        while True:
            with _lock:
                part = next(ranges, None)
            if part is None:
                return
            work(*part)

    futures = [_workers(threads).submit(consume) for _ in range(threads)]
    for future in futures:
        future.result()


def _workers(count: int) -> ThreadPoolExecutor:
    global _pool, _pool_size
    with _lock:
        if _pool is None or _pool_size < count:
            _pool = ThreadPoolExecutor(count, "syllabary", initializer=_one_thread_each)
            _pool_size = count
        return _pool


def _one_thread_each() -> None:
    """Limit OpenMP to one thread on this thread only; torch's own setting would be global."""
    from threadpoolctl import threadpool_limits

    torch.get_num_threads()  # first, since torch sets this thread's number at its first use
    threadpool_limits(1, user_api="openmp")


def _forget_pool() -> None:
    global _pool, _lock
    _pool, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget_pool)
