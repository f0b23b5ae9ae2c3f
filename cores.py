"""Processor cores that may be used, and PyTorch's threads on them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def use_one_thread() -> None:
    """Run torch's operations on one thread.

    Ours are small: several threads gain nothing, and lose everything where a neighbour keeps one
    of them waiting. The cores are used by several files, or processes, at a time.
    """
    import torch

    torch.set_num_threads(1)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """So many threads for torch's operations for a while.

    On one, the last bits of sums and matrix products do not depend on how many there were.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
