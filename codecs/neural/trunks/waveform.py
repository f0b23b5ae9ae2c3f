"""The waveform trunk: samples to latents and back with convolutions only.

SEANet as in SoundStream and EnCodec (Zeghidour et al., arXiv 2107.03312; Défossez et al., arXiv
2210.13438), without their recurrent layers. It must learn what the spectral trunk gets from its
features and its harmonic source, which takes far more training (`docs/training.md` has figures).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from ..layers.strided import Activation, CausalConv, CausalSequence, CausalUpsampling, ResidualUnit
from .stacked import StackedDecoder, StackedEncoder

_ENDS = 7  # taps of the first and the last convolution
_LOUDNESS = 0.03  # scale of the last layer's initial weights: starting loud gains nothing


@dataclass(frozen=True)
class WaveformConfig:
    """Configuration of `WaveformEncoder` and `WaveformDecoder`.

    Attributes:
        sample_rate: in Hz.
        ratios: the encoder's strides, reversed for the decoder; their product is the hop.
        channels: of the encoder at the sample rate; every stride doubles them.
        decoder_channels: the same for the decoder.
        dilations: of the residual units at each rate.
        activation: "elu", or "snake", which is periodic and slower.
        latent_dim: channels of the latents.
        encoder_look_ahead, decoder_look_ahead: future frames that a code, and the samples of a
            code, may depend on. 0 is causal.
    """

    #: Fields that the codes do not depend on.
    decoding: ClassVar[tuple[str, ...]] = ("decoder_channels", "decoder_look_ahead")

    sample_rate: int = 16000
    ratios: tuple[int, ...] = (2, 4, 5, 8)
    channels: int = 24
    decoder_channels: int = 24
    dilations: tuple[int, ...] = (1, 3, 9)
    activation: Activation = "elu"
    latent_dim: int = 128
    encoder_look_ahead: int = 0
    decoder_look_ahead: int = 0

    def __post_init__(self) -> None:
        if not self.ratios or min(self.ratios) < 2:
            raise ValueError(f"ratios must be at least 2, and there must be one, got {self.ratios}")
        sizes = (self.sample_rate, self.channels, self.decoder_channels, self.latent_dim)
        if min(*sizes, *self.dilations) < 1:
            raise ValueError(
                "sample_rate, channels, decoder_channels, latent_dim and dilations must be "
                f"positive, got {self}"
            )
        if self.activation not in ("elu", "snake"):
            raise ValueError(f"activation must be elu or snake, got {self.activation!r}")
        if min(self.encoder_look_ahead, self.decoder_look_ahead) < 0:
            raise ValueError("look-ahead can't be negative")

    @property
    def hop(self) -> int:
        """Samples per frame."""
        return math.prod(self.ratios)

    @property
    def window(self) -> int:
        """Samples that the encoder needs for a frame; all earlier ones are in the state."""
        return self.hop

    @property
    def delay(self) -> int:
        """Samples that the decoder's output lags behind its input."""
        return self.decoder_look_ahead * self.hop

    def make_encoder(self) -> "WaveformEncoder":
        return WaveformEncoder(self)

    def make_decoder(self) -> "WaveformDecoder":
        return WaveformDecoder(self)

    def residual_units(self, channels: int) -> Iterator[ResidualUnit]:
        """Create the residual units of one rate, with branches that together have unit gain."""
        for dilation in self.dilations:
            yield ResidualUnit(channels, dilation, self.activation, len(self.dilations) ** -0.5)


class WaveformEncoder(StackedEncoder):
    """Encode samples to latents.

    Args:
        config: see `WaveformConfig`.
    """

    stack: CausalSequence

    def __init__(self, config: WaveformConfig) -> None:
        super().__init__()
        self.config = config
        width, activation = config.channels, config.activation
        layers: list[CausalConv | ResidualUnit] = [CausalConv(1, width, _ENDS)]
        for ratio in config.ratios:
            layers += config.residual_units(width)
            layers += [CausalConv(width, 2 * width, 2 * ratio, stride=ratio, activation=activation)]
            width *= 2
        layers += [CausalConv(width, config.latent_dim, 3, activation=activation)]
        self.stack = CausalSequence(layers)

    def latents(
        self, windows: Tensor, state: list[Tensor] | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        y, state = self.stack(windows.flatten(1)[:, None], state)
        return y.transpose(1, 2), state

    def windows_of(self, wave: Tensor) -> Tensor:
        """Return all windows (batch, frames, hop) of a wave (batch, samples), with look-ahead."""
        hop = self.config.hop
        after = self.config.encoder_look_ahead * hop + -wave.shape[1] % hop
        windows: Tensor = functional.pad(wave, (0, after)).unflatten(1, (-1, hop))
        return windows

    @property
    def macs_per_frame(self) -> int:
        """Multiply-accumulates per frame."""
        return self.stack.macs_for(self.config.hop)


class WaveformDecoder(StackedDecoder):
    """Decode latents to samples.

    Args:
        config: see `WaveformConfig`.
    """

    stack: CausalSequence

    def __init__(self, config: WaveformConfig) -> None:
        super().__init__()
        activation = config.activation
        width = config.decoder_channels << len(config.ratios)
        layers: list[CausalConv | ResidualUnit] = [CausalConv(config.latent_dim, width, _ENDS)]
        for ratio in reversed(config.ratios):
            layers += [CausalUpsampling(width, width // 2, ratio, activation)]
            width //= 2
            layers += config.residual_units(width)
        last = CausalConv(width, 1, _ENDS, activation=activation)
        with torch.no_grad():
            last.weight.mul_(_LOUDNESS)
        layers += [last]
        self.stack = CausalSequence(layers)

    def wave(
        self, latents: Tensor, state: list[Tensor] | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        y, state = self.stack(latents.transpose(1, 2), state)
        return y[:, 0], state

    @property
    def macs_per_frame(self) -> int:
        """Multiply-accumulates per frame."""
        return self.stack.macs_for(1)
