"""Averages over ranks, for figures that must be those of the joined batch."""

import torch
import torch.distributed as dist
from torch import Tensor


def mean_over_ranks(values: Tensor) -> Tensor:
    """Mean of `values` (any shape, the same on every rank) over ranks; itself without any.

    Not differentiable. Every rank must call it, in the same order.
    """
    values = values.detach()
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return values
    total = values.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total / dist.get_world_size()
