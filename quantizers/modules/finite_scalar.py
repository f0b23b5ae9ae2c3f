"""Finite scalar quantization as modules: every channel is rounded, and no codebook is learned.

Mentzer et al., "Finite Scalar Quantization: VQ-VAE Made Simple" (arXiv 2309.15505). Noise dropout,
and residual stages that divide the steps of the stages before, are from Parker et al., "Scaling
Transformers for Low-Bitrate High-Quality Speech Coding" (arXiv 2411.19842).
"""

import copy
import math
from dataclasses import dataclass, replace
from functools import reduce

import torch
from torch import Tensor

from ...errors import QuantizerError
from ..finite_scalar import fsq_bound, fsq_decode, fsq_encode
from .gradient import pass_gradient
from .interface import Quantizer, full_precision
from .projection import projection
from .result import Quantized, statistics_of_columns

# Table 1 of the paper, by approximate codebook size.
FSQ_LEVELS: dict[str, tuple[int, ...]] = {
    "2^8": (8, 6, 5),
    "2^10": (8, 5, 5, 5),
    "2^12": (7, 5, 5, 5, 5),
    "2^14": (8, 8, 8, 6, 5),
    "2^16": (8, 8, 8, 5, 5, 5),
}


@dataclass(frozen=True)
class FiniteScalarQuantizerConfig:
    """Configuration of a `FiniteScalarQuantizer`, or of each stage of a residual one.

    Attributes:
        levels: number of levels of each channel, at least 2; `FSQ_LEVELS` has the paper's.
        dim: None: vectors have one channel per entry of levels. A number: vectors have that many
            channels, with learned projections before and after.
        noise_dropout: in training mode, share of the frames that get uniform noise of one step's
            width instead of being rounded. The paper's is 0.5. Their codes are the rounded ones.
    """

    levels: tuple[int, ...]
    dim: int | None = None
    noise_dropout: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", tuple(self.levels))
        if not self.levels or min(self.levels) < 2:
            raise QuantizerError(f"every channel needs at least 2 levels, got {self.levels}")
        if math.prod(self.levels) >= 2**63:
            raise QuantizerError(f"codes of levels {self.levels} don't fit into 64 bits")
        if self.dim is not None and self.dim < 1:
            raise QuantizerError(f"dim must be positive, got {self.dim}")
        if not 0 <= self.noise_dropout <= 1:
            raise QuantizerError(f"noise_dropout must be 0 to 1, got {self.noise_dropout}")


