"""Where kernels run: on a GPU, or on the CPU under Triton's interpreter (TRITON_INTERPRET=1)."""

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
    """A QuantizerError unless kernels can read `values`."""
    if values.device.type != ("cpu" if interpreting() else "cuda"):
        expected = "the CPU (Triton's interpreter is on)" if interpreting() else "a CUDA device"
        raise QuantizerError(f"{name} must be on {expected}, got {values.device}")


def on_device(values: Tensor) -> AbstractContextManager[object]:
    """Triton launches on the current device; this makes it the one that holds `values`."""
    return torch.cuda.device(values.device) if values.is_cuda else nullcontext()


def multiprocessors(values: Tensor) -> int:
    """How many programs run at a time; the interpreter's 4 makes tests split their work too."""
    if not values.is_cuda:
        return 4
    return int(torch.cuda.get_device_properties(values.device).multi_processor_count)


def cdiv(total: int, size: int) -> int:
    return -(-total // size)


def power_of_two(value: int) -> int:
    """The smallest power of two that is no less than a positive `value`."""
    return 1 << (value - 1).bit_length()


def _mend_interpreter() -> None:
    """Let interpreted loops have bounds that a kernel computed.

    Triton 3.6 turns an array of one element into an index in a way that numpy 2.4 refuses
    (triton-lang/triton issue 9171). Nothing but the interpreter is touched.
    """
    from triton.runtime import interpreter

    patch = interpreter._patch_lang_tensor

    def patch_and_mend(tensor: type, scope: Any) -> None:
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda number: int(number.handle.data.item()))

    interpreter._patch_lang_tensor = patch_and_mend


if interpreting():
    _mend_interpreter()
