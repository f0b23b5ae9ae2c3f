"""`ContentEncoder`, compiled: the same values, for any number of frames per call.

As in `codecs/neural/compiled/spectral_encoder.py`, sums are float64 in a fixed order, so that units
depend neither on the number of frames per call nor on the processor.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...codecs.neural.compiled.attention import AttentionPast, packed_layers
from ...codecs.neural.compiled.packing import Array, pack_linear
from ...codecs.neural.compiled.spectral_encoder import FrameAnalysis, one_layer
from .encoder import ContentEncoder


@dataclass
class ContentRow:
    """State of one row between calls."""

    layers: Any
    answers: Array  # (averaged - 1, dim) the last outputs before averaging

    def check(self) -> None:
        """Raise StateError for impossible values."""
        if isinstance(self.layers, AttentionPast):
            self.layers.check()


class CompiledContent:
    """Compute features of the frames of several rows on the CPU.

    Args:
        encoder: its weights are copied.
    """

    def __init__(self, encoder: ContentEncoder) -> None:
        self.config = encoder.config
        self.analysis = FrameAnalysis(encoder.analysis)
        inward = encoder.stack.inward
        assert isinstance(inward, nn.Linear)
        self.inward = pack_linear(inward, np.float64)
        self.stack = packed_layers(encoder.stack, np.float64)
        self.outward = pack_linear(encoder.outward, np.float64)

    def init_state(self) -> ContentRow:
        """Create the initial state of a row."""
        config = self.config
        return ContentRow(self.stack.init_state(), np.zeros((config.averaged - 1, config.dim)))

    def latents(self, windows: Tensor, edges: Array, states: Sequence[ContentRow]) -> Tensor:
        """Compute features (frames, dim) float64.

        Args:
            windows: (frames, window), concatenated over rows.
            edges: (rows + 1,) int64: row r has the frames from `edges[r]` to `edges[r + 1]`.
            states: of each row; updated.
        """
        inputs = self.analysis.without_pitch(np.ascontiguousarray(windows.numpy()))
        x = one_layer(inputs, *self.inward, self.stack.width)
        self.stack(x, edges, [state.layers for state in states])
        y = one_layer(x, *self.outward, self.config.dim)
        if self.config.averaged > 1:
            for state, start, stop in zip(states, edges[:-1], edges[1:], strict=True):
                self._average(y[start:stop], state.answers)
        return torch.from_numpy(y)

    def _average(self, y: Array, before: Array) -> None:
        """Average a row's outputs (frames, dim) over neighbouring frames, and update `before`."""
        answers = np.concatenate([before, y])
        y[:] = answers[: len(y)]
        for at in range(1, self.config.averaged):
            y += answers[at : at + len(y)]
        y /= self.config.averaged
        before[:] = answers[len(y) :]
