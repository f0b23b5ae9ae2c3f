"""The moving average of a module's weights, which sounds better than the weights themselves.

Polyak & Juditsky, *Acceleration of stochastic approximation by averaging*, 1992; exponential as in
every GAN since Yazıcı et al., arXiv 1806.04498.
"""

import copy

import torch
from torch import Tensor, nn


class WeightAverage:
    """A copy of a module whose parameters follow it slowly and whose buffers are its own."""

    def __init__(self, module: nn.Module) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, module: nn.Module, decay: float) -> None:
        """Average ← decay · average + (1 − decay) · weights."""
        ours: list[Tensor] = list(self.module.parameters())
        theirs: list[Tensor] = list(module.parameters())
        torch._foreach_lerp_(ours, theirs, 1 - decay)
        # Statistics and codebooks that are buffers have averages of their own.
        for own, other in zip(self.module.buffers(), module.buffers(), strict=True):
            own.copy_(other)
