"""Detect changes of a module's weights, so that values derived from them can be cached."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

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
        self._tensors: list[tuple[dict[str, Any], str, Tensor, int, int]] = []
        self._uncounted: list[tuple[dict[str, Any], str, Tensor, int]] = []
        self._parts: list[tuple[dict[str, Any], str, Any]] = []
        self._holders: list[tuple[dict[str, Any], int]] = []
        kinds: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
        for part in module.modules():
            for holder in (part._parameters, part._buffers, part._modules):
                self._holders += [(holder, len(holder))] if holder else []
            self._parts += [(part._modules, name, child) for name, child in part._modules.items()]
            for holder, name, tensor in _tensors_of(part):
                if tensor is None or tensor.is_meta:
                    self._parts.append((holder, name, tensor))
                    continue
                if tensor.is_inference():
                    self._uncounted.append((holder, name, tensor, tensor.data_ptr()))
                else:
                    address, version = tensor.data_ptr(), tensor._version
                    self._tensors.append((holder, name, tensor, address, version))
                kinds.setdefault((tensor.device, tensor.dtype), []).extend(_samples_of(tensor))
        # Views of the storages themselves, which can be read again after they were moved.
        self._samples = list(kinds.values())
        self._values = self._read()

    def holds(self, sampled: bool = True) -> bool:
        """Whether no weight has changed.

        Args:
            sampled: compare samples of the values, too, which takes about three times as long.
        """
        for holder, name, tensor, address, version in self._tensors:
            if (
                holder.get(name) is not tensor
                or tensor._version != version
                or tensor.data_ptr() != address
            ):
                return False
        for holder, name, tensor, address in self._uncounted:
            if holder.get(name) is not tensor or tensor.data_ptr() != address:
                return False
        for holder, name, part in self._parts:
            if holder.get(name) is not part:
                return False
        for holder, count in self._holders:
            if len(holder) != count:
                return False
        return not sampled or all(map(torch.equal, self._values, self._read()))

    def _read(self) -> list[Tensor]:
        """Return the sampled values' bits, for each device and dtype."""
        with torch.no_grad():
            return [torch.cat(part).view(torch.uint8) for part in self._samples if part]


def _tensors_of(part: nn.Module) -> Iterator[tuple[dict[str, Any], str, Tensor | None]]:
    for holder in (part._parameters, part._buffers):
        for name, tensor in holder.items():
            yield holder, name, tensor


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
