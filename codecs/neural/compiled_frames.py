"""The paper's trunk compiled: frames of samples to latents and back, any number at a time.

Sums are float64 in the encoder, as in its module, and float32 in the decoder.
"""

import numpy as np
import torch
from torch import Tensor

from .attention_kernel import packed_layers
from .frames import SampleDecoder, SampleEncoder
from .kernels import linear
from .packed import Array, pack_linear


class FramesEncoder:
    """An encoder of one row at a time, on the CPU.

    Args:
        encoder: its weights are copied.
    """

    def __init__(self, encoder: SampleEncoder) -> None:
        self.first = pack_linear(encoder.first, np.float64)
        self.second = pack_linear(encoder.second, np.float64)
        self.stack = packed_layers(encoder.stack, np.float64)

    def init_state(self) -> Array:
        """The state of a row that has heard nothing."""
        return self.stack.init_state()

    def latents(self, windows: Tensor, state: Array) -> tuple[Tensor, Array]:
        """Latents (1, frames, width) float64 of frames (1, frames, hop), and the state."""
        samples = np.ascontiguousarray(windows[0].double().numpy())
        hidden = _linear(samples, *self.first, activated=True)
        x = _linear(hidden, *self.second)[:, : self.stack.width].copy()
        y, state = self.stack(x, state)
        return torch.from_numpy(y)[None], state


class FramesDecoder:
    """A decoder of one row at a time, on the CPU.

    Args:
        decoder: its weights are copied.
    """

    def __init__(self, decoder: SampleDecoder) -> None:
        self.hop = decoder.head.out_features
        self.head = pack_linear(decoder.head, np.float32)
        self.stack = packed_layers(decoder.stack, np.float32)

    def init_state(self) -> Array:
        """The state of a row that has heard nothing."""
        return self.stack.init_state()

    def wave(self, latents: Tensor, state: Array) -> tuple[Tensor, Array]:
        """Samples (1, frames × hop) float32 of latents (1, frames, width), and the state."""
        x = np.array(latents[0].float().numpy(), np.float32, order="C")
        y, state = self.stack(x, state)
        samples = _linear(y, *self.head)[:, : self.hop]
        return torch.from_numpy(np.ascontiguousarray(samples).reshape(1, -1)), state


def _linear(x: Array, panels: Array, bias: Array, activated: bool = False) -> Array:
    """All outputs that the panels have, (frames, panels × their width)."""
    out = np.empty((len(x), len(bias)), x.dtype)
    linear(x, panels, bias, activated, out)
    return out
