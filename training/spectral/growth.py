"""Initializing deeper stacks from shallower ones: new layers are identities at first.

Layers of a residual stack that add zero are the identity, so a deeper network can start as an exact
copy of a shallower trained one (Chen et al., "Net2Net", arXiv 1511.05641; Gong et al., "Efficient
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
    """Load weights into a module whose stacks may have more layers than the loaded ones.

    The loaded layers come first; further layers add zero at first.

    Args:
        module: with `CausalStack`s and `CausalTransformer`s, changed in place.
        weights: as its state dict, except for missing layers.

    Raises:
        RuntimeError: as `load_state_dict` does, if more than layers is missing.
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
    """Make a residual block add zero."""
    if isinstance(block, TransformerLayer):
        block.attention.outward.weight.zero_()
        block.narrow.weight.zero_()
        block.narrow.bias.zero_()
    else:
        assert isinstance(block, CausalBlock)
        block.scale.zero_()
