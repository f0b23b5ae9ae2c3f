# mypy: allow-untyped-calls
# numba reads the types of a kernel's arguments from its calls.
"""Sample-rate conversion whose whole state can be exported: a polyphase FIR filter.

soxr (`resampling.py`) is what files are resampled with, but its state can't be read, so a stream
that it resamples can't be moved to another process. Here the state is the last samples and two
counts. Output sample n lies at input time n · source_rate / target_rate, without a delay; it is
available once `latency` more input samples are there. Every output is one sum in float64, in a
fixed order, over the same number of taps: the samples do not depend on how the input was split.

The filter is a sinc windowed by a Kaiser window (Kaiser & Schafer, 1980), designed once per pair of
rates: flat to 0.43 of the lower rate, at least 90 dB down from half of it.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import gcd

import numpy as np

from ..errors import StateError, WaveError
from ..kernels.cache import kernel

#: Taps on each side of an output sample, at the lower of the two rates.
_HALF = 48
_BETA = 9.3
#: Half of the transition band, in parts of the lower rate: the band ends at half of that rate.
_HALF_TRANSITION = 0.0305
#: Most phases of a filter. 44,100 to 16,000 Hz has 160.
MOST_PHASES = 1_920


def polyphase_name() -> str:
    """Return the name and version of this filter, for metadata: another one gives other samples."""
    return "syllabary polyphase 1"


@dataclass
class PolyphaseState:
    """The state of a resampler.

    Attributes:
        tail: (2 · latency,) float32, the last input samples; zeros before the first.
        taken, given: samples in and out so far.
        ended: whether the input has ended.
    """

    tail: np.ndarray
    taken: int = 0
    given: int = 0
    ended: bool = False


class PolyphaseResampler:
    """Convert a mono stream in chunks; any split of the input gives the same samples, bit by bit.

    Args:
        source_rate, target_rate: whole numbers in Hz.

    Attributes:
        latency: input samples after an output sample's time that it depends on.

    Raises:
        WaveError: rates that are no positive whole numbers, or whose ratio needs more than
            `MOST_PHASES` filters.
    """

    def __init__(self, source_rate: int, target_rate: int) -> None:
        for rate in (source_rate, target_rate):
            if type(rate) is not int or rate < 1:
                raise WaveError(f"sample rates are positive whole numbers, got {rate!r}")
        common = gcd(source_rate, target_rate)
        self._up, self._down = target_rate // common, source_rate // common
        if self._up > MOST_PHASES or self._down > 64 * self._up:
            raise WaveError(
                f"{source_rate} to {target_rate} Hz is {self._up} : {self._down}, a ratio that "
                f"takes more than {MOST_PHASES} filters, or lowers the rate more than 64 times"
            )
        self._filters = _design(self._up, self._down)
        self.latency = self._filters.shape[1] // 2
        self._state = self.fresh()

    def fresh(self) -> PolyphaseState:
        """Return the state before the first sample."""
        return PolyphaseState(np.zeros(2 * self.latency, np.float32))

    def export_state(self) -> PolyphaseState:
        """Return a copy of the state, for `import_state` of a resampler of the same rates."""
        state = self._state
        return PolyphaseState(state.tail.copy(), state.taken, state.given, state.ended)

    def import_state(self, state: PolyphaseState) -> None:
        """Continue from an exported state.

        Raises:
            StateError: it is of other rates, or its counts do not agree.
        """
        if state.tail.shape != self._state.tail.shape or state.tail.dtype != np.float32:
            raise StateError(
                f"a resampler's tail is float32 {self._state.tail.shape}, got {state.tail.dtype} "
                f"{state.tail.shape}"
            )
        if state.taken < 0 or state.given != self._due(state.taken, state.ended):
            raise StateError("the counts of a resampler's state do not agree")
        self._state = PolyphaseState(state.tail.copy(), state.taken, state.given, state.ended)

    def _due(self, taken: int, ended: bool) -> int:
        """Number of output samples after so many of input."""
        if ended:
            return -(-taken * self._up // self._down)
        # Those whose time is before `taken - latency`.
        return max(0, -(-(taken - self.latency) * self._up // self._down))

    def push(self, samples: np.ndarray, final: bool = False) -> np.ndarray:
        """Take more samples (n,) float32 and return the resampled ones available so far.

        In total, ceil(samples · target_rate / source_rate) come out, the last of them when `final`.

        Raises:
            WaveError: samples after the final ones.
        """
        state = self._state
        if state.ended and (len(samples) or not final):
            raise WaveError("this resampler's input has ended")
        taken = state.taken + len(samples)
        parts = [state.tail, np.asarray(samples, np.float32)]
        if final and not state.ended:
            parts.append(np.zeros(self.latency, np.float32))
        known = np.concatenate(parts)
        due = self._due(taken, final)
        wave = np.empty(due - state.given, np.float32)
        # `known` begins at this sample of the input.
        start = state.taken - len(state.tail)
        if len(wave):
            _filter(known, start, self._filters, self._down, state.given, wave)
        size = len(state.tail)
        end = len(state.tail) + len(samples)
        self._state = PolyphaseState(known[end - size : end].copy(), taken, due, final)
        return wave


@lru_cache(maxsize=32)
def _design(up: int, down: int) -> np.ndarray:
    """Return the filters (phases, taps) float64, one for each position between two samples."""
    stretch = max(1.0, down / up)  # when lowering the rate, the filter is wider
    half = int(np.ceil(_HALF * stretch))
    # Tap k of phase p weighs the sample at k - half + 1, for an output at p / up.
    distance = (np.arange(up)[:, None] / up) - (np.arange(2 * half)[None] - half + 1)
    window = np.i0(_BETA * np.sqrt(np.clip(1 - (distance / half) ** 2, 0, None))) / np.i0(_BETA)
    cutoff = 2 * (0.5 - _HALF_TRANSITION) / stretch
    filters = cutoff * np.sinc(cutoff * distance) * window
    filters /= filters.sum(axis=1, keepdims=True)
    filters.setflags(write=False)
    return np.ascontiguousarray(filters)


@kernel
def _filter(known, start, filters, down, first, wave):  # type: ignore[no-untyped-def]
    """Fill `wave` with the output samples from number `first`.

    Four partial sums, always in the same order, so that a compiler has no choice to make.
    """
    up, taps = filters.shape
    half = taps // 2
    for index in range(wave.shape[0]):
        time = (first + index) * down
        phase = time % up
        at = time // up - half + 1 - start
        a = b = c = d = 0.0
        whole = taps - taps % 4
        for k in range(0, whole, 4):
            a += filters[phase, k] * known[at + k]
            b += filters[phase, k + 1] * known[at + k + 1]
            c += filters[phase, k + 2] * known[at + k + 2]
            d += filters[phase, k + 3] * known[at + k + 3]
        for k in range(whole, taps):
            a += filters[phase, k] * known[at + k]
        wave[index] = (a + b) + (c + d)
