"""Streams of encoders with global context: overlapping windows, in constant memory.

An utterance up to a window's length runs in one piece. A longer one is split into overlapping
windows; of each overlap, the first half of the frames is taken from the earlier window and the
second half from the later one, so that every frame has at least half an overlap of context on each
side. The windows' positions depend only on the number of samples, so the size of chunks does not
change the features. Every window runs on its own, since padding or other rows in a batch would
change it.
"""

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...codecs.streaming import row_flags
from ...errors import StateError
from .interface import FeatureStream, SpeechEncoder


@dataclass
class OverlappingState:
    """State of one row between two pushes.

    Attributes:
        samples: (window,) of which the first `held` are filled.
        held: number of samples in the incomplete window.
        given: frames output so far.
    """

    samples: Tensor
    held: int = 0
    given: int = 0


class OverlappingWindows(FeatureStream):
    """Run a function of whole windows over the rows of a batch.

    Args:
        run: maps samples (n,) float32, 0 < n <= window, to features (ceil(n / hop), dim).
        batch_size: rows.
        hop: samples per frame.
        window: frames per window.
        overlap: frames that neighbouring windows share, an even number below `window`.
        dim: of the features.
        device: of the samples.
    """

    def __init__(
        self,
        run: Callable[[Tensor], Tensor],
        *,
        batch_size: int,
        hop: int,
        window: int,
        overlap: int,
        dim: int,
        device: torch.device,
    ) -> None:
        if overlap % 2 or not 0 <= overlap < window:
            raise ValueError(f"overlap must be an even number in 0..{window - 1}, got {overlap}")
        self.run, self.hop, self.dim, self.device = run, hop, dim, device
        self.size, self.step, self.half = window * hop, (window - overlap) * hop, overlap // 2
        self.states = [self.init_row() for _ in range(batch_size)]

    def init_row(self) -> OverlappingState:
        return OverlappingState(torch.zeros(self.size, device=self.device))

    def check_row(self, state: OverlappingState) -> None:
        windows, rest = divmod(state.given - self.half, self.step // self.hop)
        given = state.given == 0 or (windows > 0 and rest == 0)
        if not given or not (state.given > 0) <= state.held <= self.size:
            raise StateError(f"{state.held} samples held, {state.given} frames given")

    def count_given(self, state: OverlappingState, taken: int) -> int:
        windows = max(0, (state.given - self.half) // (self.step // self.hop))
        if windows * self.step + state.held != taken:
            raise StateError(
                f"{state.held} samples held and {state.given} frames given of {taken} samples"
            )
        return state.given

    def push(self, rows: Sequence[Tensor], final: bool | Sequence[bool]) -> list[Tensor]:
        flags = row_flags(final, len(rows))
        return [self._push_row(*each) for each in zip(range(len(rows)), rows, flags, strict=True)]

    def _push_row(self, index: int, row: Tensor, final: bool) -> Tensor:
        state, features = self.states[index], []
        samples = torch.cat([state.samples[: state.held], row]) if state.held else row
        while len(samples) > self.size:  # at least one more sample: this window is not the last
            part = self._window(state, samples[: self.size])
            features.append(part[: len(part) - self.half])
            state.given += len(features[-1])
            samples = samples[self.step :]
        if final:
            if len(samples):
                features.append(self._window(state, samples))
            self.reset(index)
        else:
            state.held = len(samples)
            state.samples[: state.held] = samples
        return torch.cat(features) if features else row.new_zeros(0, self.dim)

    def _window(self, state: OverlappingState, samples: Tensor) -> Tensor:
        """Return a window's features (frames, dim), without those from the window before."""
        features = self.run(samples)
        frames = -(-len(samples) // self.hop)
        assert features.shape == (frames, self.dim), (features.shape, frames, self.dim)
        return features[self.half if state.given else 0 :]


def check_windows(window_s: float, overlap_s: float) -> None:
    """Raise ValueError unless windows of this length can overlap so far; both in seconds."""
    if not 0 <= overlap_s < window_s < math.inf:
        raise ValueError(
            f"expected a window of finite length and an overlap shorter than it, got {window_s} "
            f"and {overlap_s} seconds"
        )


class WindowedEncoder(SpeechEncoder):
    """An encoder that processes whole windows, in float32.

    Attributes:
        window, overlap: in frames; see `OverlappingWindows`.
    """

    window: int
    overlap: int

    def set_windows(self, window_s: float, overlap_s: float, frames: int | None = None) -> None:
        """Set `window`, `overlap` and `latency`, once `sample_rate` and `hop` are known.

        Args:
            window_s, overlap_s: in seconds.
            frames: the window's frames where the model dictates them, instead of `window_s`.
        """
        per_second = self.sample_rate / self.hop
        self.window = frames or max(4, round(window_s * per_second))
        self.overlap = min(round(overlap_s * per_second), self.window // 2) // 2 * 2
        self.latency = self.window * self.hop + 1

    @abstractmethod
    def run(self, samples: Tensor) -> Tensor:
        """Compute features (ceil(n / hop), dim) of samples (n,), at most one window."""

    def run_unpadded(self, samples: Tensor) -> Tensor:
        """As `run`; an encoder that fills its window with silence takes only what it was given."""
        return self.run(samples)

    def start(self, batch_size: int) -> FeatureStream:
        return OverlappingWindows(
            self.run,
            batch_size=batch_size,
            hop=self.hop,
            window=self.window,
            overlap=self.overlap,
            dim=self.dim,
            device=self.device,
        )

    @property
    def broken_promises(self) -> dict[str, str]:
        return {
            "determinism": "float32 layers round differently on other numbers of threads, which "
            "can change a code",
            "processors": "float32 layers round differently on other processors, which can change "
            "a code",
        }
