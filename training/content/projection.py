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

from ...semantic.encoders.discriminants import ClassStatistics, whitening

_RIDGE = 1e-4  # of the mean variance; avoids directions with almost no noise
# Of all variance beside that between phones: what follows the directions of the phones, and how far
# the result may differ from them.
_VARIANCE = 0.05


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


def phonetic_directions(
    clean: Tensor, perturbed: Tensor, phones: Tensor, dim: int
) -> tuple[Tensor, Tensor]:
    """Fit an affine map to directions in which phones differ, and perturbations change little.

    Linear discriminant analysis (see `semantic/encoders/phonetic.py`), where what frames of one
    phone differ in and what perturbations change count as noise alike. Phones' means differ in
    fewer directions than there are phones; the others are those of the most variance.

    Args:
        clean: (frames, width) features.
        perturbed: (frames, width): of the same frames in perturbed speech.
        phones: (frames,) int64, the phone of each frame, from 0.
        dim: directions to keep.

    Returns:
        Weight (dim, width) and bias (dim,), float64: the mapped clean features have mean 0.

    Raises:
        QuantizerError: fewer than two phones have enough frames.
    """
    clean, perturbed = clean.double(), perturbed.double()
    classes = ClassStatistics(clean.shape[1])
    classes.add(clean, phones)
    classes.check(1)
    within, between, mean = classes.within, classes.apart.T @ classes.apart, classes.mean
    spread = (clean - mean).T @ (clean - mean)
    noise = (perturbed - clean).T @ (perturbed - clean)
    whiten = whitening(_even(within) + _even(noise))
    signal = _even(between) + _VARIANCE * _even(spread)
    axes = torch.linalg.eigh(whiten @ signal @ whiten.T).eigenvectors.flip(1)[:, :dim]
    weight = axes.T @ whiten
    return weight, -weight @ mean


def _even(covariance: Tensor) -> Tensor:
    """Scale a covariance to a mean variance of 1."""
    return covariance / covariance.diagonal().mean()
