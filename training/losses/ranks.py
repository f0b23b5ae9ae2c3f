"""Averages over ranks, for figures of the whole batch."""

from torch import Tensor

from ...quantizers.modules.distributed import sum_over_ranks, world_size


def mean_over_ranks(values: Tensor) -> Tensor:
    """Return the mean of `values` (any shape, the same on every rank) over ranks, or `values`
    without ranks.

    Not differentiable. Every rank must call it, in the same order.
    """
    return sum_over_ranks(values.detach()) / world_size()
