"""Directions of a published encoder's features in which phones differ most.

Most of the variance of such features is not phonetic: level, pitch, speaker, place in the sentence.
Linear discriminant analysis (Fisher, "The Use of Multiple Measurements in Taxonomic Problems",
1936; for speech Haeb-Umbach & Ney, ICASSP 1992) scales features so that frames of one phone have
equal variance in all directions, and keeps the directions in which the phones' means differ. Units
of the result are purer than those of the features (`docs/units.md`), and phones are needed only for
the directions: everything else may have no transcripts.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from ...errors import QuantizerError
from .interface import SpeechEncoder
from .overlapping import WindowedEncoder

#: Frames that a phone needs to count.
_FEWEST = 50
# Of the mean variance within phones: directions with less of it would be noise made large.
_RIDGE = 1e-2


@dataclass(frozen=True)
class PhoneticConfig:
    """Configuration of `Phonetic`.

    Attributes:
        encoder: `kind`, and the fields of that kind's configuration.
        dim: directions that are kept.
    """

    encoder: dict[str, Any]
    dim: int

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise ValueError(f"dim must be at least 1, got {self.dim}")


class Phonetic(WindowedEncoder):
    """A published encoder, and an affine map of its features.

    Args:
        config: see `PhoneticConfig`.
        encoder: of the configuration's kind and fields; used as it is, not copied.

    Raises:
        ValueError: the encoder is not a published model, or has several groups of features.
    """

    kind = "phonetic"
    Config = PhoneticConfig

    weight: Tensor
    bias: Tensor

    def __init__(self, config: PhoneticConfig, encoder: SpeechEncoder) -> None:
        super().__init__(config)
        if not isinstance(encoder, WindowedEncoder) or isinstance(encoder, Phonetic):
            raise ValueError(f"phonetic directions are for published models, not {encoder.kind!r}")
        if len(encoder.dims) != 1:
            raise ValueError("phonetic directions are of one group of features: combine the layers")
        self.encoder = encoder
        self.sample_rate, self.hop = encoder.sample_rate, encoder.hop
        self.window, self.overlap = encoder.window, encoder.overlap
        self.latency, self.dims = encoder.latency, (config.dim,)
        self.license, self.source = encoder.license, encoder.source
        self.description = f"phonetic directions of {encoder.description}"
        # A codebook is chosen by these, so they are as exact as the distances to its codes.
        self.register_buffer("weight", torch.zeros(config.dim, encoder.dim, dtype=torch.float64))
        self.register_buffer("bias", torch.zeros(config.dim, dtype=torch.float64))

    @classmethod
    def of(cls, encoder: WindowedEncoder, weight: Tensor, bias: Tensor) -> Self:
        """Create an encoder from another and a map: weight (dim, features), bias (dim,)."""
        made = cls(PhoneticConfig(encoder.fields(), len(weight)), encoder)
        made.weight.copy_(weight)
        made.bias.copy_(bias)
        return made.to(encoder.device).eval()

    def run(self, samples: Tensor) -> Tensor:
        return self._mapped(self.encoder.run(samples))

    def hidden_states(self, waves: Tensor) -> dict[int, Tensor]:
        """Return the mapped features as layer 1; see `SpeechEncoder.hidden_states`."""
        choice = self.encoder.config.choice
        return {1: self._mapped(choice.put_together(self.encoder.hidden_states(waves)))}

    def _mapped(self, features: Tensor) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            return (features.double() @ self.weight.T + self.bias).float()


def fit_phonetic(
    encoder: WindowedEncoder, speech: Iterable[tuple[Tensor, np.ndarray]], dim: int | None = None
) -> Phonetic:
    """Find the directions in which phones differ.

    Args:
        encoder: whose features are mapped.
        speech: samples (samples,) float32 at the encoder's rate, and the phone of each frame,
            (frames,) integers from 0. What is beyond the encoder's window is not used.
        dim: directions to keep; default: all, one less than there are phones.

    Raises:
        QuantizerError: fewer than two phones have enough frames, or there are fewer than `dim`
            directions.
    """
    choice = encoder.config.choice
    counts = np.zeros(0, np.int64)
    sums = torch.zeros(0, encoder.dim, dtype=torch.float64)
    square = torch.zeros(encoder.dim, encoder.dim, dtype=torch.float64)
    for samples, phones in speech:
        # Not `features`, for which Whisper takes 30 s, however short the utterance.
        piece = samples[None, : encoder.window * encoder.hop].to(encoder.device)
        with torch.no_grad():
            rows = choice.put_together(encoder.hidden_states(piece))[0].cpu().double()
        rows = rows[: len(phones)]
        labels = torch.from_numpy(np.asarray(phones, np.int64))[: len(rows)]
        if (size := int(labels.max()) + 1) > len(counts):
            counts = np.pad(counts, (0, size - len(counts)))
            sums = torch.cat([sums, sums.new_zeros(size - len(sums), encoder.dim)])
        counts += np.bincount(labels.numpy(), minlength=len(counts))
        sums.index_add_(0, labels, rows)
        square += rows.T @ rows
    weight, bias = _discriminants(torch.from_numpy(counts), sums, square, dim)
    return Phonetic.of(encoder, weight, bias)


def _discriminants(
    counts: Tensor, sums: Tensor, square: Tensor, dim: int | None
) -> tuple[Tensor, Tensor]:
    """Weight (dim, features) and bias (dim,) from (classes,) counts, (classes, features) sums, and
    the sum of the outer products of all rows.
    """
    known = counts >= _FEWEST
    most = int(known.sum()) - 1
    if most < 1 or (dim or 1) > most:
        raise QuantizerError(
            f"{dim or 1} directions need {(dim or 1) + 1} phones of {_FEWEST} frames or more, and "
            f"there are {most + 1}"
        )
    total = counts.sum()
    mean = sums.sum(0) / total
    means = sums / counts.clamp(min=1)[:, None]
    within = (square - (means * counts[:, None]).T @ means) / total
    apart = (means - mean)[known] * (counts[known, None] / total).sqrt()
    # Channels with huge activations would set the ridge of all.
    scale = within.diagonal().clamp(min=1e-12).rsqrt()
    even = within * scale * scale[:, None]
    even += _RIDGE * torch.eye(len(even), dtype=even.dtype)
    values, vectors = torch.linalg.eigh(even)
    whiten = vectors * values.rsqrt() @ vectors.T * scale
    axes = torch.linalg.svd(apart @ whiten.T, full_matrices=False).Vh[: dim or most]
    weight = axes @ whiten
    return weight, -weight @ mean
