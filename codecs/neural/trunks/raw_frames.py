"""The trunk of TS3-Codec: transformer layers between raw frames of samples and latents.

Wu et al., "TS3-Codec: Transformer-Based Simple Streaming Single Codec" (arXiv 2411.18803): no
convolution, and no overlap of frames. The head is one linear layer to samples, as in WaveNeXt
(Okamoto et al., 2023). The paper does not say what is between the encoder's two linear layers;
here it is a GELU, since without a nonlinearity they would be one layer.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..layers.transformer import CausalTransformer, TransformerConfig
from .stacked import StackedDecoder, StackedEncoder


@dataclass(frozen=True)
class FrameConfig:
    """Configuration of `SampleEncoder` and `SampleDecoder`, the paper's by default.

    Attributes:
        sample_rate: in Hz.
        hop: samples per frame.
        encoder, decoder: their transformer layers.
    """

    #: Fields that the codes do not depend on.
    decoding: ClassVar[tuple[str, ...]] = ("decoder",)
    #: A frame needs no samples after its own.
    encoder_look_ahead: ClassVar[int] = 0
    decoder_look_ahead: ClassVar[int] = 0
    delay: ClassVar[int] = 0

    sample_rate: int = 16000
    hop: int = 320
    encoder: TransformerConfig = field(
        default_factory=lambda: TransformerConfig(1024, 8, 16, 4096, 32)
    )
    decoder: TransformerConfig = field(
        default_factory=lambda: TransformerConfig(1024, 8, 16, 4096, 32)
    )

    def __post_init__(self) -> None:
        if min(self.sample_rate, self.hop) < 1:
            raise ValueError(f"sample_rate and hop must be positive, got {self}")
        if self.encoder.width != self.decoder.width:
            raise ValueError("encoder and decoder must be of the same width")

    @property
    def window(self) -> int:
        """Samples that the encoder needs for a frame."""
        return self.hop

    @property
    def latent_dim(self) -> int:
        """Channels of the latents."""
        return self.encoder.width

    def make_encoder(self) -> "SampleEncoder":
        return SampleEncoder(self)

    def make_decoder(self) -> "SampleDecoder":
        return SampleDecoder(self)


class SampleEncoder(StackedEncoder):
    """Encode frames of samples to latents.

    Args:
        config: see `FrameConfig`.
    """

    stack: CausalTransformer

    def __init__(self, config: FrameConfig) -> None:
        super().__init__()
        self.config = config
        width = config.encoder.width
        self.first, self.second = nn.Linear(config.hop, width), nn.Linear(width, width)
        self.stack = CausalTransformer(None, config.encoder)

    def latents(
        self, windows: Tensor, state: list[Tensor] | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        hidden = functional.gelu(self.first(windows), approximate="tanh")
        latents, after = self.stack(self.second(hidden), state)
        return latents, after

    def windows_of(self, wave: Tensor) -> Tensor:
        """Return all frames (batch, frames, hop) of a wave (batch, samples)."""
        hop = self.config.hop
        whole = functional.pad(wave, (0, -wave.shape[1] % hop))
        frames: Tensor = whole.unflatten(1, (-1, hop))
        return frames

    @property
    def macs_per_frame(self) -> int:
        """Multiply-accumulates per frame."""
        linear = self.first.weight.numel() + self.second.weight.numel()
        return linear + self.stack.macs_per_frame


class SampleDecoder(StackedDecoder):
    """Decode latents to frames of samples.

    Args:
        config: see `FrameConfig`.
    """

    stack: CausalTransformer

    def __init__(self, config: FrameConfig) -> None:
        super().__init__()
        self.stack = CausalTransformer(None, config.decoder)
        self.head = nn.Linear(config.decoder.width, config.hop)
        with torch.no_grad():
            self.head.weight.mul_(0.1)  # starting loud gains nothing

    def wave(
        self, latents: Tensor, state: list[Tensor] | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        y, after = self.stack(latents, state)
        return self.head(y).flatten(1), after

    @property
    def macs_per_frame(self) -> int:
        """Multiply-accumulates per frame."""
        return self.stack.macs_per_frame + self.head.weight.numel()
