"""Training on several ranks as if on one: sums, vectors chosen from all ranks, one rank's word.

Every function does nothing but return its input where torch.distributed isn't initialised. Each is
a collective: all ranks have to call it, in the same order.
"""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """How many ranks train together."""
    return dist.get_world_size() if _joined() else 1


def sum_over_ranks(values: Tensor) -> Tensor:
    """The sum of `values` over all ranks, the same bits on each."""
    if _joined():
        values = values.contiguous().clone()
        dist.all_reduce(values)
    return values


def from_first_rank(values: Tensor) -> Tensor:
    """What the first rank has in `values`."""
    if _joined():
        values = values.detach().contiguous().clone()
        dist.broadcast(values, src=0)
    return values


def counts_of_ranks(count: int, device: torch.device) -> list[int]:
    """The `count` of each rank."""
    if not _joined():
        return [count]
    counts = torch.zeros(dist.get_world_size(), dtype=torch.int64, device=device)
    counts[dist.get_rank()] = count
    return sum_over_ranks(counts).tolist()


def codes_of_all_ranks(codes: Tensor) -> Tensor:
    """The codes (N,) of all ranks end to end."""
    if not _joined():
        return codes
    counts = counts_of_ranks(codes.shape[0], codes.device)
    start = sum(counts[: dist.get_rank()])
    joined = codes.new_zeros(sum(counts))
    joined[start : start + codes.shape[0]] = codes
    return sum_over_ranks(joined)


def rows_of_all_ranks(rows: Tensor, counts: Sequence[int], indices: Sequence[int]) -> Tensor:
    """Chosen rows (R, D) of the rows of all ranks laid end to end.

    Args:
        rows: (N, D), those of this rank.
        counts: the N of each rank.
        indices: (R,) positions in the joined rows, the same on all ranks.
    """
    wanted = torch.as_tensor(indices, dtype=torch.int64, device=rows.device)
    if not _joined():
        return rows[wanted]
    local = wanted - sum(counts[: dist.get_rank()])
    mine = (local >= 0) & (local < rows.shape[0])
    chosen = rows.new_zeros((wanted.shape[0], rows.shape[1]))
    chosen[mine] = rows[local[mine]]
    return sum_over_ranks(chosen)


def _joined() -> bool:
    return dist.is_available() and dist.is_initialized()
