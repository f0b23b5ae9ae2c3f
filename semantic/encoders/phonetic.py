"""Directions of a published encoder's features in which phones differ most.

Most of the variance of such features is not phonetic: level, pitch, speaker, place in the sentence.
Linear discriminant analysis (`discriminants.py`) scales features so that frames of one phone have
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

from .discriminants import ClassStatistics, whitening
from .interface import SpeechEncoder
from .overlapping import WindowedEncoder


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
        self.encoder: WindowedEncoder = encoder
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
        # As the directions were found: with silence up to 30 s, a tenth of Whisper's units differ.
        return self._mapped(self.encoder.run_unpadded(samples))

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
    classes = ClassStatistics(encoder.dim)
    for samples, phones in speech:
        piece = samples[: encoder.window * encoder.hop].to(encoder.device)
        with torch.no_grad():
            rows = encoder.run_unpadded(piece).cpu()[: len(phones)]
        classes.add(rows, torch.from_numpy(np.asarray(phones, np.int64))[: len(rows)])
    classes.check(dim or 1)
    whiten = whitening(classes.within)
    most = len(classes.apart) - 1
    axes = torch.linalg.svd(classes.apart @ whiten.T, full_matrices=False).Vh[: dim or most]
    weight = axes @ whiten
    return Phonetic.of(encoder, weight, -weight @ classes.mean)
