"""Detect changes of a module's weights, so that values derived from them can be cached."""

import operator
from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

_version = operator.attrgetter("_version")

#: Values compared in each tensor, evenly spaced, to detect changes that torch does not count.
SAMPLES = 64


class WeightWatch:
    """A snapshot of a module's weights (all parameters and buffers) that detects later changes.

    It detects `load_state_dict` on the module, a submodule or a parent, optimizer steps, in-place
    operations, `.to`, and replaced tensors or submodules. Torch counts in-place changes; those that
    it does not count (through `.data`, NumPy, or in inference mode) are detected by comparing
    samples of each tensor, so a change of only a few values made that way may go unnoticed.

    Args:
        module: the module to watch. Its tensors' memory is kept alive as long as the watch, so that
            no new tensor can get the same address.
    """

    def __init__(self, module: nn.Module) -> None:
        # What must still be in each dictionary, in this order: tensors, submodules, None.
        self._parts: list[Any] = []
        self._holders: list[dict[str, Any]] = []
        self._tensors: list[Tensor] = []
        self._counted: list[Tensor] = []
        kinds: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
        for part in module.modules():
            for holder in (part._parameters, part._buffers, part._modules):
                if holder:
                    self._holders.append(holder)
                    self._parts += holder.values()
            for tensor in _tensors_of(part):
                if tensor is None or tensor.is_meta:
                    continue
                self._tensors.append(tensor)
                if not tensor.is_inference():
                    self._counted.append(tensor)
                kinds.setdefault((tensor.device, tensor.dtype), []).extend(_samples_of(tensor))
        self._sizes = list(map(len, self._holders))
        self._addresses = list(map(Tensor.data_ptr, self._tensors))
        self._versions = list(map(_version, self._counted))
        # Views of the storages themselves, which can be read again after they were moved.
        self._samples = list(kinds.values())
        self._values = self._read()

    def holds(self, sampled: bool = True) -> bool:
        """Whether no weight has changed.

        Args:
            sampled: compare samples of the values, too, which takes about three times as long.
        """
        # Without a loop in Python: a session asks before every frame.
        parts = chain.from_iterable(map(dict.values, self._holders))
        return (
            all(map(operator.is_, parts, self._parts))
            and list(map(_version, self._counted)) == self._versions
            and list(map(Tensor.data_ptr, self._tensors)) == self._addresses
            and list(map(len, self._holders)) == self._sizes
            and (not sampled or all(map(torch.equal, self._values, self._read())))
        )

    def _read(self) -> list[Tensor]:
        """Return the sampled values' bits, for each device and dtype."""
        with torch.no_grad():
            return [torch.cat(part).view(torch.uint8) for part in self._samples if part]


def _tensors_of(part: nn.Module) -> Iterator[Tensor | None]:
    yield from part._parameters.values()
    yield from part._buffers.values()


def _samples_of(tensor: Tensor) -> list[Tensor]:
    """Return views of sampled values of a tensor; none if it is not one plain block of memory."""
    if tensor.layout is not torch.strided or not tensor.numel():
        return []
    strides = tensor.stride()
    order = sorted(range(tensor.ndim), key=lambda axis: strides[axis], reverse=True)
    flat = tensor.detach().permute(order)
    if not flat.is_contiguous():
        return []
    return [flat.view(-1)[:: max(1, tensor.numel() // SAMPLES)][:SAMPLES]]
