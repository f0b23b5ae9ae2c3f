"""Collective operations, so that training on several ranks equals training on one.

Without torch.distributed, every function returns its input. Each one is a collective: all ranks
must call it, in the same order.
"""

from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """Return the number of ranks."""
    return dist.get_world_size() if _joined() else 1


def sum_over_ranks(values: Tensor) -> Tensor:
    """Return the sum of `values` over all ranks, bit-identical on each."""
    if _joined():
        values = values.contiguous().clone()
        dist.all_reduce(values)
    return values


def from_first_rank(values: Tensor) -> Tensor:
    """Return the first rank's `values`."""
    if _joined():
        values = values.detach().contiguous().clone()
        dist.broadcast(values, src=0)
    return values


def counts_of_ranks(count: int, device: torch.device) -> list[int]:
    """Return the `count` of each rank."""
    if not _joined():
        return [count]
    counts = torch.zeros(dist.get_world_size(), dtype=torch.int64, device=device)
    counts[dist.get_rank()] = count
    return sum_over_ranks(counts).tolist()


def codes_of_all_ranks(codes: Tensor) -> Tensor:
    """Return the concatenated codes (N,) of all ranks."""
    if not _joined():
        return codes
    counts = counts_of_ranks(codes.shape[0], codes.device)
    start = sum(counts[: dist.get_rank()])
    joined = codes.new_zeros(sum(counts))
    joined[start : start + codes.shape[0]] = codes
    return sum_over_ranks(joined)


def rows_of_all_ranks(rows: Tensor, counts: Sequence[int], indices: Sequence[int]) -> Tensor:
    """Return chosen rows (R, D) of the concatenated rows of all ranks.

    Args:
        rows: (N, D), of this rank.
        counts: the N of each rank.
        indices: (R,) positions in the concatenated rows, the same on all ranks.
    """
    wanted = torch.as_tensor(indices, dtype=torch.int64, device=rows.device)
    if not _joined():
        return rows[wanted]
    local = wanted - sum(counts[: dist.get_rank()])
    mine = (local >= 0) & (local < rows.shape[0])
    chosen = rows.new_zeros((wanted.shape[0], rows.shape[1]))
    chosen[mine] = rows[local[mine]]
    return sum_over_ranks(chosen)


def divided_over_ranks(
    function: Callable[[Tensor], Tensor], tensors: Sequence[Tensor]
) -> list[Tensor]:
    """Return `function` of each tensor, where every rank computes its part of them.

    Args:
        function: gives a tensor of the same shape; it should take time in proportion to the number
            of its elements.
        tensors: the same on all ranks.
    """
    if not _joined() or not tensors:
        return [function(tensor) for tensor in tensors]
    sizes = [tensor.numel() for tensor in tensors]
    loads = [0] * dist.get_world_size()
    own = [torch.zeros_like(tensor) for tensor in tensors]
    for index in sorted(range(len(tensors)), key=lambda index: -sizes[index]):
        owner = loads.index(min(loads))
        loads[owner] += sizes[index]
        if owner == dist.get_rank():
            own[index] = function(tensors[index])
    # Of each, all ranks but one have zeros.
    found = sum_over_ranks(torch.cat([part.flatten() for part in own])).split(sizes)
    return [part.view_as(tensor) for part, tensor in zip(found, tensors, strict=True)]


def _joined() -> bool:
    return dist.is_available() and dist.is_initialized()
