"""Count usable processor cores and set PyTorch's number of threads."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


def usable_cores() -> int:
    """Return the number of cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def use_one_thread() -> None:
    """Limit torch to one thread.

    The operations here are small: more threads gain nothing, and cost much when one of them has to
    wait for its core. Cores are used by processing several files, or in several processes, instead.
    """
    import torch

    torch.set_num_threads(1)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Set torch's number of threads within a context.

    With one thread, the last bits of sums and matrix products are reproducible everywhere.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
