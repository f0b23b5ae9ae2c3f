"""Causal convolutions that change the rate and take their past as an argument, as in `causal`.

The layers of SEANet (Tagliasacchi et al., arXiv 2009.02095; SoundStream, arXiv 2107.03312): strided
convolutions, transposed convolutions, and residual units with dilations. There is no weight norm,
which would have to be folded for inference; weights start with unit gain instead.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Activation = Literal["elu", "snake"]

#: Mean square of the output for normally distributed input.
_POWER: dict[Activation | None, float] = {None: 1.0, "elu": 0.65, "snake": 1.37}


class Snake(nn.Module):
    """x + sin²(αx) / α, with α learned per channel: periodic input stays periodic.

    Ziyin et al., "Neural Networks Fail to Learn Periodic Functions and How to Fix It", arXiv
    2006.08195. It takes about six times as long as an ELU on a CPU.

    Args:
        channels: of (batch, channels, time).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + (self.alpha * x).sin().square() / (self.alpha + 1e-9)


def activation_of(kind: Activation, channels: int) -> nn.Module:
    """Create an activation; both kinds map 0 to 0, so that silence before the start stays so."""
    return Snake(channels) if kind == "snake" else nn.ELU()


class CausalConv(nn.Module):
    """Activation and convolution; output n depends on input up to the end of its own stride.

    Args:
        in_channels, out_channels: of (batch, channels, time).
        kernel: taps; at least `stride`.
        stride: inputs per output.
        dilation: inputs between taps.
        activation: before the convolution; None: none.
    """

    upsampling = 1

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        activation: Activation | None = None,
    ) -> None:
        super().__init__()
        self.stride, self.dilation = stride, dilation
        self.reach = (kernel - 1) * dilation + 1 - stride
        self.activation = activation_of(activation, in_channels) if activation else nn.Identity()
        gain = 1 / math.sqrt(in_channels * kernel * _POWER[activation])
        self.weight = nn.Parameter(gain * torch.randn(out_channels, in_channels, kernel))
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def init_past(self, batch: int) -> Tensor:
        """Create an initial past of zeros (batch, in_channels, reach)."""
        return self.weight.new_zeros(batch, self.weight.shape[1], self.reach)

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """Map x (batch, in_channels, time) to (batch, out_channels, time / stride); new past."""
        x = self.activation(x)
        padded = torch.cat([past.to(x.dtype), x], 2)
        y = functional.conv1d(
            padded, self.weight, self.bias, stride=self.stride, dilation=self.dilation
        )
        return y, padded[..., x.shape[2] :]

    @property
    def macs(self) -> int:
        """Multiply-accumulates per output, before any upsampling."""
        return self.weight.numel()


class CausalUpsampling(CausalConv):
    """Activation and a transposed convolution of 2 × ratio taps.

    Each block of `ratio` outputs depends linearly on one input and the one before, so the
    transposed convolution equals a convolution of two taps to ratio × out_channels, and leaves no
    overlap for later blocks.

    Args:
        in_channels, out_channels: of (batch, channels, time).
        ratio: outputs per input.
        activation: before the convolution.
    """

    def __init__(
        self, in_channels: int, out_channels: int, ratio: int, activation: Activation
    ) -> None:
        super().__init__(in_channels, out_channels * ratio, 2, activation=activation)
        self.upsampling = ratio

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """Map x (batch, in_channels, time) to (batch, out_channels, time × ratio); new past."""
        y, past = super().forward(x, past)
        return y.unflatten(1, (-1, self.upsampling)).transpose(2, 3).flatten(2), past


class ResidualUnit(nn.Module):
    """A dilated convolution to half the channels and a 1-tap convolution back, with a residual.

    Args:
        channels: of input and output.
        dilation: of the first convolution, which has 3 taps.
        activation: before each convolution.
        scale: of the second convolution's initial weights.
    """

    stride = upsampling = 1

    def __init__(self, channels: int, dilation: int, activation: Activation, scale: float) -> None:
        super().__init__()
        hidden = max(1, channels // 2)
        self.inward = CausalConv(channels, hidden, 3, dilation=dilation, activation=activation)
        self.outward = CausalConv(hidden, channels, 1, activation=activation)
        with torch.no_grad():
            self.outward.weight.mul_(scale)

    def init_past(self, batch: int) -> Tensor:
        """Create the initial past of the first convolution; the second needs none."""
        return self.inward.init_past(batch)

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """Map x (batch, channels, time) to an output of the same shape, and a new past."""
        y, past = self.inward(x, past)
        y, _ = self.outward(y, y[..., :0])
        return x + y, past

    @property
    def macs(self) -> int:
        """Multiply-accumulates per output."""
        return self.inward.macs + self.outward.macs


class CausalSequence(nn.Module):
    """A sequence of layers, each with one past.

    Args:
        layers: modules of this file.
    """

    def __init__(self, layers: Iterable[CausalConv | ResidualUnit]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def _each(self) -> Iterator[CausalConv | ResidualUnit]:
        for layer in self.layers:
            assert isinstance(layer, CausalConv | ResidualUnit)
            yield layer

    def init_state(self, batch: int) -> list[Tensor]:
        """Create the initial state (pasts) of `batch` rows."""
        return [layer.init_past(batch) for layer in self._each()]

    def forward(self, x: Tensor, state: list[Tensor] | None = None) -> tuple[Tensor, list[Tensor]]:
        """Apply all layers to (batch, channels, time), and return the new state.

        Args:
            x: of a length that gives a whole number of the last layer's outputs.
            state: after the input before; None at the start. It is not changed.
        """
        pasts = self.init_state(x.shape[0]) if state is None else state
        after = []
        for layer, past in zip(self._each(), pasts, strict=True):
            x, past = layer(x, past)
            after.append(past)
        return x, after

    def macs_for(self, steps: int) -> int:
        """Multiply-accumulates for `steps` steps of the input."""
        total = 0
        for layer in self._each():
            steps //= layer.stride
            total += steps * layer.macs
            steps *= layer.upsampling
        return total
