"""Choice of the transformer layers that features are taken from."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

#: The model's final output, after a last normalization if it has one.
OUTPUT = -1


@dataclass(frozen=True)
class LayerChoice:
    """One layer, or a combination of several.

    Attributes:
        layers: 0 is the input of the first transformer layer, i the output of the i-th, before
            any normalization after the last; -1 is the model's final output. HuBERT's and
            fairseq's recipes count the same way.
        combine: `concatenate`; `sum`, by `weights`; or `each`: one codebook per layer.
        weights: one per layer, for `sum`; default: all equal. They are scaled to a sum of 1.
    """

    layers: tuple[int, ...] = (6,)
    combine: Literal["concatenate", "sum", "each"] = "concatenate"
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not self.layers or len(set(self.layers)) != len(self.layers):
            raise ValueError(f"expected one or more different layers, got {self.layers}")
        if min(self.layers) < OUTPUT:
            raise ValueError(f"layers count from 0, and -1 is the output; got {self.layers}")
        if self.weights and (self.combine != "sum" or len(self.weights) != len(self.layers)):
            raise ValueError(
                f"weights are for combine='sum', one a layer: got {self.weights} for {self.layers}"
            )
        if self.weights and not 0 < sum(self.weights) < math.inf:
            raise ValueError(f"weights must have a positive, finite sum, got {self.weights}")

    def dims(self, width: int) -> tuple[int, ...]:
        """Return the dimensions of each group of features, for layers of `width`."""
        if self.combine == "each":
            return (width,) * len(self.layers)
        return (width,) if self.combine == "sum" else (width * len(self.layers),)

    def depth(self, available: int) -> int:
        """Return how many layers must run, at least one.

        Raises:
            ValueError: the model has fewer.
        """
        deepest = max(self.layers)
        if deepest > available:
            raise ValueError(f"layer {deepest} of a model that has {available}")
        # The input of the layers is taken where the first one gets it.
        return available if OUTPUT in self.layers else max(1, deepest)

    def put_together(self, outputs: Mapping[int, Tensor]) -> Tensor:
        """Combine the layers' outputs (…, frames, width) to features (…, frames, dim)."""
        chosen: Sequence[Tensor] = [outputs[layer] for layer in self.layers]
        if self.combine != "sum":
            return torch.cat(list(chosen), dim=-1)
        weights = self.weights or (1.0,) * len(chosen)
        total = torch.zeros_like(chosen[0])
        for layer, weight in zip(chosen, weights, strict=True):
            total += layer * (weight / sum(weights))
        return total
