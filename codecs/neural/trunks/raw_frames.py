"""The trunk of TS3-Codec: frames of samples in, transformer layers, frames of samples out.

Wu et al., "TS3-Codec: Transformer-Based Simple Streaming Single Codec" (arXiv 2411.18803): no
convolution, and no overlap of frames. The head is one linear layer to samples, as in WaveNeXt
(Okamoto et al., 2023). The paper does not say what lies between the encoder's two linear layers;
here it is a GELU, without which they would be one.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..layers.transformer import CausalTransformer, TransformerConfig


@dataclass(frozen=True)
class FrameConfig:
    """Configuration of `SampleEncoder` and `SampleDecoder`, the paper's by default.

    Attributes:
        sample_rate: Hz.
        hop: samples of a frame.
        encoder, decoder: their layers.
    """

    #: Fields that the codes do not depend on.
    decoding: ClassVar[tuple[str, ...]] = ("decoder",)
    #: A frame has all that it needs when it is complete.
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
        """Samples that a frame brings."""
        return self.hop

    @property
    def latent_dim(self) -> int:
        """Channels of the latents."""
        return self.encoder.width

    def make_encoder(self) -> "SampleEncoder":
        return SampleEncoder(self)

    def make_decoder(self) -> "SampleDecoder":
        return SampleDecoder(self)


class SampleEncoder(nn.Module):
    """Frames of samples to latents.

    Args:
        config: see `FrameConfig`.
    """

    def __init__(self, config: FrameConfig) -> None:
        super().__init__()
        self.config = config
        width = config.encoder.width
        self.first, self.second = nn.Linear(config.hop, width), nn.Linear(width, width)
        self.stack = CausalTransformer(None, config.encoder)

    def init_state(self) -> list[Tensor]:
        """The state of one row that has heard nothing."""
        return self.stack.init_state(1)

    def latents(
        self, windows: Tensor, state: list[Tensor] | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Frames (batch, frames, hop) to latents (batch, frames, width), and the state after.

        Args:
            windows: the frames' samples.
            state: of the frames before; None: there are none. It is not changed.
        """
        hidden = functional.gelu(self.first(windows), approximate="tanh")
        latents, after = self.stack(self.second(hidden), state)
        return latents, after

    def windows_of(self, wave: Tensor) -> Tensor:
        """All frames (batch, frames, hop) of a wave (batch, samples)."""
        hop = self.config.hop
        whole = functional.pad(wave, (0, -wave.shape[1] % hop))
        frames: Tensor = whole.unflatten(1, (-1, hop))
        return frames

    @property
    def macs_per_frame(self) -> int:
        """Multiply-accumulates for one frame."""
        linear = self.first.weight.numel() + self.second.weight.numel()
        return linear + self.stack.macs_per_frame


class SampleDecoder(nn.Module):
    """Latents to frames of samples.

    Args:
        config: see `FrameConfig`.
    """

    def __init__(self, config: FrameConfig) -> None:
        super().__init__()
        self.stack = CausalTransformer(None, config.decoder)
        self.head = nn.Linear(config.decoder.width, config.hop)
        with torch.no_grad():
            self.head.weight.mul_(0.1)  # nothing is gained by beginning loud

    def init_state(self) -> list[Tensor]:
        """The state of one row that has heard nothing."""
        return self.stack.init_state(1)

    def wave(
        self, latents: Tensor, state: list[Tensor] | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Latents (batch, frames, width) to samples (batch, frames × hop), the state after.

        Args:
            latents: of the frames.
            state: of the frames before; None: there are none. It is not changed.
        """
        y, after = self.stack(latents, state)
        return self.head(y).flatten(1), after

    @property
    def macs_per_frame(self) -> int:
        """Multiply-accumulates for one frame."""
        return self.stack.macs_per_frame + self.head.weight.numel()
