"""The output of every discriminator."""

from dataclasses import dataclass

from torch import Tensor

from ...errors import TrainingError


@dataclass(frozen=True)
class Judgement:
    """Discriminator outputs for a batch of waveforms.

    Attributes:
        logits: one tensor (batch, …) per discriminator, high for real.
        features: features[discriminator][layer], (batch, channels, …) after the activation.
    """

    logits: list[Tensor]
    features: list[list[Tensor]]

    def __add__(self, other: "Judgement") -> "Judgement":
        return Judgement(self.logits + other.logits, self.features + other.features)


def check_wave(wave: Tensor) -> None:
    """Raise TrainingError unless `wave` is floating point (batch, samples) and not empty."""
    if wave.ndim != 2 or not wave.numel() or not wave.is_floating_point():
        raise TrainingError(
            "expected a floating-point waveform (batch, samples), not empty, got "
            f"{tuple(wave.shape)} of {wave.dtype}"
        )