class ResidualFiniteScalarQuantizer(Quantizer):
    """Residual finite scalar quantization; each stage divides the step of the stage before.

    Stage 0 is plain finite scalar quantization. Each later stage quantizes the remaining error, at
    most half a step in either direction, to the same number of levels, evenly over that step. So n
    stages of L levels have an error of at most half a step divided by L^(n - 1), like one stage
    with as many times more levels.

    There are no losses. Gradients pass through the rounding unchanged (straight-through).
    """

    def __init__(self, config: FiniteScalarQuantizerConfig, num_codebooks: int):
        size = math.prod(config.levels)
        dim = len(config.levels) if config.dim is None else config.dim
        super().__init__(dim, (size,) * num_codebooks)
        self.config = config
        projected = config.dim is not None
        self.project_in = projection(dim, len(config.levels), projected)
        self.project_out = projection(len(config.levels), dim, projected)

    def forward(
        self, x: Tensor, mask: Tensor | None = None, num_codebooks: int | None = None
    ) -> Quantized:
        """Quantize with the first `num_codebooks`, by default all; see `Quantizer.forward`.

        Raises:
            QuantizerError: as there; also if `num_codebooks` is out of range.
        """
        x, mask = self.checked_vectors(x, mask)
        used = self._number(num_codebooks)
        with full_precision(x.device):
            z = self.project_in(x)
            codes = self._codes(z.detach(), used)
            bounded = fsq_bound(z, self.config.levels) / self._constants(z)[0]
            quantized = pass_gradient(bounded, self._values(codes))
            if self.training and self.config.noise_dropout > 0:
                quantized = self._with_noise(quantized, bounded, used)
            columns = codes.transpose(0, 1)[:, mask]
            sizes = self.codebook_sizes[:used]
            statistics = statistics_of_columns(columns, sizes, self.training)
            return Quantized(self.project_out(quantized), codes, {}, statistics)

    def encode(self, x: Tensor, num_codebooks: int | None = None) -> Tensor:
        """Quantize to codes (batch, num_codebooks, frames), by default all; see `Quantizer`."""
        x, _ = self.checked_vectors(x)
        with torch.no_grad(), full_precision(x.device):
            return self._codes(self.project_in(x), self._number(num_codebooks))

    def decode(self, codes: Tensor) -> Tensor:
        """Decode codes of the first codebooks; see `Quantizer.decode`."""
        codes = self.checked_codes(codes)
        with full_precision(codes.device):
            decoded: Tensor = self.project_out(self._values(codes))
            return decoded

    def decode_parts(self, codes: Tensor) -> list[Tensor]:
        """Decode codes to the part (batch, frames, dim) of each codebook; see `Quantizer.decode`.

        They add up to what `decode` returns, up to rounding; the first has the projection's bias.
        """
        codes = self.checked_codes(codes)
        with full_precision(codes.device):
            first, *later = [self.project_out(values) for values in self._parts(codes)]
            bias = self.project_out(first.new_zeros(len(self.config.levels)))
            return [first, *(part - bias for part in later)]

    def unrounded(self, x: Tensor) -> Tensor:
        """Return x through projections and bounds alone; see `Quantizer.unrounded`."""
        x, _ = self.checked_vectors(x)
        with full_precision(x.device):
            z = self.project_in(x)
            bounded = fsq_bound(z, self.config.levels) / self._constants(z)[0]
            projected: Tensor = self.project_out(bounded)
            return projected

    def with_levels(self, levels: tuple[int, ...]) -> "ResidualFiniteScalarQuantizer":
        """Return a quantizer with the same projections and other levels for the same channels.

        Raises:
            QuantizerError: another number of channels, or invalid levels.
        """
        if len(levels) != len(self.config.levels):
            raise QuantizerError(
                f"levels {levels} have {len(levels)} channels, the projections "
                f"{len(self.config.levels)}"
            )
        other = copy.copy(self)
        other.config = replace(self.config, levels=levels)
        other.codebook_sizes = (math.prod(levels),) * len(self.codebook_sizes)
        return other

    def _codes(self, z: Tensor, used: int) -> Tensor:
        """Quantize z (batch, frames, channels) to codes (batch, used, frames)."""
        levels = self.config.levels
        codes = [fsq_encode(z, levels)]
        if used > 1:
            z = z.double()
            half_width, offset = self._constants(z)
            counts = torch.tensor(levels, dtype=z.dtype, device=z.device)
            position = fsq_bound(z, levels)
            for _ in range(1, used):
                rounded = fsq_decode(codes[-1], levels).double() * half_width
                position = (position - rounded.round()) * counts - offset
                codes.append(fsq_encode(_unbound(position, levels), levels))
        return torch.stack(codes, 1)

    def _values(self, codes: Tensor) -> Tensor:
        """Decode codes (batch, used, frames) to values (batch, frames, channels) float32."""
        return reduce(torch.add, self._parts(codes))

    def _parts(self, codes: Tensor) -> list[Tensor]:
        """Return what each stage adds to the values, in order."""
        levels = self.config.levels
        values = fsq_decode(codes[:, 0], levels)
        parts = [values]
        half_width, offset = self._constants(values)
        counts = torch.tensor(levels, dtype=values.dtype, device=values.device)
        # In steps of stage 0; with an even number, levels of later stages are half a level off
        # centre.
        step = 1 / half_width
        for index in range(1, codes.shape[1]):
            step = step / counts
            levels_there = fsq_decode(codes[:, index], levels) * half_width
            parts.append((levels_there + offset) * step)
        return parts

    def _with_noise(self, quantized: Tensor, bounded: Tensor, used: int) -> Tensor:
        """Add noise of the last stage's step width to some frames, instead of rounding."""
        half_width, _ = self._constants(bounded)
        counts = torch.tensor(self.config.levels, dtype=bounded.dtype, device=bounded.device)
        step = 1 / (half_width * counts ** (used - 1))
        noisy = bounded + (torch.rand_like(bounded) - 0.5) * step
        frames = torch.rand(bounded.shape[:-1], device=bounded.device)
        return torch.where((frames < self.config.noise_dropout)[..., None], noisy, quantized)

    def _constants(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return half widths and the bound's offsets (channels,)."""
        levels = self.config.levels
        half_width = [float(count // 2) for count in levels]
        offset = [0.0 if count % 2 else 0.5 for count in levels]
        return like.new_tensor(half_width), like.new_tensor(offset)

    def _number(self, num_codebooks: int | None) -> int:
        most = len(self.codebook_sizes)
        if num_codebooks is None:
            return most
        if not 1 <= num_codebooks <= most:
            raise QuantizerError(f"num_codebooks must be 1 to {most}, got {num_codebooks}")
        return num_codebooks


class FiniteScalarQuantizer(ResidualFiniteScalarQuantizer):
    """Finite scalar quantization with one stage."""

    def __init__(self, config: FiniteScalarQuantizerConfig):
        super().__init__(config, 1)


def _unbound(position: Tensor, levels: tuple[int, ...]) -> Tensor:
    """Invert `fsq_bound` at `position` (…, D) float64, clipped to just within its range.

    The bound is monotonic per channel and its range is a scaled and shifted tanh: both are computed
    from the function itself, so that its constants exist in one place only.
    """
    ends = position.new_tensor([-40.0, 0.0, 40.0])[:, None].expand(3, len(levels))
    low, middle, high = fsq_bound(ends, levels)
    half, centre = (high - low) / 2, (high + low) / 2
    shift = torch.atanh((middle - centre) / half)
    inside = ((position - centre) / half).clamp(-1 + 1e-12, 1 - 1e-12)
    return torch.atanh(inside) - shift
