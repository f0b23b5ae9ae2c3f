"""How much of a speech encoder's features a linear layer finds in what a codec's codes say.

What a first codebook is made semantic by: D. Zhang et al., "SpeechTokenizer", arXiv 2308.16692; as
Mimi has it, Défossez et al., "Moshi", arXiv 2410.00037.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from .content import find_teacher, teacher_digest
from .lengths import mean_of_rows, silence_padding


@dataclass(frozen=True)
class DistillationConfig:
    """What is distilled, and into what.

    Attributes:
        weight: of the loss; 0 switches it off.
        encoder: see `ContentLossConfig`.
        layer: of the encoder, from 1; Whisper `base`'s fourth has the purest clusters
            (`docs/units.md`).
        codebooks: the first so many are what the features must be found in.
        delay: frames by which the codes may come late: a causal encoder knows a sound better when
            the next one has begun.
    """

    weight: float = 0.0
    encoder: str = "openai/whisper-base"
    layer: int = 4
    codebooks: int = 1
    delay: int = 0


class Distillation(nn.Module):
    """Mean squared error between standardised features and those that are predicted from codes.

    1 is the error of a constant. The linear layer that predicts is not here, since it is trained.

    Args:
        config: see `DistillationConfig`.
        sample_rate: Hz.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, config: DistillationConfig, sample_rate: int) -> None:
        super().__init__()
        self.config = config
        self.encoder = find_teacher(config.encoder, (config.layer,), sample_rate)
        with torch.no_grad():
            width = self._features(torch.zeros(1, 4 * self.encoder.hop)).shape[2]
        self.register_buffer("mean", torch.zeros(width), persistent=False)
        self.register_buffer("scale", torch.ones(width), persistent=False)

    @property
    def width(self) -> int:
        """Channels of the features."""
        return len(self.mean)

    @property
    def digest(self) -> str:
        """Of the encoder's weights and configuration."""
        return teacher_digest(self.encoder)

    @torch.no_grad()
    def standardise(self, batches: Iterable[Tensor]) -> None:
        """Learn the features' mean and spread from waves (batch, samples)."""
        features = [self._features(waves).double().flatten(0, 1) for waves in batches]
        variance, mean = torch.var_mean(torch.cat(features), 0, correction=0)
        self.mean.copy_(mean)
        self.scale.copy_(variance.sqrt().clamp(min=1e-6))

    def forward(self, predicted: Tensor, wave: Tensor, lengths: Tensor, hop: int) -> Tensor:
        """The loss, a scalar.

        Args:
            predicted: (batch, frames, width), of which frame n was made from codes up to n.
            wave: (batch, samples), whose features they should be.
            lengths: (batch,) valid samples.
            hop: samples of a frame of `predicted`.
        """
        with torch.no_grad():
            features = self._features(silence_padding(wave, lengths).float())
            features = (features - self.mean) / self.scale
            wanted = at_rate(features, self.encoder.hop, hop, predicted.shape[1])
        delay = self.config.delay
        error = (predicted[:, delay:].float() - wanted[:, : wanted.shape[1] - delay]).square()
        counts = (-(-lengths // hop)).clamp(max=error.shape[1])
        return self.config.weight * mean_of_rows(error, counts)

    def _features(self, waves: Tensor) -> Tensor:
        return self.encoder.hidden_states(waves)[self.config.layer].float()


def at_rate(features: Tensor, hop: int, wanted: int, frames: int) -> Tensor:
    """Features (batch, frames, dim) of one hop, straight between the middles of frames of another.

    Args:
        features: with `hop` samples a frame.
        hop, wanted: samples.
        frames: that come out; the last ones may repeat.
    """
    if hop != wanted:
        middles = (torch.arange(frames, device=features.device) + 0.5) * (wanted / hop) - 0.5
        middles = middles.clamp(0, features.shape[1] - 1)
        below = middles.floor().long()
        above = (below + 1).clamp(max=features.shape[1] - 1)
        part = (middles - below)[:, None].to(features)
        return features[:, below] * (1 - part) + features[:, above] * part
    missing = frames - features.shape[1]
    if missing <= 0:
        return features[:, :frames]
    return functional.pad(features.transpose(1, 2), (0, missing), mode="replicate").transpose(1, 2)
