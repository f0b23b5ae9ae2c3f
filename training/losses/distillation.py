"""Distillation of a speech encoder's features into the first codebooks of a codec.

It makes the first codebook semantic: D. Zhang et al., "SpeechTokenizer", arXiv 2308.16692; also
used by Mimi, Défossez et al., "Moshi", arXiv 2410.00037.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...errors import TrainingError
from ...quantizers.kmeans import KMeans, KMeansConfig
from .content import find_teacher, teacher_digest, without_outliers
from .lengths import mean_of_rows, silence_padding

# Of the training set, to estimate the features' mean and standard deviation; to fit their units.
_BATCHES = 32
_UNIT_BATCHES = 160


@dataclass(frozen=True)
class DistillationConfig:
    """Teacher and student of the distillation.

    Attributes:
        weight: of the loss; 0 disables it.
        encoder: see `ContentLossConfig`.
        layer: of the encoder, from 1; Whisper `base`'s fourth has the purest clusters
            (`docs/units.md`).
        clusters: number of k-means units of the features; these are predicted instead, by a
            classification. 0: the features are. Most of the features' variance is not phonetic.
        codebooks: number of codebooks, from the first, that predict the features.
        exclusive: whether these codebooks learn what they say from the teacher alone. Otherwise the
            sound has a say, too, and it has more gradient: the codes are hardly semantic then.
        delay: frames by which the codes may lag behind the features: a causal encoder recognises a
            sound better when the next one has begun.
    """

    weight: float = 0.0
    encoder: str = "openai/whisper-base"
    layer: int = 4
    clusters: int = 0
    codebooks: int = 1
    exclusive: bool = False
    delay: int = 0

    def __post_init__(self) -> None:
        if min(self.layer, self.codebooks) < 1 or min(self.weight, self.delay) < 0:
            raise TrainingError(
                "distillation: expected layer and codebooks of at least 1, weight and delay of at "
                f"least 0, got {self.layer}, {self.codebooks}, {self.weight} and {self.delay}"
            )
        if self.clusters < 0 or self.clusters == 1:
            raise TrainingError(
                f"distillation.clusters: expected 0, or at least 2, got {self.clusters}"
            )


class Distillation(nn.Module):
    """Mean squared error between standardised features and those predicted from codes; with
    `clusters` the cross-entropy of their units, divided by the units' entropy.

    A constant prediction has a loss of 1. The linear layer that predicts is not part of this
    module, since it is trained.

    Args:
        config: see `DistillationConfig`.
        sample_rate: Hz.
    """

    mean: Tensor
    scale: Tensor
    centroids: Tensor
    entropy: Tensor

    def __init__(self, config: DistillationConfig, sample_rate: int) -> None:
        super().__init__()
        self.config = config
        self.encoder = find_teacher(config.encoder, (config.layer,), sample_rate)
        with torch.no_grad():
            width = self._features(torch.zeros(1, 4 * self.encoder.hop)).shape[2]
        self.register_buffer("mean", torch.zeros(width), persistent=False)
        self.register_buffer("scale", torch.ones(width), persistent=False)
        centroids = torch.zeros(config.clusters, width)
        self.register_buffer("centroids", centroids, persistent=False)
        self.register_buffer("entropy", torch.tensor(1.0), persistent=False)

    @property
    def width(self) -> int:
        """Number of channels that are predicted: of the features, or one for each unit."""
        return self.config.clusters or len(self.mean)

    @property
    def batches(self) -> int:
        """Number of batches that `standardise` needs."""
        return _UNIT_BATCHES if self.config.clusters else _BATCHES

    @property
    def digest(self) -> str:
        """SHA-256 of the encoder's weights and configuration."""
        return teacher_digest(self.encoder)

    @torch.no_grad()
    def standardise(self, batches: Iterable[Tensor]) -> None:
        """Estimate the features' mean and standard deviation from waves (batch, samples), and
        fit their units.
        """
        features = torch.cat([self._features(waves).flatten(0, 1) for waves in batches])
        variance, mean = torch.var_mean(features.double(), 0, correction=0)
        self.mean.copy_(mean)
        if not self.config.clusters:
            self.scale.copy_(variance.sqrt().clamp(min=1e-6))
            return
        # Units of the features as they are, except for channels that would decide alone.
        self.scale.copy_(1 / torch.from_numpy(without_outliers(features.cpu().numpy())))
        rows = ((features - self.mean) / self.scale).cpu()
        settings = KMeansConfig(self.config.clusters, iterations=12)
        kmeans = KMeans(settings).fit(rows, alone=True)
        self.centroids.copy_(kmeans.centroids)
        shares = torch.bincount(kmeans(rows), minlength=self.config.clusters) / len(rows)
        self.entropy.copy_(torch.special.entr(shares).sum())

    def forward(self, predicted: Tensor, wave: Tensor, lengths: Tensor, hop: int) -> Tensor:
        """Compute the loss, a scalar.

        Args:
            predicted: (batch, frames, width), where frame n was predicted from codes up to n.
            wave: (batch, samples), the input of the teacher.
            lengths: (batch,) valid samples.
            hop: samples of a frame of `predicted`.
        """
        with torch.no_grad():
            features = self._features(silence_padding(wave, lengths).float())
            features = (features - self.mean) / self.scale
            wanted = at_rate(features, self.encoder.hop, hop, predicted.shape[1])
        delay = self.config.delay
        found, wanted = predicted[:, delay:].float(), wanted[:, : wanted.shape[1] - delay]
        if self.config.clusters:
            units = torch.cdist(wanted, self.centroids).argmin(2)
            surprise = functional.cross_entropy(found.mT, units, reduction="none")
            error = surprise[..., None] / self.entropy
        else:
            error = (found - wanted).square()
        counts = (-(-lengths // hop)).clamp(max=error.shape[1])
        return self.config.weight * mean_of_rows(error, counts)

    def _features(self, waves: Tensor) -> Tensor:
        return self.encoder.hidden_states(waves)[self.config.layer].float()


def at_rate(features: Tensor, hop: int, wanted: int, frames: int) -> Tensor:
    """Resample features (batch, frames, dim) to another hop, linearly between frame centres.

    Args:
        features: with `hop` samples a frame.
        hop, wanted: samples.
        frames: number of frames of the result; the last ones may repeat.
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
