"""Where an FSQ codec's projections start: the main directions of latents that mean something.

Random projections of a trained encoder's latents lose most of what they say, and the decoder
forgets what it knew before they have learned better. The largest principal components, scaled so
that their values fill the levels, keep what six channels can keep.
"""

import torch
from torch import Tensor, nn

from ...quantizers.finite_scalar import fsq_decode
from ...quantizers.modules.finite_scalar import ResidualFiniteScalarQuantizer

# Standard deviation before the hyperbolic tangent, which then makes values about uniform.
_SPREAD = 0.9


@torch.no_grad()
def start_projections(quantizer: ResidualFiniteScalarQuantizer, latents: Tensor) -> None:
    """Set both projections of a quantizer.

    Args:
        quantizer: with projections.
        latents: (N, dim) of the encoder as it is, many more than channels.
    """
    inward, outward = quantizer.project_in, quantizer.project_out
    assert isinstance(inward, nn.Linear) and isinstance(outward, nn.Linear)
    levels = quantizer.config.levels
    x = latents.double()
    mean = x.mean(0)
    variances, directions = torch.linalg.eigh(torch.cov(x.T))
    # eigh's order is ascending, and the widest components get the most levels.
    order = sorted(range(len(levels)), key=lambda channel: -levels[channel])
    main = directions.flip(1)[:, : len(levels)]
    # A sign that is the same on every machine.
    main = main * main.gather(0, main.abs().argmax(0)[None]).sign()
    scaled = (main * (_SPREAD / variances.flip(0)[: len(levels)].sqrt())).T
    weight = torch.empty_like(scaled)
    weight[order] = scaled
    inward.weight.copy_(weight)
    inward.bias.copy_(-weight @ mean)
    values = fsq_decode(quantizer.encode(latents[None], 1)[0, 0], levels).double()
    ones = values.new_ones(len(values), 1)
    solution = torch.linalg.lstsq(torch.cat([values, ones], 1), x).solution
    outward.weight.copy_(solution[:-1].T)
    outward.bias.copy_(solution[-1])
