"""Averages over ranks, for figures that must be those of the joined batch."""

from torch import Tensor

from ...quantizers.modules.distributed import sum_over_ranks, world_size


def mean_over_ranks(values: Tensor) -> Tensor:
    """Mean of `values` (any shape, the same on every rank) over ranks; itself without any.

    Not differentiable. Every rank must call it, in the same order.
    """
    return sum_over_ranks(values.detach()) / world_size()
