"""Lines about compiling: the first use of a codec on a machine takes seconds."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import click

from ..kernels.compiling import listeners

#: Seconds between lines.
_EVERY = 5.0


@contextmanager
def telling_of_compiling() -> Iterator[None]:
    """Say on standard error when the first kernel is compiled, and then every few seconds."""
    count = 0
    began = shown = 0.0

    def tell(kernel: str) -> None:
        nonlocal count, began, shown
        count += 1
        now = time.monotonic()
        if count == 1:
            began = shown = now
            click.echo("compiling for this processor, once: about 20 s", err=True)
        elif now - shown >= _EVERY:
            shown = now
            click.echo(f"compiling: {count} kernels in {now - began:.0f} s", err=True)

    listeners.append(tell)
    try:
        yield
    finally:
        listeners.remove(tell)
