"""Distributed training: this process's rank, and averaging of gradients over ranks.

Gradients are averaged explicitly rather than by DistributedDataParallel: once, in a fixed order,
when all gradients are computed, so that balancers, frozen parts and several backward passes need no
special handling.
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

# The first rank alone validates and builds data sets, while the others wait for it.
_PATIENCE = timedelta(hours=4)


@dataclass(frozen=True)
class Ranks:
    """This process in the group: `rank` of `size`, on `device`."""

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        return self.rank == 0


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """Join the process group of `torchrun`; without one, a single rank.

    An existing process group is used and not closed. On CUDA each rank uses the device of its local
    rank.
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
    """Replace each gradient by its mean over ranks, if any rank has one; otherwise it stays None.

    A missing gradient counts as 0 if other ranks have one.
    """
    ranks = world_size()
    if ranks == 1 or not parameters:
        return
    here = [0.0 if parameter.grad is None else 1.0 for parameter in parameters]
    device = parameters[0].device
    parts = [torch.tensor(here, device=device)]
    for parameter in parameters:
        grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        wide = torch.promote_types(grad.dtype, torch.float32)
        parts.append(grad.detach().flatten().to(wide))
    flat = sum_over_ranks(torch.cat(parts))
    counts, *sums = flat.split([len(part) for part in parts])
    for parameter, count, total in zip(parameters, counts.tolist(), sums, strict=True):
        parameter.grad = (total / ranks).view_as(parameter).to(parameter.dtype) if count else None


def share_from_first(tensors: Iterable[Tensor]) -> None:
    """Copy the first rank's values to every rank."""
    if world_size() > 1:
        with torch.no_grad():
            for tensor in tensors:
                tensor.copy_(from_first_rank(tensor))
