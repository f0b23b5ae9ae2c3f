"""The processes that fit together: those of `torch.distributed` where it is initialised."""

from typing import TypeVar

import torch.distributed as dist
from torch import Tensor

from ...errors import QuantizerError

T = TypeVar("T")


class Processes:
    """Collective operations, which do nothing where there is one process.

    Args:
        alone: take this process for the only one.

    Attributes:
        rank: of this process.
        size: how many there are.
    """

    def __init__(self, alone: bool = False) -> None:
        several = not alone and dist.is_available() and dist.is_initialized()
        self.rank = dist.get_rank() if several else 0
        self.size = dist.get_world_size() if several else 1

    def summed(self, values: Tensor) -> Tensor:
        """A new tensor: the sum over all processes."""
        values = values.clone()
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def largest(self, values: Tensor) -> Tensor:
        """A new tensor: the maximum over all processes."""
        values = values.clone()
        if self.size > 1:
            dist.all_reduce(values, dist.ReduceOp.MAX)
        return values

    def first(self, values: Tensor) -> Tensor:
        """The tensor of rank 0, which has the same shape on all."""
        if self.size > 1:
            dist.broadcast(values, 0)
        return values

    def gathered(self, value: T) -> list[T]:
        """One small object of each process, by rank."""
        if self.size == 1:
            return [value]
        values: list[T | None] = [None] * self.size
        dist.all_gather_object(values, value)
        return values  # type: ignore[return-value]

    def raise_together(self, error: QuantizerError | None) -> None:
        """Raise on all processes what went wrong on any, so that none waits for the others."""
        errors = self.gathered(None if error is None else str(error))
        if error is not None:
            raise error
        for rank, message in enumerate(errors):
            if message is not None:
                raise QuantizerError(f"rank {rank}: {message}")
