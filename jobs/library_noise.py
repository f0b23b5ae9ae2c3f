"""What decoding libraries write to standard error, caught so that it can be a file's note.

libmpg123 and others report damage there, without the file's name and between the lines of a
progress bar.
"""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def caught_noise() -> Iterator[Callable[[], str]]:
    """Catch what is written to file descriptor 2, but not what Python writes to `sys.stderr`.

    Yields:
        A function that returns what came since its last call. Threads share the descriptor, so
        with several workers it may be of a file that another one is reading. What nobody asked for
        is written to standard error at the end.
    """
    shown = sys.stderr
    try:
        own = shown.fileno() == 2
        shown.flush()
        kept = os.dup(2)
    except (OSError, ValueError, AttributeError):  # there is no standard error
        yield lambda: ""
        return
    with tempfile.TemporaryFile() as file:
        taken = 0

        def take() -> str:
            nonlocal taken
            said = os.pread(file.fileno(), 1 << 20, taken)
            taken += len(said)
            return said.decode(errors="backslashreplace")

        os.dup2(file.fileno(), 2)
        if own:
            sys.stderr = os.fdopen(
                os.dup(kept), "w", 1, encoding=shown.encoding, errors="backslashreplace"
            )
        try:
            yield take
        finally:
            if own:
                sys.stderr.close()
                sys.stderr = shown
            os.dup2(kept, 2)
            os.close(kept)
            os.write(2, take().encode(errors="backslashreplace"))


def as_note(said: str) -> str:
    """Return a note of what a library said: its last line, and how many there were."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    if not lines:
        return ""
    more = f" (and {len(lines) - 1} more lines)" if len(lines) > 1 else ""
    return f"a library said: {lines[-1][:200]}{more}"
