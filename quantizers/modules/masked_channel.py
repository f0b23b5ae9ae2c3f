"""Masked-channel residual vector quantization: the first codebooks divide up the channels.

Ji et al., "Language-Codec" (arXiv 2402.12208): plain residual quantization puts most of the
information into the first codebook, which a language model then has to predict from text. Here,
each of the first codebooks gets only one group of channels, with the others zero, and later ones
get the whole residual.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import QuantizerError
from .prepared import Prepared, prepare_chain
from .residual import ResidualVectorQuantizer, ResidualVectorQuantizerConfig


@dataclass(frozen=True)
class MaskedChannelResidualVectorQuantizerConfig:
    """Configuration of a `MaskedChannelResidualVectorQuantizer`.

    Attributes:
        residual: of the stack.
        masked_codebooks: N, the number of first codebooks, each with one of N groups of channels;
            group i has the channels from i · dim // N up to (i + 1) · dim // N. The paper's N is 3.
    """

    residual: ResidualVectorQuantizerConfig
    masked_codebooks: int = 3

    def __post_init__(self) -> None:
        most = min(self.residual.num_codebooks, self.residual.quantizer.dim)
        if not 1 <= self.masked_codebooks <= most:
            raise QuantizerError(
                f"masked_codebooks must be 1 to {most}, no more than codebooks or channels, "
                f"got {self.masked_codebooks}"
            )


class MaskedChannelResidualVectorQuantizer(ResidualVectorQuantizer):
    """A residual quantizer whose first codebooks each quantize one group of channels.

    Codes of all codebooks add up, as in the base class. Codes of the first codebooks have all
    channels: with a k-means start and "ema", those outside their group stay zero; with "gradient",
    the codebook loss moves them there.
    """

    _channels: Tensor

    def __init__(self, config: MaskedChannelResidualVectorQuantizerConfig):
        super().__init__(config.residual)
        groups = config.masked_codebooks
        self._first_in_chain = groups
        self._decoder = Prepared(prepare_chain)
        channels = torch.zeros(groups, self.dim, dtype=torch.bool)
        for group in range(groups):
            channels[group, group * self.dim // groups : (group + 1) * self.dim // groups] = True
        self.register_buffer("_channels", channels, persistent=False)

    def _stage_input(self, index: int, x: Tensor, residual: Tensor) -> Tensor:
        if index < self._first_in_chain:
            return torch.where(self._channels[index], x, 0.0)
        return residual
