"""The server's side of workers that are forked from a template (`template.py`)."""

import contextlib
import os
import select
import signal
import subprocess

#: Whether processes that are no children can be watched and killed without mistaking another for
#: them: on Linux.
CAN_FORK = hasattr(os, "pidfd_open") and hasattr(signal, "pidfd_send_signal")


class ForkedProcess:
    """A worker, in the place of `subprocess.Popen`.

    Attributes:
        pid: once it has said so; 0 before.
    """

    def __init__(self) -> None:
        self.pid = 0
        self._handle: int | None = None

    def met(self, pid: int) -> None:
        """Note its number, which it has just said."""
        self.pid = pid
        try:
            self._handle = os.pidfd_open(pid)
        except ProcessLookupError:
            self._handle = None  # it has gone already

    def kill(self) -> None:
        if self._handle is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> None:
        """Wait until it has gone.

        Raises:
            subprocess.TimeoutExpired: it is still there.
        """
        if self._handle is None:
            return
        ends = select.poll()
        ends.register(self._handle, select.POLLIN)
        if not ends.poll(None if timeout is None else 1000 * timeout):
            raise subprocess.TimeoutExpired("worker", timeout or 0.0)
        os.close(self._handle)
        self._handle = None
