"""The FSQ codec: one implicit codebook, or a residual stack of them.

Mentzer et al., "Finite Scalar Quantization" (arXiv 2309.15505). Replacing some of the rounding with
noise in training, and choosing levels after training: Parker et al., "Scaling Transformers for
Low-Bitrate High-Quality Speech Coding" (arXiv 2411.19842).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...quantizers.modules.finite_scalar import (
    FiniteScalarQuantizerConfig,
    ResidualFiniteScalarQuantizer,
)
from ..neural.codec import Array, NeuralCodec, TrunkConfig
from ..neural.trunks.spectral import SpectralConfig
from ..neural.without_compiling import may_compile
from ..spec import TokenizerSpec


@dataclass(frozen=True)
class FSQConfig:
    """Configuration of `FSQCodec`.

    Attributes:
        network: encoder and decoder, spectral or waveform.
        levels: number of levels of each channel. The weights depend only on the number of
            channels, so a trained model can be loaded with fewer levels, for a lower bitrate.
        num_codebooks: residual stages; each has finer steps than the one before.
    """

    network: TrunkConfig = field(default_factory=SpectralConfig)
    levels: tuple[int, ...] = (8, 8, 8, 5, 5, 5)
    num_codebooks: int = 1

    def quantizer(self) -> FiniteScalarQuantizerConfig:
        return FiniteScalarQuantizerConfig(self.levels, self.network.latent_dim)


class FSQCodec(NeuralCodec):
    """A neural codec with finite scalar quantization.

    Args:
        config: see `FSQConfig`.
        name: the tokenizer's name.
    """

    family = "fsq"
    Config = FSQConfig

    def __init__(self, config: FSQConfig, name: str | None = None) -> None:
        super().__init__(config, name)
        self.quantizer = ResidualFiniteScalarQuantizer(config.quantizer(), config.num_codebooks)

    def describe(self) -> TokenizerSpec:
        config: FSQConfig = self.config
        levels = "·".join(map(str, config.levels))
        return self.neural_spec(
            [math.prod(config.levels)] * config.num_codebooks,
            min_codebooks=1,
            source="arXiv 2309.15505",
            description=levels,
        )

    def plain_quantizing(self) -> Callable[[Tensor, int], Tensor]:
        quantizer: ResidualFiniteScalarQuantizer = self.still_quantizer()
        return lambda latents, count: quantizer.encode(latents, count).transpose(1, 2)

    def quantizing_arrays(self) -> Callable[[Array, int], Array] | None:
        return self.prepared(self._compiled_levels).encode if self._is_compiled() else None

    def plain_dequantizing(self) -> Callable[[Tensor], Tensor]:
        quantizer: ResidualFiniteScalarQuantizer = self.still_quantizer()
        dim = self.network.latent_dim

        def dequantize(codes: Tensor) -> Tensor:
            latents = torch.zeros(*codes.shape[:2], dim, device=codes.device)
            kept = (codes >= 0).sum(-1, keepdim=True)
            # Usually a single value; a stream may switch to fewer codebooks within a tile.
            for count in kept.unique().tolist():
                if count:
                    some = quantizer.decode(codes[..., :count].clamp_min(0).transpose(1, 2))
                    latents = torch.where(kept == count, some, latents)
            return latents

        return dequantize

    def dequantizing_arrays(self) -> Callable[[Array], Array] | None:
        return self.prepared(self._compiled_levels).vectors if self._is_compiled() else None

    def _is_compiled(self) -> bool:
        return self.device.type == "cpu" and may_compile() and self.config.num_codebooks == 1

    def codebook_vectors(self, codes: Tensor, differentiable: bool) -> list[Tensor]:
        quantizer: ResidualFiniteScalarQuantizer = self.quantizer
        return [part[0] for part in quantizer.decode_parts(codes.T[None])]
