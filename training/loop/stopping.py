"""When to stop between two steps: the time limit is reached, or a signal was received."""

import signal
import threading
import time
from contextlib import AbstractContextManager
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopping(AbstractContextManager["Stopping"]):
    """Receives signals inside its `with` block, and checks the time.

    The first SIGTERM or SIGINT requests a stop after the step; a second SIGINT stops at once.

    Args:
        budget: time limit of the run in seconds, or None.
        began: start of the budget on the clock of `time.perf_counter`; default: now.
    """

    def __init__(self, budget: float | None, began: float | None = None) -> None:
        began = time.perf_counter() if began is None else began
        self.deadline = None if budget is None else began + budget
        self.signal: int | None = None
        self.time_is_up = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Stopping":
        # Python allows signal handlers in the main thread only.
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *failure: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number

    def wanted(self, seconds: float) -> bool:
        """Return whether to stop, if it takes so many seconds until the next chance to stop."""
        if self.deadline is not None and time.perf_counter() + seconds > self.deadline:
            self.time_is_up = True
        return self.time_is_up or self.signal is not None
