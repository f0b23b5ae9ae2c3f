"""The TS3 codec: transformer layers with left context only, and one codebook.

Wu et al., "TS3-Codec: Transformer-Based Simple Streaming Single Codec" (arXiv 2411.18803). The
paper's sizes, `ts3-x1` to `ts3-x4`, work on raw frames of samples. The trained models in the
package have the same layers, narrower, between the features and the head of the spectral trunk,
which needs less training data.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ...quantizers.modules.finite_scalar import (
    FiniteScalarQuantizerConfig,
    ResidualFiniteScalarQuantizer,
)
from ...quantizers.modules.vector import VectorQuantizer, VectorQuantizerConfig
from ..neural.codec import Array, NeuralCodec
from ..neural.layers.transformer import TransformerConfig
from ..neural.trunks.raw_frames import FrameConfig
from ..neural.trunks.spectral import SpectralConfig
from ..spec import TokenizerSpec

if TYPE_CHECKING:
    from ..neural.compiled.residual_stages import CompiledDecoding, CompiledStages
    from ..neural.compiled.scalar_levels import CompiledLevels


@dataclass(frozen=True)
class CodebookConfig:
    """Configuration of a factorized codebook: look-up in a low-dimensional projection.

    Attributes:
        size: number of codes.
        dim: channels of the projection.
        decay: of the exponential moving averages that update codes in training. It is slow, since
            one step only sees a small part of a large codebook.
        commitment_weight: of the loss that moves latents towards their codes. The paper scales the
            quantizer's losses with the codebook (4 for 8,192 codes, 32 for 65,536, 64 for 131,072);
            this is a quarter of that, as in VQ-VAE. With a weight of 0.25, latents diverge from a
            codebook of 65,536, whose codes get too few frames each to follow.
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
        codebook: the codebook.
        levels: of FSQ, which then replaces the codebook; empty: use the codebook.
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
                # A batch has far fewer frames than there are codes: recipes initialize the
                # codebook.
                kmeans_rounds=0,
                revive_below=0.0,
            )
        )


class TS3Codec(NeuralCodec):
    """A neural codec with causal transformers and one code per frame.

    Args:
        config: see `TS3Config`.
        name: the tokenizer's name.
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

    def plain_quantizing(self) -> Callable[[Tensor, int], Tensor]:
        quantizer = self.still_quantizer()
        return lambda latents, count: quantizer.encode(latents).transpose(1, 2)

    def quantizing_arrays(self) -> Callable[[Array, int], Array] | None:
        if self.device.type != "cpu":
            return None
        found: CompiledStages | CompiledLevels
        found = self.prepared(self._compiled_levels if self.config.levels else self._stages)
        return found.encode

    def plain_dequantizing(self) -> Callable[[Tensor], Tensor]:
        quantizer = self.still_quantizer()

        def dequantize(codes: Tensor) -> Tensor:
            present = codes[..., 0] >= 0
            latents = quantizer.decode(codes.clamp_min(0).transpose(1, 2))
            return torch.where(present[..., None], latents, 0.0)

        return dequantize

    def dequantizing_arrays(self) -> Callable[[Array], Array] | None:
        if self.device.type != "cpu" or not isinstance(self.quantizer.project_out, nn.Linear):
            return None
        found: CompiledDecoding | CompiledLevels
        found = self.prepared(self._compiled_levels if self.config.levels else self._decoding)
        return found.vectors

    def codebook_vectors(self, codes: Tensor, differentiable: bool) -> list[Tensor]:
        return [self.embed_codes(codes, differentiable)]

    def _stages(self) -> "CompiledStages":
        from ..neural.compiled.residual_stages import (
            CompiledStages,  # imported here, since numba takes a while to import
        )

        return CompiledStages([self.still_quantizer()], [])

    def _decoding(self) -> "CompiledDecoding":
        from ..neural.compiled.residual_stages import CompiledDecoding  # as above

        return CompiledDecoding(self.still_quantizer())
