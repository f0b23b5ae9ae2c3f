"""An event loop that handles what arrives within a tick together.

A stream sends some tens of small messages a second, so a server of many streams is woken thousands
of times a second, and each time finds the processor's caches full of what the workers computed
meanwhile. Waking is most of what a message costs. So the loop, once it has handled something,
does not look again before the tick is over (network cards call this interrupt moderation): what
arrives meanwhile is read in one go, goes to the worker in one message, and comes back in one. After
a pause the first message is handled at once.
"""

import asyncio
import selectors
import time


class TickingSelector(selectors.DefaultSelector):
    """Reports events at most once a tick.

    Args:
        seconds: of a tick; 0: none.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds
        self._next = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait for events until the timeout (None: for ever); 0 only looks, without a tick."""
        if timeout is not None and timeout <= 0:
            return super().select(timeout)
        if (wait := self._next - time.monotonic()) > 0:
            if timeout is not None and timeout <= wait:
                time.sleep(timeout)
                return super().select(0)
            time.sleep(wait)
            timeout = None if timeout is None else timeout - wait
        found = super().select(timeout)
        if found:
            self._next = time.monotonic() + self._seconds
        return found


def new_event_loop(tick_ms: float) -> asyncio.AbstractEventLoop:
    """Return an event loop with ticks of so many milliseconds; 0: one without."""
    if not tick_ms:
        return asyncio.new_event_loop()
    return asyncio.SelectorEventLoop(TickingSelector(tick_ms / 1000))
