"""The spectral trunk: an encoder on fixed spectral features, a decoder with a harmonic head."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..layers.analysis import AnalysedConfig, AnalysisConfig, SpeechAnalysis, windows_of
from ..layers.causal import StackConfig
from ..layers.harmonic_head import HarmonicHead, HarmonicHeadConfig, HeadState, Rendered
from ..layers.pulses import PITCH_BINS
from ..layers.transformer import TransformerConfig

#: Layers at the frame rate: causal convolutions, or sliding-window attention.
LayersConfig = StackConfig | TransformerConfig


@dataclass(frozen=True)
class SpectralConfig(AnalysedConfig):
    """Configuration of `SpectralEncoder` and `SpectralDecoder`.

    Attributes:
        analysis: the encoder's input features.
        pitch_hidden: hidden width of its pitch estimator.
        encoder: its layers.
        latent_dim: channels of the latents.
        decoder: its layers at the frame rate.
        head: from their output to samples.
        encoder_look_ahead, decoder_look_ahead: future frames that a code, and the samples of a
            code, may depend on. 0 is causal; more than one second's worth gains nothing.
    """

    #: Fields that the codes do not depend on.
    decoding: ClassVar[tuple[str, ...]] = ("decoder", "head", "decoder_look_ahead")

    analysis: AnalysisConfig = field(default_factory=AnalysisConfig)
    pitch_hidden: int = 192
    encoder: LayersConfig = field(default_factory=lambda: StackConfig(width=256, blocks=4))
    latent_dim: int = 128
    decoder: LayersConfig = field(default_factory=lambda: StackConfig(width=320, blocks=5))
    head: HarmonicHeadConfig = field(default_factory=HarmonicHeadConfig)
    encoder_look_ahead: int = 0
    decoder_look_ahead: int = 0

    def __post_init__(self) -> None:
        if (self.analysis.sample_rate, self.analysis.hop) != (self.head.sample_rate, self.head.hop):
            raise ValueError("analysis and head must have the same sample_rate and hop")
        if min(self.encoder_look_ahead, self.decoder_look_ahead) < 0:
            raise ValueError("look-ahead can't be negative")

    @property
    def delay(self) -> int:
        """Samples that the decoder's output lags behind its input."""
        return self.decoder_look_ahead * self.hop + self.head.delay

    def make_encoder(self) -> "SpectralEncoder":
        return SpectralEncoder(self)

    def make_decoder(self) -> "SpectralDecoder":
        return SpectralDecoder(self.latent_dim, self.decoder, self.head)


class SpectralEncoder(nn.Module):
    """Encode windows of samples to latents.

    A small network, trained on pitch labels, estimates the pitch from the features; its output is
    a further feature. A linear path around the layers passes the spectrum from the first training
    step: with it, and one in the decoder, training took half the steps.

    Args:
        config: see `SpectralConfig`.
    """

    def __init__(self, config: SpectralConfig) -> None:
        super().__init__()
        self.config = config
        self.analysis = SpeechAnalysis(config.analysis)
        self.pitch = nn.Sequential(
            nn.Linear(config.analysis.pitch_features, config.pitch_hidden),
            nn.GELU(approximate="tanh"),
            nn.Linear(config.pitch_hidden, PITCH_BINS),
        )
        num_inputs = config.analysis.num_features + PITCH_BINS
        self.stack = config.encoder.make(num_inputs)
        self.outward = nn.Linear(config.encoder.width, config.latent_dim)
        self.direct = nn.Linear(num_inputs, config.latent_dim)

    def init_state(self) -> list[Tensor]:
        """Create the initial state of one row."""
        return self.stack.init_state(1)

    def forward(
        self, windows: Tensor, state: list[Tensor] | None = None
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Encode windows (batch, frames, window).

        Returns:
            Latents (batch, frames, latent_dim), pitch logits (batch, frames, PITCH_BINS), and the
            state after the windows.
        """
        with torch.no_grad(), torch.autocast(windows.device.type, enabled=False):
            features = self.analysis(windows)
        logits = self.pitch(features[..., : self.config.analysis.pitch_features])
        # At least float32 under autocast; float64 where the weights are.
        guess = torch.softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)), -1)
        inputs = torch.cat([features, 4 * guess], -1)
        y, state = self.stack(inputs, state)
        return self.outward(y) + self.direct(inputs), logits, state

    def latents(
        self, windows: Tensor, state: list[Tensor] | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Encode as `forward` does; return latents and state only."""
        latents, _, state = self(windows, state)
        return latents, state

    def windows_of(self, wave: Tensor) -> Tensor:
        """Return all windows (batch, frames, window), look-ahead included, of (batch, samples)."""
        config = self.config
        return windows_of(wave, config.window, config.hop, config.encoder_look_ahead)

    @property
    def macs_per_frame(self) -> int:
        """Multiply-accumulates per frame, without the fixed analysis."""
        linear = [layer for layer in self.pitch if isinstance(layer, nn.Linear)]
        linear += [self.outward, self.direct]
        return self.stack.macs_per_frame + sum(layer.weight.numel() for layer in linear)


@dataclass
class DecoderState:
    """State of a `SpectralDecoder` between tiles."""

    layers: list[Tensor]
    head: HeadState

    def check(self) -> None:
        """Raise StateError for impossible values; see `HeadState.check`."""
        self.head.check()


class SpectralDecoder(nn.Module):
    """Decode latents to samples.

    Args:
        in_features: channels of the latents.
        stack: the layers at the frame rate.
        head: from their output to samples.
    """

    def __init__(self, in_features: int, stack: LayersConfig, head: HarmonicHeadConfig) -> None:
        super().__init__()
        self.stack = stack.make(in_features)
        self.head = HarmonicHead(stack.width + in_features, head)

    def init_state(self) -> DecoderState:
        """Create the initial state of one row."""
        return DecoderState(self.stack.init_state(1), self.head.init_state(1))

    def forward(
        self,
        latents: Tensor,
        state: DecoderState | None = None,
        pitch: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> tuple[Rendered, DecoderState]:
        """Decode latents (batch, frames, in_features); see `HarmonicHead.forward` for the rest."""
        y, layers = self.stack(latents, state.layers if state else None)
        rendered = self.head(
            torch.cat([y, latents.to(y.dtype)], -1), state.head if state else None, pitch, noise
        )
        return rendered, DecoderState(layers, rendered.state)

    def wave(
        self, latents: Tensor, state: DecoderState | None = None
    ) -> tuple[Tensor, DecoderState]:
        """Map latents to samples (batch, frames × hop), and return the new state."""
        rendered, state = self(latents, state)
        return rendered.wave, state

    @property
    def macs_per_frame(self) -> int:
        return self.stack.macs_per_frame + self.head.macs_per_frame
