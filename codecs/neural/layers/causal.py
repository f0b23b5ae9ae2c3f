"""Causal convolution blocks that take their past as an argument, for training and streaming alike.

ConvNeXt blocks (Liu et al., arXiv 2201.03545) over time, as in Vocos (Siuzdak, arXiv 2306.00814),
with all padding on the left. `past` has the frames of the left context: zeros at the start of the
audio, else the end of the previous tile. There is no other code path.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class StackConfig:
    """Configuration of a `CausalStack`.

    Attributes:
        width: channels.
        blocks: number of blocks.
        expansion: hidden channels of a block's feed-forward part, as a multiple of `width`.
        kernel: kernel size of a block's convolution, in frames.
    """

    width: int
    blocks: int
    expansion: int = 3
    kernel: int = 7

    def __post_init__(self) -> None:
        if min(self.width, self.blocks, self.expansion, self.kernel) < 1:
            raise ValueError(f"width, blocks, expansion and kernel must be positive, got {self}")

    def make(self, in_features: int | None) -> "CausalStack":
        return CausalStack(in_features, self)


class CausalBlock(nn.Module):
    """Depthwise convolution, LayerNorm, two linear layers, and a residual connection.

    Args:
        config: see `StackConfig`.
    """

    #: Names of its linear layers.
    MATRICES: tuple[str, ...] = ("widen", "narrow")

    def __init__(self, config: StackConfig) -> None:
        super().__init__()
        width, hidden = config.width, config.width * config.expansion
        self.kernel = config.kernel
        self.taps = nn.Parameter(torch.randn(config.kernel, width) / math.sqrt(config.kernel))
        self.taps_bias = nn.Parameter(torch.zeros(width))
        self.norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, hidden)
        self.narrow = nn.Linear(hidden, width)
        self.scale = nn.Parameter(torch.full((width,), 1 / config.blocks))

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """Map x (batch, frames, width) and past (batch, kernel - 1, width) to y and a new past."""
        padded = torch.cat([past.to(x.dtype), x], 1)
        y = functional.conv1d(
            padded.transpose(1, 2), self.taps.T[:, None], self.taps_bias, groups=x.shape[2]
        ).transpose(1, 2)
        y = functional.gelu(self.widen(self.norm(y)), approximate="tanh")
        return x + self.scale * self.narrow(y), padded[:, x.shape[1] :]

    def matrices(self) -> list[Tensor]:
        """Return the weights of its linear layers."""
        return [getattr(self, name).weight for name in self.MATRICES]


class CausalLayers(nn.Module, ABC):
    """A linear layer, layers with a state, and a LayerNorm.

    Args:
        in_features: input channels; None: `width`, and no linear layer.
        width: channels of the layers.
        layers: with a state.
        name: of the attribute that has them.
    """

    norm: nn.LayerNorm

    def __init__(
        self, in_features: int | None, width: int, layers: Iterable[nn.Module], name: str
    ) -> None:
        super().__init__()
        self.inward = nn.Identity() if in_features is None else nn.Linear(in_features, width)
        self.add_module(name, nn.ModuleList(layers))
        self.norm = nn.LayerNorm(width)

    @abstractmethod
    def init_state(self, batch: int) -> list[Tensor]:
        """Create the initial state of `batch` rows."""

    @abstractmethod
    def through(self, x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Map x (batch, frames, width) through the layers; return the new state."""

    def forward(self, x: Tensor, state: list[Tensor] | None = None) -> tuple[Tensor, list[Tensor]]:
        """Map (batch, frames, in_features) to (batch, frames, width), and return the new state.

        Args:
            x: the frames.
            state: after the frames before; None at the start. It is not changed.
        """
        pasts = self.init_state(x.shape[0]) if state is None else state
        y, after = self.through(self.inward(x), pasts)
        return self.norm(y), after

    @property
    def inward_macs(self) -> int:
        """Multiply-accumulates of the linear layer per frame."""
        return self.inward.weight.numel() if isinstance(self.inward, nn.Linear) else 0


class CausalStack(CausalLayers):
    """Blocks of causal convolutions.

    Args:
        in_features: see `CausalLayers`.
        config: see `StackConfig`.
    """

    blocks: nn.ModuleList

    def __init__(self, in_features: int | None, config: StackConfig) -> None:
        blocks = (CausalBlock(config) for _ in range(config.blocks))
        super().__init__(in_features, config.width, blocks, "blocks")
        self.config = config

    def init_state(self, batch: int) -> list[Tensor]:
        """Create the initial state (pasts) of `batch` rows."""
        like = self.norm.weight
        shape = (batch, self.config.kernel - 1, self.config.width)
        return [like.new_zeros(shape) for _ in self.blocks]

    def through(self, x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        after = []
        for block, past in zip(self.blocks, state, strict=True):
            x, past = block(x, past)
            after.append(past)
        return x, after

    @property
    def macs_per_frame(self) -> int:
        """Multiply-accumulates of the linear layers and convolutions per frame."""
        config = self.config
        block = config.width * (2 * config.width * config.expansion + config.kernel)
        return self.inward_macs + config.blocks * block
