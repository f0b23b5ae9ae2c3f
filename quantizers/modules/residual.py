"""Residual vector quantization: each codebook quantizes the residual of those before it.

Zeghidour et al., "SoundStream" (arXiv 2107.03312), which also introduced quantizer dropout.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import QuantizerError
from .gradient import pass_gradient
from .interface import Quantizer, full_precision
from .prepared import Prepared, prepare_chain
from .result import Quantized, joined_statistics
from .seeds import chosen_item, derived_seed
from .vector import VectorQuantizer, VectorQuantizerConfig

_DROPOUT = 3


@dataclass(frozen=True)
class ResidualVectorQuantizerConfig:
    """Configuration of a `ResidualVectorQuantizer`.

    Attributes:
        quantizer: of each stage; the stages' seeds are derived from its seed.
        num_codebooks: number of stages.
        dropout: numbers of codebooks (a tuple, list or range), of which each training step uses one
            at random, the same on all ranks. Repeated items are chosen more often. Empty: always
            use all codebooks.
    """

    quantizer: VectorQuantizerConfig
    num_codebooks: int
    dropout: Iterable[int] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "dropout", tuple(self.dropout))
        if self.num_codebooks < 1:
            raise QuantizerError(f"num_codebooks must be positive, got {self.num_codebooks}")
        if not all(1 <= number <= self.num_codebooks for number in self.dropout):
            raise QuantizerError(
                f"dropout must hold numbers of 1 to {self.num_codebooks} codebooks, "
                f"got {self.dropout}"
            )


class ResidualVectorQuantizer(Quantizer):
    """A stack of `VectorQuantizer`s.

    Losses are the sums over the stages, so that a codebook's training does not depend on the number
    of others. Codebooks excluded by dropout get zero gradients, so that DistributedDataParallel
    needs no `find_unused_parameters`.

    With projections, gradients pass through each stage, as in DAC. Without, they pass once through
    the whole stack, from the sum of the codes to the vector.
    """

    steps: Tensor
    # Stages below this index do not take the residual of the one before.
    _first_in_chain = 0

    def __init__(self, config: ResidualVectorQuantizerConfig):
        sizes = (config.quantizer.codebook_size,) * config.num_codebooks
        super().__init__(config.quantizer.dim, sizes)
        self.config = config
        seed = config.quantizer.seed
        self.stages = nn.ModuleList(
            VectorQuantizer(replace(config.quantizer, seed=derived_seed(seed, stage)))
            for stage in range(config.num_codebooks)
        )
        self.factorised = config.quantizer.codebook_dim is not None
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self._encoder = Prepared(prepare_chain)
        self._decoder = self._encoder

    def forward(
        self, x: Tensor, mask: Tensor | None = None, num_codebooks: int | None = None
    ) -> Quantized:
        """Quantize with the first `num_codebooks`; see `Quantizer.forward`.

        By default with all, or in training mode with a number chosen by dropout.

        Raises:
            QuantizerError: as there; also if `num_codebooks` is out of range.
        """
        x, mask = self.checked_vectors(x, mask)
        used = self._number(num_codebooks)
        if self.training:
            self.steps += 1
        with full_precision(x.device):
            return self.quantize(x, mask, used)

    def encode(self, x: Tensor, num_codebooks: int | None = None) -> Tensor:
        """Quantize to codes (batch, num_codebooks, frames), by default all; see `Quantizer`."""
        x, _ = self.checked_vectors(x)
        used = len(self.stages) if num_codebooks is None else self._number(num_codebooks)
        with torch.no_grad(), full_precision(x.device):
            looped = min(used, self._first_in_chain) if self._chained() else used
            residual, parts = x, []
            for index in range(looped):
                stage = self.stage(index)
                parts.append(stage.encode(self._stage_input(index, x, residual)))
                residual = residual - stage.decode(parts[-1])
            if looped < used:
                chain = self._encoder(self._codebooks()[self._first_in_chain :])
                columns, _ = chain.encode(residual.flatten(0, 1), used - looped)
                parts.append(columns.reshape(*x.shape[:2], used - looped).transpose(1, 2))
            return torch.cat(parts, 1)

    def decode(self, codes: Tensor) -> Tensor:
        """Return the sum of the code vectors of the first codebooks; see `Quantizer.decode`."""
        codes = self.checked_codes(codes)
        batch, used, frames = codes.shape
        with full_precision(codes.device):
            learns = torch.is_grad_enabled() and self.config.quantizer.update == "gradient"
            if self._chained() and not learns:
                columns = codes.transpose(1, 2).reshape(-1, used)
                rows = self._decoder(self._codebooks()).decode(columns)
                return rows.reshape(batch, frames, self.dim)
            total = self.stage(0).decode(codes[:, :1])
            for index in range(1, used):
                total = total + self.stage(index).decode(codes[:, index, None])
            return total

    def unrounded(self, x: Tensor) -> Tensor:
        """Return the sum of what the stages would add; see `Quantizer.unrounded`."""
        x, _ = self.checked_vectors(x)
        residual, parts = x, []
        for index in range(len(self.stages)):
            parts.append(self.stage(index).unrounded(self._stage_input(index, x, residual)))
            residual = residual - parts[-1]
        return reduce(torch.add, parts)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *rest)
        missing = rest[2]
        missing[:] = [key for key in missing if key not in self.training_state(prefix)]

    def training_state(self, prefix: str = "") -> set[str]:
        """Return entries that only training needs; see `Quantizer.training_state`."""
        return {f"{prefix}steps"}

    def stage(self, index: int) -> VectorQuantizer:
        """Return one stage's quantizer."""
        stage = self.stages[index]
        assert isinstance(stage, VectorQuantizer)
        return stage

    def draw_num_codebooks(self, step: int | None = None) -> int:
        """Choose the number of codebooks for a training step, by dropout; default: the next."""
        choices = tuple(self.config.dropout)
        if not choices:
            return len(self.stages)
        step = int(self.steps) if step is None else step
        return chosen_item(choices, self.config.quantizer.seed, _DROPOUT, step)

    def quantize(self, x: Tensor, mask: Tensor, used: int) -> Quantized:
        """`forward` for inputs that were checked, within `full_precision`."""
        residual, total, results = x, None, []
        for index in range(used):
            result = self.stage(index).quantize(self._stage_input(index, x, residual), mask)
            results.append(result)
            step = result.quantized if self.factorised else result.quantized.detach()
            residual = residual - step
            total = step if total is None else total + step
        assert total is not None
        if not self.factorised:
            total = pass_gradient(x, total, self.config.quantizer.passing)
        losses = {
            name: torch.stack([result.losses[name] for result in results]).sum()
            for name in results[0].losses
        }
        for index in range(used, len(self.stages)):
            for parameter in self.stages[index].parameters():
                losses["commitment"] = losses["commitment"] + 0.0 * parameter.sum()
        codes = torch.cat([result.codes for result in results], 1)
        statistics = joined_statistics([result.statistics for result in results])
        return Quantized(total, codes, losses, statistics)

    def _stage_input(self, index: int, x: Tensor, residual: Tensor) -> Tensor:
        """Return the input of stage `index`."""
        return residual

    def _number(self, num_codebooks: int | None) -> int:
        if num_codebooks is None:
            return self.draw_num_codebooks() if self.training else len(self.stages)
        if not 1 <= num_codebooks <= len(self.stages):
            raise QuantizerError(
                f"num_codebooks must be 1 to {len(self.stages)}, got {num_codebooks}"
            )
        return num_codebooks

    def _chained(self) -> bool:
        return not self.training and not self.factorised and self.config.quantizer.metric == "l2"

    def _codebooks(self) -> list[Tensor]:
        return [self.stage(index).codebook for index in range(len(self.stages))]
