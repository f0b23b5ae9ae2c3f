"""Losses shared by all spectral models: spectra, pitch, and discriminators."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...codecs.neural.layers.pulses import PITCH_BINS, pitch_bin
from ..data import PitchConfig, PitchTracks, SpeechStore
from ..discriminators import Discriminators, DiscriminatorsConfig
from ..losses import (
    AdversarialLoss,
    CompressedLossConfig,
    CompressedSpectralLoss,
    ContentLoss,
    ContentLossConfig,
    EnvelopeLoss,
    EnvelopeLossConfig,
    LoudnessLoss,
    LoudnessLossConfig,
    MelLossConfig,
    MultiScaleMelLoss,
    TextureLoss,
    TextureLossConfig,
    feature_matching_loss,
)
from ..task import Batch, Generated

# Milliseconds around voiced frames where pulses are allowed: a window of the head's, and the
# track's error.
_NEAR_VOICE = 20


@dataclass(frozen=True, kw_only=True)
class SupervisionConfig:
    """Losses and their weights.

    Attributes:
        mel: scales of the log-mel loss. Windows below 16 ms, which resolve single
            pulses, are left out: a pulse train of arbitrary phase can't match them.
        mel_weight, compressed_weight, envelope_weight, loudness_weight, texture_weight,
            content_weight, pitch_weight: weights of the losses.
        compressed: resolutions of the compressed loss.
        envelope: bands of the envelope loss.
        loudness: resolution of the loudness loss.
        texture: patches of the texture loss.
        content: encoder of the content loss.
        bridged_pitch_weight: weight of the pitch loss at unvoiced points, where the target is
            interpolated, relative to voiced ones. Without it the pitch there is undefined.
        unvoiced_weight: weight of the share of energy in pulses far from voiced frames. Without it
            pulses are audible in fricatives, as buzz.
        own_pitch_from: step from which pulses follow the network's pitch instead of the data's;
            None: never.
        adversarial_weight, matching_weight: weights of the discriminators' losses, if the recipe
            has them.
        discriminators: their configuration.
    """

    mel: MelLossConfig = field(
        default_factory=lambda: MelLossConfig(
            window_lengths=(256, 512, 1024, 2048), num_mels=(40, 80, 160, 320)
        )
    )
    mel_weight: float = 3.0
    compressed: CompressedLossConfig = field(default_factory=CompressedLossConfig)
    compressed_weight: float = 10.0
    envelope: EnvelopeLossConfig = field(default_factory=EnvelopeLossConfig)
    envelope_weight: float = 0.0
    loudness: LoudnessLossConfig = field(default_factory=LoudnessLossConfig)
    loudness_weight: float = 0.0
    texture: TextureLossConfig = field(default_factory=TextureLossConfig)
    texture_weight: float = 0.0
    content: ContentLossConfig = field(default_factory=ContentLossConfig)
    content_weight: float = 0.0
    bridged_pitch_weight: float = 0.0
    unvoiced_weight: float = 0.0
    pitch_weight: float = 1.0
    own_pitch_from: int | None = None
    adversarial_weight: float = 0.1
    matching_weight: float = 0.5
    discriminators: DiscriminatorsConfig = field(default_factory=DiscriminatorsConfig)


@dataclass(frozen=True)
class Voicing:
    """The voicing of a decoded crop, at the points of its pitch track.

    Attributes:
        logits: (batch, points, PITCH_BINS) of the pitch.
        pulse_level: (batch, points), see `HarmonicHead.pulse_level`.
    """

    logits: Tensor
    pulse_level: Tensor


class Supervision(nn.Module):
    """Targets and losses of a batch.

    Args:
        config: see `SupervisionConfig`.
        hop: samples between the points of the pitch.
        sample_rate: of the waves, in Hz.
    """

    def __init__(self, config: SupervisionConfig, hop: int, sample_rate: int) -> None:
        super().__init__()
        self.config, self.hop, self.sample_rate = config, hop, sample_rate
        self.mel = MultiScaleMelLoss(config.mel)
        self.compressed = CompressedSpectralLoss(config.compressed)
        self.envelope = EnvelopeLoss(config.envelope) if config.envelope_weight else None
        self.loudness = LoudnessLoss(config.loudness) if config.loudness_weight else None
        self.texture = TextureLoss(config.texture) if config.texture_weight else None
        self.content = ContentLoss(config.content, sample_rate) if config.content_weight else None
        self.game = AdversarialLoss()
        self._tracks: PitchTracks | None = None

    def prepare(self, store: SpeechStore) -> None:
        """Compute the pitch of the training set, unless it is cached."""
        self._tracks = PitchTracks(store, PitchConfig(self.hop))

    def digests(self) -> dict[str, str]:
        """See `TrainingTask.digests`: the digest of the content loss's encoder."""
        return {} if self.content is None else {"content": self.content.digest}

    def pitch(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Pitch in Hz (batch, points) at the end of every hop, and voicing."""
        assert self._tracks is not None, "prepare comes first"
        pitch, voiced = self._tracks.crops(batch.names, batch.starts, batch.inputs.shape[1])
        return pitch.to(batch.inputs.device), voiced.to(batch.inputs.device)

    def forced_pitch(self, pitch: Tensor, step: int) -> Tensor | None:
        """The data's pitch while pulses follow it, then None for the network's own."""
        own = self.config.own_pitch_from
        return pitch if own is None or step < own else None

    def spectral_losses(self, wave: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Spectral losses of a prediction (batch, samples)."""
        config, of = self.config, (wave, batch.targets, batch.lengths)
        losses = {
            "mel": config.mel_weight * self.mel(*of),
            "compressed": config.compressed_weight * self.compressed(*of),
        }
        if self.envelope is not None:
            losses["envelope"] = config.envelope_weight * self.envelope(*of)
        if self.loudness is not None:
            losses["loudness"] = config.loudness_weight * self.loudness(*of)
        if self.texture is not None:
            losses["texture"] = config.texture_weight * self.texture(*of)
        if self.content is not None:
            losses["content"] = config.content_weight * self.content(*of)
        return losses

    def voicing_losses(self, voicing: Voicing, pitch: Tensor, voiced: Tensor) -> dict[str, Tensor]:
        """Losses of a decoder's pitch and pulses, given the data's pitch and voicing (batch,
        points).
        """
        config = self.config
        losses = {"pitch": self.pitch_loss(voicing.logits, pitch, voiced)}
        if config.unvoiced_weight:
            points = 2 * _NEAR_VOICE * self.sample_rate // 1000 // self.hop + 1
            near = functional.max_pool1d(voiced.float(), points, 1, points // 2)
            pulsed = voicing.pulse_level.float() * (1 - near)
            losses["unvoiced"] = config.unvoiced_weight * pulsed.mean()
        return losses

    def pitch_loss(self, logits: Tensor, pitch: Tensor, voiced: Tensor) -> Tensor:
        """Cross-entropy with a bell-shaped target one bin wide, weighted towards voiced points.

        Args:
            logits: (batch, points, PITCH_BINS).
            pitch, voiced: (batch, points).
        """
        bins = torch.arange(PITCH_BINS, device=logits.device)
        bell = torch.softmax(-0.5 * (bins - pitch_bin(pitch)[..., None]) ** 2, -1)
        entropy = -(bell * torch.log_softmax(logits.float(), -1)).sum(-1)
        weights = torch.where(voiced, 1.0, self.config.bridged_pitch_weight)
        # A mean over all points, voiced or not, so that ranks may be averaged.
        return self.config.pitch_weight * (entropy * weights).mean()

    def discriminator_losses(
        self, discriminator: Discriminators, batch: Batch, wave: Tensor
    ) -> dict[str, Tensor]:
        """See `TrainingTask.discriminator_losses`."""
        real, fake = discriminator(batch.targets), discriminator(wave)
        return {"adversarial": self.game.discriminator(real.logits, fake.logits)}

    def adversarial_losses(
        self, discriminator: Discriminators, batch: Batch, generated: Generated
    ) -> dict[str, Tensor]:
        """See `TrainingTask.adversarial_losses`."""
        with torch.no_grad():
            real = discriminator(batch.targets)
        fake = discriminator(generated.wave)
        config = self.config
        return {
            "adversarial": config.adversarial_weight * self.game.generator(fake.logits),
            "matching": config.matching_weight
            * feature_matching_loss(real.features, fake.features),
        }
