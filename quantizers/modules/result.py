"""The result type of all quantizer modules, and statistics of codes."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .distributed import codes_of_all_ranks


@dataclass(frozen=True)
class Quantized:
    """A quantized batch.

    Attributes:
        quantized: (batch, frames, dim) float32. In eval mode exactly `decode(codes)`.
        codes: (batch, codebooks, frames) int64; undefined for padded frames.
        losses: scalars, already multiplied by their weights.
        statistics: (codebooks,) float32 each: `perplexity`, the exponential of the codes' entropy
            in this batch, and `used_share`, the share of codes that occur in it. In training mode
            over the batches of all ranks. Modules may add others.
    """

    quantized: Tensor
    codes: Tensor
    losses: dict[str, Tensor]
    statistics: dict[str, Tensor]

    @property
    def loss(self) -> Tensor:
        """The sum of the losses, a scalar; zero if there are none."""
        return sum(self.losses.values(), start=self.quantized.new_zeros(()))


def code_statistics(counts: Tensor, size: int) -> dict[str, Tensor]:
    """Compute `perplexity` and `used_share`, (1,) float32 each.

    Args:
        counts: of occurring codes, float64; zeros are allowed.
        size: of the codebook.
    """
    shares = counts / counts.sum().clamp(min=1)
    entropy = -torch.special.xlogy(shares, shares).sum()
    used = (counts > 0).sum().double() / size
    return {
        "perplexity": entropy.exp().float().reshape(1),
        "used_share": used.float().reshape(1),
    }


def statistics_of_columns(
    columns: Tensor, sizes: Sequence[int], over_ranks: bool
) -> dict[str, Tensor]:
    """Compute statistics of codes (codebooks, frames), for codebooks of any size."""
    parts = []
    for column, size in zip(columns, sizes, strict=True):
        joined = codes_of_all_ranks(column) if over_ranks else column
        _, counts = joined.unique(return_counts=True)
        parts.append(code_statistics(counts.double(), size))
    return joined_statistics(parts)


def joined_statistics(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Concatenate the statistics of several codebooks: (codebooks,) each."""
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
