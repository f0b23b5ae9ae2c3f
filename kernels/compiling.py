"""Tell whoever listens that a kernel is about to be compiled. Loads no numba."""

from collections.abc import Callable

#: Functions that are called with the name of each kernel before it is compiled.
listeners: list[Callable[[str], None]] = []


def announce(kernel: str) -> None:
    """Call the listeners."""
    for listen in listeners:
        listen(kernel)
