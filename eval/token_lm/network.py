"""A causal transformer over frames, and a small network over the symbols within a frame.

The division is that of the RQ-Transformer (Lee et al., arXiv 2203.01941): one model runs over time,
with the previous frames as context; a second one predicts the symbols of the frame from coarse to
fine. The second one here is not a transformer but a sum, as in NADE (Larochelle & Murray, AISTATS
2011), so that 80 symbols a frame cost hardly more than one. Before symbol k its state is the sum of

- the output of the first model,
- a vector of each symbol before k in this frame, independent of its position,
- vectors of the previous symbol, and of symbol k in the frame before,

and the symbol's own output layer turns that into probabilities. Each is a probability given all
earlier symbols of the utterance, in a fixed order; so -log2 of their product is a code length.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of a `FrameModel`.

    Attributes:
        width: channels over time.
        layers, heads: over time.
        window: attention window of each layer in frames, the current one included.
        depth_width: channels within a frame.
        dropout: in training, of the first model's input and of the input of the second one's output
            layers.
    """

    width: int = 128
    layers: int = 3
    heads: int = 4
    window: int = 64
    depth_width: int = 64
    dropout: float = 0.2

    @property
    def reach(self) -> int:
        """Number of previous frames that can influence a frame, besides the last one."""
        return self.layers * (self.window - 1)


