"""bfloat16 where the hardware computes with it: on other processors it takes 25 times as long as
float32.
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ..quantizers.modules.distributed import divided_over_ranks
from ..quantizers.search.products import has_bfloat16_products

# Newton–Schulz iterations of Muon and their coefficients, by Jordan et al.
_ITERATIONS = 5
_COEFFICIENTS = (3.4445, -4.775, 2.0315)
_EPSILON = 1e-7


def has_bfloat16(kind: str) -> bool:
    """Whether a type of device, such as ``cpu``, multiplies bfloat16 matrices at speed."""
    return kind != "cpu" or has_bfloat16_products()


def in_bfloat16(kind: str, is_wanted: bool = True) -> torch.autocast:
    """Autocast to bfloat16 on a type of device, if that is wanted and it has it."""
    return torch.autocast(kind, torch.bfloat16, enabled=is_wanted and has_bfloat16(kind))


def muon(matrices: Iterable[nn.Parameter], **settings: Any) -> torch.optim.Muon:
    """Create torch's Muon; on a processor without bfloat16, one that computes in float32.

    Args:
        matrices: parameters of two dimensions, on one device.
        settings: of `torch.optim.Muon`.
    """
    chosen = list(matrices)
    made = torch.optim.Muon if has_bfloat16(chosen[0].device.type) else MuonInFloat32
    return made(chosen, adjust_lr_fn="match_rms_adamw", **settings)


class MuonInFloat32(torch.optim.Muon):
    """Muon (Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024) in the
    parameters' own precision, with the state of torch's, which iterates in bfloat16.

    Ranks, which have the same gradients, divide the matrices among them.
    """

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            changed = [parameter for parameter in group["params"] if parameter.grad is not None]
            wanted = []
            for parameter in changed:
                grad, state = parameter.grad, self.state[parameter]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(grad)
                mean = state["momentum_buffer"].lerp_(grad, 1 - group["momentum"])
                wanted.append(grad.lerp(mean, group["momentum"]))
            updates = divided_over_ranks(orthogonalized, wanted)
            for parameter, update in zip(changed, updates, strict=True):
                rate = 0.2 * math.sqrt(max(parameter.shape)) * group["lr"]
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update, alpha=-rate)


def orthogonalized(matrix: Tensor) -> Tensor:
    """Return about the nearest matrix with orthonormal rows or columns, as Muon does: its singular
    values lie between 0.7 and 1.2.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / x.norm().clamp(min=_EPSILON)
    a, b, c = _COEFFICIENTS
    if 2 * x.shape[0] > x.shape[1]:
        for _ in range(_ITERATIONS):
            gram = x @ x.T
            x = a * x + (b * gram + c * gram @ gram) @ x
    else:  # all iterations on the Gram matrix, which is the smaller one
        gram, whole = x @ x.T, None
        for _ in range(_ITERATIONS):
            step = b * gram + c * gram @ gram
            step.diagonal().add_(a)
            whole = step if whole is None else step @ whole
            gram = step @ gram @ step
        x = whole @ x
    return x.T if tall else x
