"""Several processes that train one model: who they are, and means of their gradients.

Gradients are averaged explicitly rather than by DistributedDataParallel: the sums are made once,
in one order, when all gradients are there, so that balancers, frozen parts and several passes need
no special care.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ...quantizers.modules.distributed import from_first_rank, sum_over_ranks, world_size

# The first rank validates alone, and builds the data set alone, while the others wait for it.
_PATIENCE = timedelta(hours=4)


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together: `rank` of `size`, on `device`."""

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        return self.rank == 0


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """Join the ranks that `torchrun` started; alone where there are none.

    A process group that exists already is used and left alone. On CUDA each rank takes the device
    of its local number.
    """
    local = int(os.environ.get("LOCAL_RANK", "0"))
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", local)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if dist.is_available() and dist.is_initialized():
        yield Ranks(dist.get_rank(), dist.get_world_size(), device)
    elif several:
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=_PATIENCE)
        try:
            yield Ranks(dist.get_rank(), dist.get_world_size(), device)
            # gloo may abort a rank that leaves while another is still in a call.
            dist.barrier()
        finally:
            dist.destroy_process_group()
    else:
        yield Ranks(0, 1, device)


def average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Each gradient becomes its mean over ranks, where any rank has one; elsewhere it stays None.

    A rank without a gradient that others have counts as 0, as rows do that a loss leaves out.
    """
    ranks = world_size()
    if ranks == 1 or not parameters:
        return
    here = [0.0 if parameter.grad is None else 1.0 for parameter in parameters]
    device = parameters[0].device
    parts = [torch.tensor(here, device=device)]
    for parameter in parameters:
        grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        parts.append(grad.detach().flatten().float())
    flat = sum_over_ranks(torch.cat(parts))
    counts, *sums = flat.split([len(part) for part in parts])
    for parameter, count, total in zip(parameters, counts.tolist(), sums, strict=True):
        parameter.grad = (total / ranks).view_as(parameter).to(parameter.dtype) if count else None


def share_from_first(tensors: Iterable[Tensor]) -> None:
    """Give every rank the first rank's values."""
    if world_size() > 1:
        with torch.no_grad():
            for tensor in tensors:
                tensor.copy_(from_first_rank(tensor))
