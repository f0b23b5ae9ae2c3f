"""The raw-frames trunk, compiled: for any number of frames per call.

The encoder computes in float64, like its module, and the decoder in float32.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ....kernels.linear import linear
from ..trunks.raw_frames import SampleDecoder, SampleEncoder
from .attention import packed_layers
from .packing import Array, pack_linear


class CompiledRawFrameEncoder:
    """Encode the frames of several rows on the CPU; see `CompiledSpectralEncoder`.

    Args:
        encoder: its weights are copied.
    """

    def __init__(self, encoder: SampleEncoder) -> None:
        self.first = pack_linear(encoder.first, np.float64)
        self.second = pack_linear(encoder.second, np.float64)
        self.stack = packed_layers(encoder.stack, np.float64)

    def init_state(self) -> Any:
        """Create the initial state of a row."""
        return self.stack.init_state()

    def latents(self, windows: Tensor, edges: Array, states: Sequence[Any]) -> Tensor:
        """Map frames (frames, hop) to latents (frames, width) float64; the states are updated."""
        samples = np.ascontiguousarray(windows.double().numpy())
        hidden = _linear(samples, *self.first, activated=True)
        x = _linear(hidden, *self.second)[:, : self.stack.width].copy()
        self.stack(x, edges, states)
        return torch.from_numpy(x)


class CompiledRawFrameDecoder:
    """Decode the frames of several rows on the CPU; see `CompiledSpectralDecoder`.

    Args:
        decoder: its weights are copied.
    """

    def __init__(self, decoder: SampleDecoder) -> None:
        self.hop = decoder.head.out_features
        self.head = pack_linear(decoder.head, np.float32)
        self.stack = packed_layers(decoder.stack, np.float32)

    def init_state(self) -> Any:
        """Create the initial state of a row."""
        return self.stack.init_state()

    def wave(self, latents: Tensor, edges: Array, states: Sequence[Any]) -> Tensor:
        """Map latents (frames, width) to samples (frames, hop) float32; the states are updated."""
        x = np.array(latents.float().numpy(), np.float32, order="C")
        self.stack(x, edges, states)
        samples = _linear(x, *self.head)[:, : self.hop]
        return torch.from_numpy(np.ascontiguousarray(samples))


def _linear(x: Array, panels: Array, bias: Array, activated: bool = False) -> Array:
    """Return all outputs, padding included: (frames, panels × their width)."""
    out = np.empty((len(x), len(bias)), x.dtype)
    linear(x, panels, bias, activated, out)
    return out
