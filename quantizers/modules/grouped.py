"""Grouped vector quantization: each group of channels has its own residual quantizer.

Yang et al., "HiFi-Codec: Group-residual Vector Quantization" (arXiv 2305.02765). With one stage it
is plain grouped (product) quantization.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ...errors import QuantizerError
from .interface import Quantizer, full_precision
from .residual import ResidualVectorQuantizer, ResidualVectorQuantizerConfig
from .result import Quantized
from .seeds import derived_seed


@dataclass(frozen=True)
class GroupedVectorQuantizerConfig:
    """Configuration of a `GroupedVectorQuantizer`.

    Attributes:
        group: of each group; its `quantizer.dim` is the number of channels of one group, and its
            `num_codebooks` and `dropout` count stages.
        groups: number of groups; vectors have groups × `quantizer.dim` channels, in the order of
            the groups.
    """

    group: ResidualVectorQuantizerConfig
    groups: int

    def __post_init__(self) -> None:
        if self.groups < 1:
            raise QuantizerError(f"groups must be positive, got {self.groups}")


class GroupedVectorQuantizer(Quantizer):
    """Quantize groups of channels independently.

    Codebooks are ordered by stage, then by group: stage 0 of group 0, stage 0 of group 1, …, stage
    1 of group 0, … So the first groups × n codebooks are the codes of n stages, and every number of
    codebooks is a multiple of the number of groups.
    """

    def __init__(self, config: GroupedVectorQuantizerConfig):
        quantizer, stages = config.group.quantizer, config.group.num_codebooks
        sizes = (quantizer.codebook_size,) * (stages * config.groups)
        super().__init__(quantizer.dim * config.groups, sizes)
        self.config = config
        self.groups = nn.ModuleList()
        for group in range(config.groups):
            own = replace(quantizer, seed=derived_seed(quantizer.seed, group))
            self.groups.append(ResidualVectorQuantizer(replace(config.group, quantizer=own)))

    def forward(
        self, x: Tensor, mask: Tensor | None = None, num_codebooks: int | None = None
    ) -> Quantized:
        """Quantize with the first `num_codebooks`; see `ResidualVectorQuantizer.forward`."""
        x, mask = self.checked_vectors(x, mask)
        if num_codebooks is None:
            stages = self.group(0).draw_num_codebooks() if self.training else None
            stages = stages or self.config.group.num_codebooks
        else:
            stages = self._stages(num_codebooks)
        if self.training:
            for index in range(len(self.groups)):
                self.group(index).steps += 1
        with full_precision(x.device):
            results = [
                self.group(index).quantize(part, mask, stages)
                for index, part in enumerate(self._parts(x))
            ]
        losses = {
            name: torch.stack([result.losses[name] for result in results]).sum()
            for name in results[0].losses
        }
        statistics = {
            name: torch.stack([result.statistics[name] for result in results], 1).flatten()
            for name in results[0].statistics
        }
        quantized = torch.cat([result.quantized for result in results], -1)
        return Quantized(
            quantized, _interleaved([result.codes for result in results]), losses, statistics
        )

    def encode(self, x: Tensor, num_codebooks: int | None = None) -> Tensor:
        """Quantize to codes (batch, num_codebooks, frames), by default all; see `Quantizer`."""
        x, _ = self.checked_vectors(x)
        used = len(self.codebook_sizes) if num_codebooks is None else num_codebooks
        stages = self._stages(used)
        return _interleaved(
            [self.group(index).encode(part, stages) for index, part in enumerate(self._parts(x))]
        )

    def decode(self, codes: Tensor) -> Tensor:
        """Decode codes of the first codebooks; see `Quantizer.decode`."""
        codes = self.checked_codes(codes)
        stages = self._stages(codes.shape[1])
        by_group = codes.unflatten(1, (stages, len(self.groups)))
        return torch.cat(
            [self.group(index).decode(by_group[:, :, index]) for index in range(len(self.groups))],
            -1,
        )

    def unrounded(self, x: Tensor) -> Tensor:
        """Return each group's; see `Quantizer.unrounded`."""
        x, _ = self.checked_vectors(x)
        parts = enumerate(self._parts(x))
        return torch.cat([self.group(index).unrounded(part) for index, part in parts], -1)

    def group(self, index: int) -> ResidualVectorQuantizer:
        """Return the quantizer of one group."""
        group = self.groups[index]
        assert isinstance(group, ResidualVectorQuantizer)
        return group

    def _parts(self, x: Tensor) -> list[Tensor]:
        return [part.contiguous() for part in x.chunk(len(self.groups), -1)]

    def _stages(self, num_codebooks: int) -> int:
        groups, most = len(self.groups), len(self.codebook_sizes)
        if num_codebooks % groups or not groups <= num_codebooks <= most:
            raise QuantizerError(
                f"the number of codebooks must be a multiple of {groups} groups, up to {most}, "
                f"got {num_codebooks}"
            )
        return num_codebooks // groups


def _interleaved(codes: list[Tensor]) -> Tensor:
    """Interleave the groups' codes (batch, stages, frames) to (batch, stages · groups, frames)."""
    return torch.stack(codes, 2).flatten(1, 2)
