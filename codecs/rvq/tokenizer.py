"""The RVQ codec: one model for many bitrates, by how many codebooks are kept.

Residual quantization with quantizer dropout is SoundStream's (Zeghidour et al., arXiv 2107.03312),
factorised codes are those of Improved RVQGAN (Kumar et al., arXiv 2306.06546).
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ...quantizers.modules.residual import ResidualVectorQuantizer, ResidualVectorQuantizerConfig
from ...quantizers.modules.vector import VectorQuantizerConfig
from ..neural.codec import SpectralCodec
from ..neural.network import SpectralConfig
from ..spec import TokenizerSpec


@dataclass(frozen=True)
class RVQConfig:
    """Configuration of `RVQCodec`.

    Attributes:
        network: encoder and decoder.
        num_codebooks, codebook_size: of the quantizer.
        codebook_dim: channels that a code is looked up among.
        dropout: numbers of codebooks of which a training step keeps one at random.
    """

    network: SpectralConfig = SpectralConfig()
    num_codebooks: int = 8
    codebook_size: int = 1024
    codebook_dim: int = 16
    dropout: tuple[int, ...] = (1, 2, 3, 4, 6, 8, 8, 8)

    def quantizer(self) -> ResidualVectorQuantizerConfig:
        stage = VectorQuantizerConfig(
            self.network.latent_dim, self.codebook_size, codebook_dim=self.codebook_dim
        )
        return ResidualVectorQuantizerConfig(stage, self.num_codebooks, self.dropout)


class RVQCodec(SpectralCodec):
    """Residual vector quantization between a spectral encoder and decoder.

    Args:
        config: see `RVQConfig`.
        name: what it is called.
    """

    family = "rvq"
    Config = RVQConfig

    def __init__(self, config: RVQConfig, name: str | None = None) -> None:
        super().__init__(config, name)
        self.quantizer = ResidualVectorQuantizer(config.quantizer())

    def describe(self) -> TokenizerSpec:
        config: RVQConfig = self.config
        return self.spectral_spec(
            [config.codebook_size] * config.num_codebooks,
            min_codebooks=1,
            source="arXiv 2107.03312",
            description="residual vector quantization, any number of codebooks",
        )

    def quantize(self, latents: Tensor, num_codebooks: int) -> Tensor:
        return self.quantizer.encode(latents, num_codebooks).transpose(1, 2)

    def dequantize(self, codes: Tensor) -> Tensor:
        tables: list[Tensor] = self.prepared(self._tables)
        total = tables[0].new_zeros(*codes.shape[:2], self.network.latent_dim)
        for index in range(codes.shape[2]):
            total = total + functional.embedding(codes[..., index] + 1, tables[index])
        return total

    @torch.no_grad()
    def _tables(self) -> list[Tensor]:
        """What each code of each codebook adds to the latents, after a row of zeros for none."""
        codes = torch.arange(self.config.codebook_size, device=self.device)[None, None]
        tables = [stage.eval().decode(codes)[0] for stage in self.quantizer.stages]
        return [functional.pad(table, (0, 0, 1, 0)) for table in tables]
