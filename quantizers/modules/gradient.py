"""Gradient estimators for quantization: the value is exactly the code's, the gradient is not.

`straight_through` copies the gradient (Bengio et al., arXiv 1308.3432). `rotation` rotates and
scales it as the vector would be rotated and scaled to become the code (Fifty et al., "Restructuring
Vector Quantization with the Rotation Trick", arXiv 2410.06424).
"""

from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ...errors import QuantizerError

Passing = Literal["straight_through", "rotation"]


def pass_gradient(x: Tensor, quantized: Tensor, passing: Passing = "straight_through") -> Tensor:
    """Return the values of `quantized` (…, D), with a gradient for x (…, D) only.

    Raises:
        QuantizerError: `passing` is unknown.
    """
    if passing not in get_args(Passing):
        known = ", ".join(get_args(Passing))
        raise QuantizerError(f"unknown way of passing gradients {passing!r}; there are {known}")
    function: Any = _Rotation if passing == "rotation" else _StraightThrough
    passed: Tensor = function.apply(x, quantized.detach())
    return passed


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, quantized: Tensor) -> Tensor:
        return quantized.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


class _Rotation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, quantized: Tensor) -> Tensor:
        ctx.save_for_backward(x, quantized)
        return quantized.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        x, quantized = ctx.saved_tensors
        (gradient,) = gradients
        x_length = x.norm(dim=-1, keepdim=True)
        length = quantized.norm(dim=-1, keepdim=True)
        # A zero vector has no direction to rotate from or to; its gradient is copied.
        rotates = (x_length > 0) & (length > 0)
        start = x / torch.where(rotates, x_length, 1.0)
        end = quantized / torch.where(rotates, length, 1.0)
        middle = torch.nn.functional.normalize(start + end, dim=-1)
        rotated = (
            gradient
            - 2 * middle * (middle * gradient).sum(-1, keepdim=True)
            + 2 * start * (end * gradient).sum(-1, keepdim=True)
        )
        scale = length / torch.where(rotates, x_length, 1.0)
        return torch.where(rotates, scale * rotated, gradient), None
