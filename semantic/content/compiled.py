"""`ContentEncoder` compiled: the same numbers, for any number of frames at a time.

As in `codecs/neural/frame_encoder.py`: sums are float64 and in a fixed order, so that units depend
neither on the frames that come together nor on the processor.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ...codecs.neural.attention_kernel import packed_layers
from ...codecs.neural.frame_encoder import FrameAnalysis, one_layer
from ...codecs.neural.packed import Array, pack_linear
from .encoder import ContentEncoder


class CompiledContent:
    """An encoder of rows of frames, on the CPU.

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

    def init_state(self) -> Array:
        """The state of a row that has heard nothing."""
        return self.stack.init_state()

    def latents(self, windows: Tensor, edges: Array, states: Sequence[Array]) -> Tensor:
        """Features (frames, dim) float64.

        Args:
            windows: (frames, window), of all rows end to end.
            edges: (rows + 1,) int64: row r's frames are those from `edges[r]` to `edges[r + 1]`.
            states: of each row; they are moved on.
        """
        heard = self.analysis.without_pitch(np.ascontiguousarray(windows.numpy()))
        x = one_layer(heard, *self.inward, self.stack.width)
        self.stack(x, edges, states)
        return torch.from_numpy(one_layer(x, *self.outward, self.config.dim))
