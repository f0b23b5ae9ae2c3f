"""Linear projections around a quantizer, with results independent of the batch."""

import torch
from torch import Tensor, nn
from torch.nn import functional

# One shape for all products: libraries choose the order of a sum by the shape, and a code must not
# depend on the rest of the batch.
_TILE_ROWS = 128


def tiled_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute x (…, D) times weight (E, D) transposed, plus bias (E,): each row on its own.

    Computed in float64, rounded to float32: libraries also choose the order of sums by the number
        of
    threads, which then changes the last bit of about one value in 10^8.
    """
    rows = x.reshape(-1, x.shape[-1]).double()
    weight, bias = weight.double(), None if bias is None else bias.double()
    padded = functional.pad(rows, (0, 0, 0, -rows.shape[0] % _TILE_ROWS))
    tiles = [functional.linear(tile, weight, bias) for tile in padded.split(_TILE_ROWS)]
    return torch.cat(tiles)[: rows.shape[0]].float().reshape(*x.shape[:-1], weight.shape[0])


class Projection(nn.Linear):
    """A float32 linear layer that uses `tiled_linear` in eval mode."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, in_features) to (…, out_features)."""
        weight, bias = self.weight.float(), self.bias.float()
        if self.training:
            return functional.linear(x, weight, bias)
        return tiled_linear(x, weight, bias)


def projection(in_features: int, out_features: int, needed: bool) -> Projection | nn.Identity:
    """Create a `Projection` if needed, else an identity."""
    return Projection(in_features, out_features) if needed else nn.Identity()
