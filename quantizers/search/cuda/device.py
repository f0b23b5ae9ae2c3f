"""Run kernels on a GPU, or on the CPU under Triton's interpreter (TRITON_INTERPRET=1)."""

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from ....errors import QuantizerError


def interpreting() -> bool:
    """Whether kernels are interpreted; Triton reads the variable when a kernel is defined."""
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "yes", "on")


def require_device(values: Tensor, name: str) -> None:
    """Raise a QuantizerError unless kernels can read `values`."""
    if values.device.type != ("cpu" if interpreting() else "cuda"):
        expected = "the CPU (Triton's interpreter is on)" if interpreting() else "a CUDA device"
        raise QuantizerError(f"{name} must be on {expected}, got {values.device}")


def on_device(values: Tensor) -> AbstractContextManager[object]:
    """Make the device of `values` current, since Triton launches kernels on the current device."""
    return torch.cuda.device(values.device) if values.is_cuda else nullcontext()


def multiprocessors(values: Tensor) -> int:
    """Number of programs that run at a time; 4 in the interpreter, so that tests split work too."""
    if not values.is_cuda:
        return 4
    return int(torch.cuda.get_device_properties(values.device).multi_processor_count)


def cdiv(total: int, size: int) -> int:
    return -(-total // size)


def power_of_two(value: int) -> int:
    """Return the smallest power of two that is at least a positive `value`."""
    return 1 << (value - 1).bit_length()


def _mend_interpreter() -> None:
    """Allow loops with computed bounds in the interpreter.

    Triton 3.6 converts an array of one element to an index in a way that numpy 2.4 refuses
    (triton-lang/triton issue 9171). This changes only the interpreter.
    """
    from triton.runtime import interpreter

    patch = interpreter._patch_lang_tensor

    def patch_and_mend(tensor: type, scope: Any) -> None:
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda number: int(number.handle.data.item()))

    interpreter._patch_lang_tensor = patch_and_mend


if interpreting():
    _mend_interpreter()
