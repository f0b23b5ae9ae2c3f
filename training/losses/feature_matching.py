"""Distance between the discriminators' features of real and of generated audio.

Kumar et al., *MelGAN*, 2019 (arXiv 1910.06711), and HiFi-GAN (arXiv 2010.05646); divided by the
mean magnitude of the real features as in EnCodec (arXiv 2210.13438), without which layers with
large activations would dominate.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ...errors import TrainingError
from .ranks import mean_over_ranks

_LEAST_SIZE = 1e-5


def feature_matching_loss(
    real: Sequence[Sequence[Tensor]], fake: Sequence[Sequence[Tensor]], normalized: bool = True
) -> Tensor:
    """L1 distance of features, a scalar: the mean over layers, then over discriminators.

    No gradient flows into `real`. In a distributed run the layers' normalisation is averaged over
    ranks, so every rank must call it.

    Args:
        real, fake: features[discriminator][layer], of any shape, the same on both sides.
        normalized: divide each layer by the mean absolute value of its real features.

    Raises:
        TrainingError: no features, or features that don't correspond.
    """
    if [len(layers) for layers in real] != [len(layers) for layers in fake]:
        raise TrainingError("real and fake features come from different discriminators")
    if not real or not all(real):
        raise TrainingError("feature matching needs discriminators with at least one layer each")
    distances, sizes = [], []
    for real_layers, fake_layers in zip(real, fake, strict=True):
        for truth, guess in zip(real_layers, fake_layers, strict=True):
            if truth.shape != guess.shape:
                raise TrainingError(
                    f"features of shapes {tuple(truth.shape)} and {tuple(guess.shape)} don't match"
                )
            # Differences in the dtype of the features, the mean in float32: bfloat16 is too coarse
            # for sums.
            truth = truth.detach()
            dtype = torch.float64 if truth.dtype == torch.float64 else torch.float32
            distances.append((guess - truth).abs().mean(dtype=dtype))
            sizes.append(truth.abs().mean(dtype=dtype))
    each = torch.stack(distances)
    if normalized:
        each = each / mean_over_ranks(torch.stack(sizes)).clamp(min=_LEAST_SIZE)
    counts = [len(layers) for layers in fake]
    return torch.stack([part.mean() for part in each.split(counts)]).mean()
