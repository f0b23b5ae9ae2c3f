# mypy: allow-untyped-calls
# numba reads the types of a kernel's arguments from its calls.
"""Cut the windows that new samples complete, for all rows of a stream in one call."""

from typing import NamedTuple

import numpy as np

from ....errors import WaveError
from ....kernels.cache import kernel
from .packing import Array

_MOST = np.finfo(np.float32).max


class Windows(NamedTuple):
    """New windows of some rows of a stream.

    Attributes:
        rows: (busy,) int64 the rows that have new windows.
        edges: (busy + 1,) int64: row `rows[r]` has the windows from `edges[r]` to `edges[r + 1]`.
        firsts: (busy,) int64 of these, the first one that is not before the start of the audio by
            the look-ahead.
        samples: (windows, window) float32.
    """

    rows: Array
    edges: Array
    firsts: Array
    samples: Array

    def places(self) -> tuple[Array, Array, Array]:
        """Return rows, and for each where its windows start, the first ones left out, and end."""
        return self.rows, self.firsts, self.edges[1:]


class HeldSamples:
    """The latest samples of all rows of a stream, from which windows reach back.

    Args:
        rows: number of rows.
        hop: samples from a window to the next.
        window: samples of a window, which ends where its frame ends; zeros before the start and
            after the end of the audio.
        look_ahead: windows of zeros after the last frame.

    Attributes:
        samples: (rows, window - 1) float32; the first ones of a row are those that future windows
            include.
        taken: (rows,) int64 samples so far.
        pushed: (rows,) int64 windows so far.
    """

    def __init__(self, rows: int, hop: int, window: int, look_ahead: int) -> None:
        self.shape = hop, window, look_ahead
        self.samples = np.zeros((rows, window - 1), np.float32)
        self.taken, self.pushed = np.zeros(rows, np.int64), np.zeros(rows, np.int64)

    def push(self, samples: Array, starts: Array, counts: Array, final: Array) -> Windows:
        """Take new samples of each row.

        Args:
            samples: float32, of all rows in one dimension.
            starts, counts: (rows,) int64: where the samples of a row are.
            final: (rows,) bool: whether a row ends with them.

        Raises:
            WaveError: NaN or infinite samples; nothing was taken then.
        """
        wrong, *windows = _cut_rows(
            samples, starts, counts, final, self.samples, self.taken, self.pushed, *self.shape
        )
        if wrong >= 0:
            raise WaveError(f"row {wrong} of the wave holds NaN or infinity")
        return Windows(*windows)

    def reset(self, row: int) -> None:
        """Forget the samples of a row."""
        self.samples[row] = 0
        self.taken[row] = self.pushed[row] = 0


@kernel
def _cut_rows(  # type: ignore[no-untyped-def]
    samples, starts, counts, final, held, taken, pushed, hop, window, look_ahead
):
    """Return -1 and the fields of `Windows`; `held`, `taken` and `pushed` are updated.

    If a row has samples that are not finite, its number comes first, and nothing is updated.
    """
    rows = counts.shape[0]
    new = np.empty(rows, np.int64)
    busy = total = 0
    wrong = -1
    for r in range(rows):
        for i in range(starts[r], starts[r] + counts[r]):
            if not abs(samples[i]) <= _MOST:
                wrong = r
    if wrong >= 0:
        nothing = np.empty(0, np.int64)
        return wrong, nothing, nothing, nothing, np.empty((0, window), np.float32)
    for r in range(rows):
        after = taken[r] + counts[r]
        new[r] = after // hop - pushed[r]
        if final[r] and after:
            new[r] = -(-after // hop) + look_ahead - pushed[r]
        if new[r]:
            busy += 1
            total += new[r]
    chosen, firsts = np.empty(busy, np.int64), np.empty(busy, np.int64)
    edges = np.zeros(busy + 1, np.int64)
    out = np.empty((total, window), np.float32)
    at = done = 0
    for r in range(rows):
        start, count, frames = starts[r], counts[r], new[r]
        known = window - hop + taken[r] - pushed[r] * hop
        for n in range(frames):
            first = n * hop
            # Held samples, new ones, and zeros after the end.
            end = min(max(known - first, 0), window)
            last = min(max(known + count - first, 0), window)
            for i in range(end):
                out[done + n, i] = held[r, first + i]
            from_ = start + first - known
            for i in range(end, last):
                out[done + n, i] = samples[from_ + i]
            for i in range(last, window):
                out[done + n, i] = 0
        if frames:
            chosen[at], edges[at + 1] = r, done + frames
            firsts[at] = done + min(frames, max(0, look_ahead - pushed[r]))
            at += 1
            done += frames
        if (count or frames) and not final[r]:
            step = frames * hop
            for i in range(step, known):
                held[r, i - step] = held[r, i]
            for i in range(max(step, known), known + count):
                held[r, i - step] = samples[start + i - known]
        taken[r] += count
        pushed[r] += frames
    return wrong, chosen, edges, firsts, out
