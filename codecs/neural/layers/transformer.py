"""Causal transformer layers that take their past as an argument, for training and streaming alike.

A frame attends to itself and to the frames of a fixed window before it (sliding-window attention:
Beltagy et al., "Longformer", arXiv 2004.05150; for codecs, Wu et al., "TS3-Codec", arXiv
2411.18803), so the state of a stream is the keys and values of one window, of constant size.

Positions are relative (Shaw et al., arXiv 1803.02155): a learned vector for each distance is added
to the key. Rotary positions encode distances as well, but rotate by angles that grow with the
position in the audio, so that late frames are computed less precisely than early ones, and the
state needs the position. Here, a frame's result depends on its window only.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from .causal import CausalLayers

_MOST = 127


@dataclass(frozen=True)
class TransformerConfig:
    """Configuration of a `CausalTransformer`.

    Attributes:
        width: channels.
        layers: number of layers.
        heads: of the attention; must divide `width`.
        feed_forward: hidden channels of a layer's feed-forward part.
        window: frames that a frame attends to, including itself.
        int8: in inference, quantize weights to 8 bits per output channel, and activations per
            frame. Sums of products are integers, and so exact on any processor.
    """

    width: int
    layers: int
    heads: int
    feed_forward: int
    window: int
    int8: bool = False

    def __post_init__(self) -> None:
        if min(self.width, self.layers, self.heads, self.feed_forward, self.window) < 1:
            raise ValueError(f"all fields must be positive, got {self}")
        if self.width % self.heads:
            raise ValueError(f"{self.heads} heads don't divide a width of {self.width}")

    @property
    def head_dim(self) -> int:
        """Channels per head."""
        return self.width // self.heads

    def make(self, in_features: int | None) -> "CausalTransformer":
        return CausalTransformer(in_features, self)


class Int8Linear(nn.Linear):
    """A linear layer that multiplies integers from -127 to 127 in inference.

    One scale per output for the weights, and one per frame for the input (Dettmers et al.,
    "LLM.int8()", arXiv 2208.07339, without outlier handling, which such small layers do not need).
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in_features) to (..., out_features)."""
        if self.training:
            return super().forward(x)
        whole, scales = self.integers()
        most = x.abs().amax(-1, keepdim=True)
        inverse = _MOST / most
        # All zeros, or too small to invert.
        inverse = torch.where(inverse.isfinite(), inverse, 0.0)
        sums = (x * inverse).round().double() @ whole.T
        y = sums.to(x.dtype) * ((most / _MOST) * scales.to(x.dtype))
        return y if self.bias is None else y + self.bias

    def integers(self) -> tuple[Tensor, Tensor]:
        """Return the weights as integers (out_features, in_features) and their scales, one per
        output, both in float64; the same for weights that are the products of these.
        """
        weight = self.weight.detach().float().double()
        # Scales in float32, as the compiled form stores them.
        scales = (weight.abs().amax(1) / _MOST).float().double()
        scales = torch.where(scales > 0, scales, 1.0)
        return (weight / scales[:, None]).round(), scales


class SlidingAttention(nn.Module):
    """Multi-head attention to a sliding window of frames.

    Frames before the first one have keys and values of zero, and are attended to like any other, so
    that a row needs no count of its frames.

    Args:
        config: see `TransformerConfig`.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        kind = Int8Linear if config.int8 else nn.Linear
        self.query = kind(width, width, bias=False)
        self.key = kind(width, width, bias=False)
        self.value = kind(width, width, bias=False)
        self.outward = kind(width, width, bias=False)
        # From the farthest frame to the frame itself.
        self.distances = nn.Parameter(torch.randn(config.window, config.head_dim) * 0.1)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Apply attention.

        Args:
            x: (batch, frames, width).
            keys, values: (batch, window - 1, width) of the frames before.

        Returns:
            y of x's shape, and new keys and values.
        """
        frames, window = x.shape[1], self.config.window
        key = torch.cat([keys.to(x.dtype), self.key(x).to(x.dtype)], 1)
        value = torch.cat([values.to(x.dtype), self.value(x).to(x.dtype)], 1)
        q, k, v = (self._heads(part) for part in (self.query(x), key, value))
        # Scores of distances, (…, frames, window), with each row shifted to the start of its
        # window; all other entries stay minus infinity.
        apart = functional.pad(q @ self.distances.T.to(q.dtype), (0, frames), value=-torch.inf)
        span = frames + window - 1
        apart = apart.flatten(-2)[..., : frames * span].unflatten(-1, (frames, span))
        scores = (q @ k.transpose(-1, -2) + apart) * self.config.head_dim**-0.5
        weights = torch.softmax(scores.to(torch.promote_types(scores.dtype, torch.float32)), -1).to(
            v.dtype
        )
        y = self.outward((weights @ v).transpose(1, 2).flatten(2))
        return y, key[:, frames:], value[:, frames:]

    def _heads(self, x: Tensor) -> Tensor:
        """Split (batch, frames, width) to (batch, heads, frames, head_dim)."""
        heads: Tensor = x.unflatten(2, (self.config.heads, -1))
        return heads.transpose(1, 2)


class TransformerLayer(nn.Module):
    """Attention and a feed-forward part, each with a LayerNorm before and a residual connection.

    Args:
        config: see `TransformerConfig`.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.width)
        self.attention = SlidingAttention(config)
        self.norm = nn.LayerNorm(config.width)
        kind = Int8Linear if config.int8 else nn.Linear
        self.widen = kind(config.width, config.feed_forward)
        self.narrow = kind(config.feed_forward, config.width)
        with torch.no_grad():
            # The sum of all residual branches starts about as large as the layers' input.
            for last in (self.attention.outward, self.narrow):
                last.weight.mul_((2 * config.layers) ** -0.5)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Apply the layer; arguments as in `SlidingAttention.forward`."""
        y, keys, values = self.attention(self.attention_norm(x), keys, values)
        x = x + y
        hidden = functional.gelu(self.widen(self.norm(x)), approximate="tanh")
        return x + self.narrow(hidden), keys, values

    def matrices(self) -> list[Tensor]:
        """Return the weights of its linear layers."""
        attention = self.attention
        layers = (
            attention.query, attention.key, attention.value, attention.outward,
            self.widen, self.narrow,
        )  # fmt: skip
        return [layer.weight for layer in layers]


class CausalTransformer(CausalLayers):
    """Transformer layers.

    Args:
        in_features: see `CausalLayers`.
        config: see `TransformerConfig`.
    """

    layers: nn.ModuleList

    def __init__(self, in_features: int | None, config: TransformerConfig) -> None:
        layers = (TransformerLayer(config) for _ in range(config.layers))
        super().__init__(in_features, config.width, layers, "layers")
        self.config = config

    def init_state(self, batch: int) -> list[Tensor]:
        """Create the initial state of `batch` rows: keys and values of each layer."""
        shape = (batch, self.config.window - 1, self.config.width)
        return [self.norm.weight.new_zeros(shape) for _ in range(2 * self.config.layers)]

    def through(self, x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        after = []
        for layer, keys, values in zip(self.layers, state[::2], state[1::2], strict=True):
            x, keys, values = layer(x, keys, values)
            after += [keys, values]
        return x, after

    @property
    def macs_per_frame(self) -> int:
        """Multiply-accumulates of linear layers and attention per frame."""
        config = self.config
        linear = config.width * (4 * config.width + 2 * config.feed_forward)
        # Scores of keys and of distances, and the weighted sum of values.
        attention = 3 * config.window * config.width
        return self.inward_macs + config.layers * (linear + attention)
