"""Phone directions of a trained content encoder: its output becomes that of the phones."""

import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from ...errors import QuantizerError
from ...semantic.encoders.content import Content
from .perturb import PerturbConfig, frame_pairs
from .projection import phonetic_directions
from .recipes import stage_4
from .task import LayerFeatures, with_directions

_CROPS = 16  # rows that are perturbed together, and whose voices are mixed
_CROP_FRAMES = 98  # at 50 Hz as many as in training


def with_phonetic_directions(
    content: Content,
    speech: Iterable[tuple[Tensor, np.ndarray]],
    *,
    perturb: PerturbConfig | None = None,
    seed: int = 0,
) -> Content:
    """Return an encoder whose output is the last layer's in directions in which phones differ, and
    perturbations change little: see `phonetic_directions`.

    Args:
        content: of which nothing else changes.
        speech: samples (samples,) float32 at its rate, and the phone of each frame, (frames,)
            integers from 0. Speech shorter than a crop of two seconds is not used.
        perturb: default: as the bundled encoder is trained.
        seed: of the perturbations.

    Raises:
        QuantizerError: there is too little speech, or there are too few phones.
    """
    own, config = content.network, content.config
    perturb = perturb or stage_4().perturb
    features = LayerFeatures(own)
    features.encoder.cpu()
    clean: list[Tensor] = []
    changed: list[Tensor] = []
    phones: list[Tensor] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for waves, labels in _batches(_crops(speech, config.hop)):
            pairs = frame_pairs(
                features, waves, perturb, config.sample_rate, config.hop, config.look_ahead
            )
            clean.append(pairs.clean.flatten(0, 1))
            changed.append(pairs.perturbed.flatten(0, 1))
            phones.append(labels.gather(1, pairs.places.round().long()).flatten())
    if not clean:
        seconds = _CROP_FRAMES * config.hop / config.sample_rate
        raise QuantizerError(f"no speech of {seconds:.1f} s or more has phones")
    weight, bias = phonetic_directions(
        torch.cat(clean), torch.cat(changed), torch.cat(phones), config.dim
    )
    made = with_directions(own, config, weight, bias)
    return Content.of(made).to(content.device)


def _crops(
    speech: Iterable[tuple[Tensor, np.ndarray]], hop: int
) -> Iterator[tuple[Tensor, np.ndarray]]:
    """Cut speech into crops (samples,) with their phones (frames,), and drop the rest."""
    for samples, phones in speech:
        frames = min(len(samples) // hop, len(phones))
        for start in range(0, frames - _CROP_FRAMES + 1, _CROP_FRAMES):
            end = start + _CROP_FRAMES
            yield samples[start * hop : end * hop], phones[start:end]


def _batches(crops: Iterable[tuple[Tensor, np.ndarray]]) -> Iterator[tuple[Tensor, Tensor]]:
    remaining = iter(crops)
    while batch := list(itertools.islice(remaining, _CROPS)):
        labels = np.stack([phones for _, phones in batch])
        yield torch.stack([wave for wave, _ in batch]), torch.from_numpy(labels.astype(np.int64))
