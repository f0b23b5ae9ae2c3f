"""The RVQ codec: one model for many bitrates, by the number of codebooks kept.

Residual quantization with quantizer dropout follows SoundStream (Zeghidour et al., arXiv
2107.03312); factorized codes follow Improved RVQGAN (Kumar et al., arXiv 2306.06546).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import reduce
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from ...quantizers.modules.residual import ResidualVectorQuantizer, ResidualVectorQuantizerConfig
from ...quantizers.modules.vector import VectorQuantizer, VectorQuantizerConfig
from ..neural.codec import Array, NeuralCodec, TrunkConfig
from ..neural.trunks.spectral import SpectralConfig
from ..neural.without_compiling import PlainStages, may_compile
from ..spec import TokenizerSpec

if TYPE_CHECKING:
    from ..neural.compiled.residual_stages import CompiledStages


@dataclass(frozen=True)
class RVQConfig:
    """Configuration of `RVQCodec`.

    Attributes:
        network: encoder and decoder, spectral or waveform.
        num_codebooks, codebook_size: of the quantizer.
        codebook_dim: channels of the space in which codes are looked up.
        dropout: numbers of codebooks; each training step keeps one of these, chosen at random.
    """

    network: TrunkConfig = field(default_factory=SpectralConfig)
    num_codebooks: int = 8
    codebook_size: int = 1024
    codebook_dim: int = 16
    dropout: tuple[int, ...] = (1, 2, 3, 4, 6, 8, 8, 8)

    def quantizer(self) -> ResidualVectorQuantizerConfig:
        stage = VectorQuantizerConfig(
            self.network.latent_dim, self.codebook_size, codebook_dim=self.codebook_dim
        )
        return ResidualVectorQuantizerConfig(stage, self.num_codebooks, self.dropout)


class RVQCodec(NeuralCodec):
    """A neural codec with residual vector quantization.

    Args:
        config: see `RVQConfig`.
        name: the tokenizer's name.
    """

    family = "rvq"
    encodes_without_compiling = True
    Config = RVQConfig

    def __init__(self, config: RVQConfig, name: str | None = None) -> None:
        super().__init__(config, name)
        self.quantizer = ResidualVectorQuantizer(config.quantizer())

    def describe(self) -> TokenizerSpec:
        config: RVQConfig = self.config
        return self.neural_spec(
            [config.codebook_size] * config.num_codebooks,
            min_codebooks=1,
            source="arXiv 2107.03312",
            description=f"keep 1 to {config.num_codebooks}",
        )

    def plain_quantizing(self) -> Callable[[Tensor, int], Tensor]:
        if self.device.type != "cpu":
            quantizer: ResidualVectorQuantizer = self.still_quantizer()
            return lambda latents, count: quantizer.encode(latents, count).transpose(1, 2)
        plain: PlainStages = self.prepared(self._plain_stages)
        return lambda latents, count: plain.encode(latents[0], count)[None]

    def quantizing_arrays(self) -> Callable[[Array, int], Array] | None:
        if self.device.type != "cpu" or not may_compile():
            return None
        stages: CompiledStages = self.prepared(self._stages)
        return stages.encode

    def plain_dequantizing(self) -> Callable[[Tensor], Tensor]:
        table: Tensor = self.prepared(self._table)
        size = self.config.codebook_size + 1

        def dequantize(codes: Tensor) -> Tensor:
            first = torch.arange(codes.shape[2], device=codes.device) * size
            parts = functional.embedding(codes + (first + 1), table).unbind(2)
            # Added one by one, since the order of additions in `sum` depends on the library.
            return reduce(torch.add, parts)

        return dequantize

    def codebook_vectors(self, codes: Tensor, differentiable: bool) -> list[Tensor]:
        if differentiable:
            quantizer: ResidualVectorQuantizer = self.quantizer
            return [
                quantizer.stage(index).decode(column[None, None])[0]
                for index, column in enumerate(codes.T)
            ]
        tables: list[Tensor] = self.prepared(self._decoded)
        return [table[column] for table, column in zip(tables, codes.T, strict=False)]

    def _stages(self) -> "CompiledStages":
        from ..neural.compiled.residual_stages import (
            CompiledStages,  # imported here, since numba takes a while to import
        )

        return CompiledStages(self._quantizers(), self.prepared(self._decoded))

    def _plain_stages(self) -> PlainStages:
        return PlainStages(self._quantizers(), self.prepared(self._decoded))

    def _table(self) -> Tensor:
        """Table of what each code adds to the latents; a row of zeros first, for "no code"."""
        tables = self.prepared(self._decoded)
        return torch.cat([functional.pad(table, (0, 0, 1, 0)) for table in tables])

    @torch.no_grad()
    def _decoded(self) -> list[Tensor]:
        """Decoded vectors (codebook_size, latent_dim) of all codes, for each stage."""
        codes = torch.arange(self.config.codebook_size, device=self.device)[None, None]
        return [stage.decode(codes)[0] for stage in self._quantizers()]

    def _quantizers(self) -> list[VectorQuantizer]:
        quantizer: ResidualVectorQuantizer = self.still_quantizer()
        return [quantizer.stage(index) for index in range(self.config.num_codebooks)]
