"""The TS3 codec: transformer layers with a window to the left, and one codebook.

Wu et al., "TS3-Codec: Transformer-Based Simple Streaming Single Codec" (arXiv 2411.18803). The
paper's sizes are `ts3-x1` to `ts3-x4`, on raw frames of samples; what ships trained has the same
layers, narrower, between the spectral trunk's features and its head, because that is what little
data can teach.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...quantizers.modules.finite_scalar import (
    FiniteScalarQuantizerConfig,
    ResidualFiniteScalarQuantizer,
)
from ...quantizers.modules.vector import VectorQuantizer, VectorQuantizerConfig
from ..neural.codec import NeuralCodec
from ..neural.layers.transformer import TransformerConfig
from ..neural.trunks.raw_frames import FrameConfig
from ..neural.trunks.spectral import SpectralConfig
from ..spec import TokenizerSpec

if TYPE_CHECKING:
    from ..neural.compiled.residual_stages import CompiledStages


@dataclass(frozen=True)
class CodebookConfig:
    """A factorised codebook: look-up among few channels between two linear layers.

    Attributes:
        size: codes.
        dim: channels that a code is looked up among.
        decay: of the moving means that codes are in training. A step sees a small part of a large
            codebook, so it is slow.
        commitment_weight: of the loss that pulls latents to their codes. The paper lets the
            quantizer's losses grow with the codebook (4 for 8,192 codes, 32 for 65,536, 64 for
            131,072), of which this is a quarter, as in VQ-VAE. With 0.25 latents ran away from a
            codebook of 65,536, whose codes each see too few frames to follow.
    """

    size: int = 65_536
    dim: int = 8
    decay: float = 0.999
    commitment_weight: float = 8.0


@dataclass(frozen=True)
class TS3Config:
    """Configuration of `TS3Codec`.

    Attributes:
        network: the paper's trunk, or a spectral one with transformer layers.
        codebook: the one codebook.
        levels: FSQ with these levels instead of the codebook; none: the codebook.
    """

    network: FrameConfig | SpectralConfig = field(default_factory=FrameConfig)
    codebook: CodebookConfig = field(default_factory=CodebookConfig)
    levels: tuple[int, ...] = ()

    def quantizer(self) -> VectorQuantizer | ResidualFiniteScalarQuantizer:
        dim, book = self.network.latent_dim, self.codebook
        if self.levels:
            return ResidualFiniteScalarQuantizer(FiniteScalarQuantizerConfig(self.levels, dim), 1)
        return VectorQuantizer(
            VectorQuantizerConfig(
                dim,
                book.size,
                codebook_dim=book.dim,
                decay=book.decay,
                commitment_weight=book.commitment_weight,
                # A batch has far fewer frames than there are codes: a recipe starts them.
                kmeans_rounds=0,
                revive_below=0.0,
            )
        )


class TS3Codec(NeuralCodec):
    """One code a frame, between causal transformers.

    Args:
        config: see `TS3Config`.
        name: what it is called.
    """

    family = "ts3"
    Config = TS3Config

    def __init__(self, config: TS3Config, name: str | None = None) -> None:
        super().__init__(config, name)
        self.quantizer = config.quantizer()

    def describe(self) -> TokenizerSpec:
        config: TS3Config = self.config
        size = math.prod(config.levels) if config.levels else config.codebook.size
        encoder = config.network.encoder
        int8 = isinstance(encoder, TransformerConfig) and encoder.int8
        return self.neural_spec(
            [size],
            min_codebooks=1,
            source="arXiv 2411.18803",
            description="int8 transformer" if int8 else "transformer",
        )

    def quantizing(self) -> Callable[[Tensor, int], Tensor]:
        if self.device.type != "cpu" or not isinstance(self.quantizer, VectorQuantizer):
            quantizer = self.still_quantizer()
            return lambda latents, count: quantizer.encode(latents).transpose(1, 2)
        stages: CompiledStages = self.prepared(self._stages)
        return lambda latents, count: stages.encode(latents[0], 1)[None]

    def dequantizing(self) -> Callable[[Tensor], Tensor]:
        quantizer = self.still_quantizer()

        def dequantize(codes: Tensor) -> Tensor:
            present = codes[..., 0] >= 0
            latents = quantizer.decode(codes.clamp_min(0).transpose(1, 2))
            return torch.where(present[..., None], latents, 0.0)

        return dequantize

    def _stages(self) -> "CompiledStages":
        from ..neural.compiled.residual_stages import (
            CompiledStages,  # numba takes a while to import
        )

        return CompiledStages([self.still_quantizer()], [])
