"""Processes that fit together, with `torch.distributed` if it is initialized."""

from typing import TypeVar

import torch.distributed as dist
from torch import Tensor

from ...errors import QuantizerError

T = TypeVar("T")


class Processes:
    """Collective operations, which return their input if there is one process.

    Args:
        alone: use only this process.

    Attributes:
        rank: of this process.
        size: number of processes.
    """

    def __init__(self, alone: bool = False) -> None:
        several = not alone and dist.is_available() and dist.is_initialized()
        self.rank = dist.get_rank() if several else 0
        self.size = dist.get_world_size() if several else 1

    def summed(self, values: Tensor) -> Tensor:
        """Return a new tensor: the sum over all processes."""
        values = values.clone()
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def largest(self, values: Tensor) -> Tensor:
        """Return a new tensor: the maximum over all processes."""
        values = values.clone()
        if self.size > 1:
            dist.all_reduce(values, dist.ReduceOp.MAX)
        return values

    def first(self, values: Tensor) -> Tensor:
        """Return rank 0's tensor, which has the same shape on all."""
        if self.size > 1:
            dist.broadcast(values, 0)
        return values

    def gathered(self, value: T) -> list[T]:
        """Return a small object of each process, by rank."""
        if self.size == 1:
            return [value]
        values: list[T | None] = [None] * self.size
        dist.all_gather_object(values, value)
        return values  # type: ignore[return-value]

    def raise_together(self, error: QuantizerError | None) -> None:
        """Raise an error of any process on all of them, so that none waits for the others."""
        errors = self.gathered(None if error is None else str(error))
        if error is not None:
            raise error
        for rank, message in enumerate(errors):
            if message is not None:
                raise QuantizerError(f"rank {rank}: {message}")
