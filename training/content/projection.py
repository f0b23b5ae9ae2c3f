"""Directions of a content encoder's features that represent content rather than recording
conditions.

Within-class covariance normalization (Hatch, Kajarekar & Stolcke, "Within-class Covariance
Normalization for SVM-based Speaker Recognition", Interspeech 2006), where a class is a frame of
clean speech and all its perturbed versions: features are scaled so that perturbations have equal
variance in every direction, and the directions with the largest variance of speech are kept.
Nearest centroids in this space change less under perturbations. A weaker scaling keeps more of the
phone differences; without scaling the result is principal components.
"""

import torch
from torch import Tensor

_RIDGE = 1e-4  # of the mean variance; avoids directions with almost no noise


def steady_directions(
    clean: Tensor, perturbed: Tensor, dim: int, evenness: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Fit an affine map that equalises the variance caused by perturbations.

    Args:
        clean: (frames, width) features.
        perturbed: (frames, width): of the same frames in perturbed speech.
        dim: directions to keep, those with the most variance first.
        evenness: from 0 to 1; features are scaled by the noise's standard deviation to the power
            of minus this.

    Returns:
        Weight (dim, width) and bias (dim,), float64: the mapped clean features have mean 0 and
        uncorrelated components. With an evenness of 1 the covariance of the mapped
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
