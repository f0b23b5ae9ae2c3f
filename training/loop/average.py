"""The exponential moving average of a module's weights, which usually beats the weights themselves.

Polyak & Juditsky, *Acceleration of stochastic approximation by averaging*, 1992; exponential as
commonly used in GANs since Yazıcı et al., arXiv 1806.04498.
"""

import copy

import torch
from torch import Tensor, nn


class WeightAverage:
    """A copy of a module with averaged parameters and the module's current buffers."""

    def __init__(self, module: nn.Module) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, module: nn.Module, decay: float) -> None:
        """Average ← decay · average + (1 − decay) · weights."""
        ours: list[Tensor] = list(self.module.parameters())
        theirs: list[Tensor] = list(module.parameters())
        torch._foreach_lerp_(ours, theirs, 1 - decay)
        # Buffers are copied: statistics and codebooks have their own moving averages.
        for own, other in zip(self.module.buffers(), module.buffers(), strict=True):
            own.copy_(other)