class FrameModel(nn.Module):
    """Probabilities of frames of symbols, given the previous frames.

    Args:
        sizes: of the alphabet of each symbol of a frame.
        config: sizes.
        seed: of the weights; the same whatever else drew random numbers.
    """

    shifts: Tensor
    absent: Tensor

    def __init__(
        self, sizes: Sequence[int], config: NetworkConfig | None = None, seed: int = 0
    ) -> None:
        super().__init__()
        self.sizes, self.config = tuple(sizes), config or NetworkConfig()
        config, count, total, most = self.config, len(sizes), sum(sizes), max(sizes)
        width, depth = config.width, config.depth_width
        # Modules would use PyTorch's global generator; on `meta` they draw nothing.
        with torch.device("meta"):
            # The last row represents the absence of a previous symbol.
            self.embed = nn.Parameter(torch.empty(total + 1, width))
            layers = [_Layer(config) for _ in range(config.layers)]
            self.layers = nn.ModuleList(layers)
            self.to_depth = nn.Linear(width, depth)
            self.earlier = nn.Parameter(torch.empty(total + 1, depth))
            self.just_before = nn.Parameter(torch.empty(total + 1, depth))
            self.last_frame = nn.Parameter(torch.empty(total + 1, depth))
            self.place = nn.Parameter(torch.empty(count, depth))
            self.mix = nn.Linear(depth, depth)
            self.out = nn.Parameter(torch.empty(count, depth, most))
            self.bias = nn.Parameter(torch.empty(count, most))
        self.to_empty(device="cpu")
        self._start(torch.Generator().manual_seed(seed))
        shifts = torch.tensor([0, *sizes[:-1]]).cumsum(0)
        self.register_buffer("shifts", shifts, persistent=False)
        absent = torch.arange(most) >= torch.tensor(sizes)[:, None]
        self.register_buffer("absent", absent[:, None], persistent=False)

    @torch.no_grad()
    def _start(self, generator: torch.Generator) -> None:
        """Initialize with equal probabilities; `set_frequencies` sets better ones."""
        for name, weight in self.named_parameters():
            if name in ("out", "bias") or name.endswith(".bias"):
                weight.zero_()
            elif name == "embed":
                weight.normal_(0, len(self.sizes) ** -0.5, generator=generator)
            elif name in ("earlier", "just_before", "last_frame", "place"):
                weight.normal_(0, 0.3, generator=generator)
            else:
                scale = weight.shape[1] ** -0.5
                if "back" in name:  # into the residual stream
                    scale *= (2 * self.config.layers) ** -0.5
                weight.normal_(0, scale, generator=generator)

    @torch.no_grad()
    def set_frequencies(self, counts: Sequence[Tensor]) -> None:
        """Initialize with the symbols' frequencies, with half a count added to each.

        Args:
            counts: (size,) of each symbol of a frame.
        """
        for place, (count, size) in enumerate(zip(counts, self.sizes, strict=True)):
            shares = (count.double() + 0.5) / (count.sum() + 0.5 * size)
            self.bias[place, :size] = shares.log().float()

    def forward(
        self,
        symbols: Tensor,
        previous: Tensor,
        utterance: Tensor,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return -ln of the probability of each symbol, given all before it.

        Args:
            symbols: (batch, frames, symbols) int64.
            previous: the same of the frame before; -1 where there is none.
            utterance: (batch, frames) int64; attention is limited to the same utterance.
            generator: for dropout in training; None: no dropout.

        Returns:
            (batch, frames, symbols) float32.
        """
        none = len(self.embed) - 1
        before = torch.where(previous < 0, none, previous + self.shifts)
        frames = symbols.shape[1]
        back = torch.arange(frames)[:, None] - torch.arange(frames)
        near = (back >= 0) & (back < self.config.window)
        mask = (near & (utterance[:, :, None] == utterance[:, None]))[:, None]
        x = functional.embedding(before, self.embed).sum(2)
        x = self._drop(x, generator)
        turn = _rotations(frames, self.config.width // self.config.heads)
        for layer in self.layers:
            assert isinstance(layer, _Layer)
            x = x + layer.attend(x, mask, turn)
            x = x + layer.feed(x)
        state = self.to_depth(functional.layer_norm(x, x.shape[-1:]))
        return self._within(state, symbols, before, generator)

    def _within(
        self, state: Tensor, symbols: Tensor, before: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        batch, frames, count = symbols.shape
        here = symbols + self.shifts
        z = state[:, :, None] + self.place + functional.embedding(before, self.last_frame)
        if count > 1:
            earlier = functional.embedding(here[..., :-1], self.earlier).cumsum(2)
            earlier = earlier + functional.embedding(here[..., :-1], self.just_before)
            z = z + functional.pad(earlier, (0, 0, 1, 0))
        z = functional.layer_norm(z, z.shape[-1:])
        z = functional.gelu(self.mix(z), approximate="tanh") + z
        z = self._drop(z, generator)
        z = z.reshape(batch * frames, count, -1).transpose(0, 1)
        logits = torch.baddbmm(self.bias[:, None], z, self.out)
        if min(self.sizes) < max(self.sizes):
            logits = logits.masked_fill(self.absent, -math.inf)
        targets = symbols.reshape(batch * frames, count).T
        losses = functional.cross_entropy(
            logits.reshape(-1, logits.shape[-1]), targets.reshape(-1), reduction="none"
        )
        return losses.reshape(count, batch, frames).permute(1, 2, 0)

    def _drop(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        if generator is None or not self.config.dropout:
            return x
        kept = 1 - self.config.dropout
        return x * torch.empty_like(x).bernoulli_(kept, generator=generator).div_(kept)


class _Layer(nn.Module):
    """Windowed attention, and a feed-forward part, each for a residual stream."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.heads = config.heads
        width = config.width
        self.query_key_value = nn.Linear(width, 3 * width, bias=False)
        self.attention_back = nn.Linear(width, width, bias=False)
        self.up = nn.Linear(width, 4 * width)
        self.feed_back = nn.Linear(4 * width, width)

    def attend(self, x: Tensor, mask: Tensor, turn: Tensor) -> Tensor:
        batch, frames, width = x.shape
        x = self.query_key_value(functional.layer_norm(x, x.shape[-1:]))
        query, key, value = x.view(batch, frames, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        query, key = _rotate(query, turn), _rotate(key, turn)
        found = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.attention_back(found.transpose(1, 2).reshape(batch, frames, width))

    def feed(self, x: Tensor) -> Tensor:
        x = self.up(functional.layer_norm(x, x.shape[-1:]))
        return self.feed_back(functional.gelu(x, approximate="tanh"))


def _rotations(frames: int, dim: int) -> Tensor:
    """Rotary positions (Su et al., arXiv 2104.09864): (2, frames, dim), cosines and sines."""
    rates = 1000.0 ** -(torch.arange(dim // 2) / (dim // 2))
    angles = torch.outer(torch.arange(frames).float(), rates).repeat(1, 2)
    return torch.stack([angles.cos(), angles.sin()])


def _rotate(x: Tensor, turn: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    return x * turn[0] + torch.cat([-second, first], -1) * turn[1]
