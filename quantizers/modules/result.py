"""What every quantizer module returns, and the statistics of codes in it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .distributed import codes_of_all_ranks


@dataclass(frozen=True)
class Quantized:
    """A batch after quantization.

    Attributes:
        quantized: (batch, frames, dim) float32. In eval mode exactly `decode(codes)`.
        codes: (batch, codebooks, frames) int64. Those of padded frames mean nothing.
        losses: scalars, each already multiplied by its weight.
        statistics: (codebooks,) float32 each: `perplexity`, the exponential of the entropy of the
            codes in this batch, and `used_share`, the share of the codebook that occurs in it. In
            training mode over the joined batch of all ranks. Modules add their own.
    """

    quantized: Tensor
    codes: Tensor
    losses: dict[str, Tensor]
    statistics: dict[str, Tensor]

    @property
    def loss(self) -> Tensor:
        """The sum of the losses, a scalar; zero where there are none."""
        return sum(self.losses.values(), start=self.quantized.new_zeros(()))


def code_statistics(counts: Tensor, size: int) -> dict[str, Tensor]:
    """`perplexity` and `used_share`, (1,) float32 each.

    Args:
        counts: how often codes occur, float64; codes that don't occur may be there or not.
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
    """Statistics of the codes (codebooks, frames) of codebooks of these sizes, however large."""
    parts = []
    for column, size in zip(columns, sizes, strict=True):
        joined = codes_of_all_ranks(column) if over_ranks else column
        _, counts = joined.unique(return_counts=True)
        parts.append(code_statistics(counts.double(), size))
    return joined_statistics(parts)


def joined_statistics(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Statistics of several codebooks side by side: (codebooks,) each."""
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
