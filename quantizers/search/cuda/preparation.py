"""A codebook laid out for screening on matrix units.

Matrix units multiply TF32 numbers: float32 with 11 significant bits. A float32 number is the sum of
two of them up to a relative 2^-22, so three products replace one of float32. The numbers are split
here, once, and not by the compiler in every tile.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..scores import Metric, code_norms
from .device import cdiv, power_of_two

# Up to this number of channels, all three products and the offset fit in 64 columns.
NARROW_LIMIT = 20
# Codes are padded to a multiple of the largest tile, so that kernels need no masks.
CODES_MULTIPLE = 128
CHANNELS_MULTIPLE = 32
# Score of padding. Scores that may reach it are never trusted: see `judging.py`.
_NEVER = 2.0**126


@dataclass(frozen=True)
class ScreeningCodes:
    """A codebook (K, D) as the kernels read it.

    Attributes:
        raw: (K, D) float32, the codebook itself, for the exact score.
        unit: (K, D) float32, for "cosine" the codes divided by their lengths, else `raw`.
        norms: (K,) float64 lengths of the codes.
        offsets: (K',) float32 with K' a multiple of 128: half the squared length for "l2", else 0;
            out of reach in padding.
        high, low: (K', D') float32, the two TF32 parts of `unit`.
        packed: (K', W) float32 or None: for narrow codebooks, columns −high, −low, −high and the
            offset in three parts. Multiplied with a row's high, high, low, 1, 1, 1 it gives the
            score.
        longest: length of the longest code of `unit`, rounded up.
        dropped: length of the longest `unit − high`, rounded up.
    """

    raw: Tensor
    unit: Tensor
    norms: Tensor
    offsets: Tensor
    high: Tensor
    low: Tensor
    packed: Tensor | None
    longest: float
    dropped: float


def prepare(codebook: Tensor, metric: Metric) -> ScreeningCodes:
    """Lay out a float32 codebook (K, D) on its device."""
    size, dim = codebook.shape
    norms = code_norms(codebook)
    exact = codebook.double()
    if metric == "cosine":
        exact = exact / norms[:, None]
    unit = exact.float() if metric == "cosine" else codebook
    squares = exact.square().sum(1)
    padded = cdiv(size, CODES_MULTIPLE) * CODES_MULTIPLE
    offsets = codebook.new_full((padded,), _NEVER)
    offsets[:size] = (squares / 2).float() if metric == "l2" else 0.0
    high, low = split_tf32(unit)
    dropped = (exact - high.double()).square().sum(1)
    wide = cdiv(dim, CHANNELS_MULTIPLE) * CHANNELS_MULTIPLE
    # Lengths are sums of D rounded float64 terms: the factor makes them upper bounds.
    upward = 1 + (dim + 8) * 2.0**-52
    return ScreeningCodes(
        raw=codebook,
        unit=unit.contiguous(),
        norms=norms,
        offsets=offsets,
        high=_padded(high, padded, wide),
        low=_padded(low, padded, wide),
        packed=_packed(high, low, offsets) if dim <= NARROW_LIMIT else None,
        longest=float(squares.max().sqrt()) * upward,
        dropped=float(dropped.max().sqrt()) * upward,
    )


def split_tf32(values: Tensor) -> tuple[Tensor, Tensor]:
    """Split into two float32 tensors with 11 significant bits each and a sum within 2^-22."""
    high = _round_tf32(values)
    return high, _round_tf32(values - high)


def _round_tf32(values: Tensor) -> Tensor:
    bits = values.contiguous().view(torch.int32)
    return ((bits + 0x1000) & ~0x1FFF).view(torch.float32)


def _padded(values: Tensor, rows: int, columns: int) -> Tensor:
    padding = (0, columns - values.shape[1], 0, rows - values.shape[0])
    return torch.nn.functional.pad(values, padding).contiguous()


def _packed(high: Tensor, low: Tensor, offsets: Tensor) -> Tensor:
    size, dim = high.shape
    packed = offsets.new_zeros((offsets.shape[0], max(16, power_of_two(3 * dim + 3))))
    packed[:size, : 3 * dim] = -torch.cat([high, low, high], 1)
    rest = offsets
    for column in range(3 * dim, 3 * dim + 3):
        packed[:, column] = _round_tf32(rest)
        rest = rest - packed[:, column]
    return packed
