"""Deeper stacks from shallower ones: what is added changes nothing at first.

Layers of a residual stack that add zero are the identity, so a deeper network can begin as exactly
the one that was trained before (Chen et al., "Net2Net", arXiv 1511.05641; Gong et al., "Efficient
Training of BERT by Progressively Stacking", 2019).
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ...codecs.neural.layers.causal import CausalBlock, CausalStack
from ...codecs.neural.layers.transformer import CausalTransformer, TransformerLayer


@torch.no_grad()
def load_grown(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load weights into a module whose stacks may have more layers than those had.

    Layers of the weights are the first ones; those behind them give nothing to begin with.

    Args:
        module: with `CausalStack`s and `CausalTransformer`s, changed in place.
        weights: as its state dict, fewer layers aside.

    Raises:
        RuntimeError: as `load_state_dict` does, where more than layers is missing.
    """
    found = dict(weights)
    own = module.state_dict()
    for name, stack in module.named_modules():
        if not isinstance(stack, CausalStack | CausalTransformer):
            continue
        blocks = "layers" if isinstance(stack, CausalTransformer) else "blocks"
        prefix = f"{name}.{blocks}." if name else f"{blocks}."
        for number, block in enumerate(getattr(stack, blocks)):
            if any(key.startswith(f"{prefix}{number}.") for key in found):
                continue
            _silence(block)
            found |= {k: v for k, v in own.items() if re.match(rf"{prefix}{number}\.", k)}
    module.load_state_dict(found)


def _silence(block: nn.Module) -> None:
    """Make a block add nothing to what passes it."""
    if isinstance(block, TransformerLayer):
        block.attention.outward.weight.zero_()
        block.narrow.weight.zero_()
        block.narrow.bias.zero_()
    else:
        assert isinstance(block, CausalBlock)
        block.scale.zero_()
