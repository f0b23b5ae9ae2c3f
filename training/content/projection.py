"""Which directions of a content encoder's features say what is said, and not how it sounds.

Within-class covariance normalization (Hatch, Kajarekar & Stolcke, "Within-class Covariance
Normalization for SVM-based Speaker Recognition", Interspeech 2006), where a class is a frame of
clean speech and all perturbed versions of it: features are scaled so that perturbations move them
equally far in every direction, and the directions are kept in which speech then varies most.
Nearest centroids there change less when a recording does and its words do not. Half of that
scaling keeps more of what tells phones apart; none of it leaves principal components.
"""

import torch
from torch import Tensor

_RIDGE = 1e-4  # of the mean variance; keeps a direction without any noise from counting alone


def steady_directions(
    clean: Tensor, perturbed: Tensor, dim: int, evenness: float = 1.0
) -> tuple[Tensor, Tensor]:
    """An affine map that evens out what perturbations do.

    Args:
        clean: (frames, width) features.
        perturbed: (frames, width): of the same frames in perturbed speech.
        dim: directions to keep, those with the most variance first.
        evenness: from 0 to 1; features are scaled by the noise's standard deviation to the power
            of minus this.

    Returns:
        Weight (dim, width) and bias (dim,), float64: the mapped clean features have mean 0 and
        their components are uncorrelated. With an evenness of 1 the covariance of the mapped
        differences is about 1 in every direction kept; with 0 the map is a rotation and a cut.
    """
    clean, perturbed = clean.double(), perturbed.double()
    mean = clean.mean(0)
    spread = (clean - mean).T @ (clean - mean) / len(clean)
    noise = (perturbed - clean).T @ (perturbed - clean) / len(clean)
    ridge = _RIDGE * spread.diagonal().mean()
    values, vectors = torch.linalg.eigh(noise + ridge * torch.eye(len(mean), dtype=noise.dtype))
    even = vectors * values.pow(-evenness / 2) @ vectors.T
    axes = torch.linalg.eigh(even @ spread @ even).eigenvectors.flip(1)[:, :dim]
    weight = axes.T @ even
    return weight, -weight @ mean
