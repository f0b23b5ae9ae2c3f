"""Finite scalar quantization as pure functions: bound, round and pack into one code, and back.

Mentzer et al., "Finite Scalar Quantization: VQ-VAE Made Simple" (arXiv 2309.15505). A channel of L
levels is tanh(z + shift) · half - offset, rounded. That is a step function of z, so encoding counts
the steps at or below z (`finite_scalar_levels.py`) and needs no tanh: exact, equal on every device,
and only limited by memory bandwidth.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..errors import QuantizerError
from ..kernels.threads import share_rows
from .finite_scalar_levels import bound_constants, check_fsq_levels, fsq_thresholds

# Number of vectors that makes another thread worthwhile.
_LEAST = 1 << 14


def fsq_bound(z: Tensor, levels: Sequence[int]) -> Tensor:
    """Bound z (…, D) so that rounding gives `levels[d]` integers; differentiable, in z's dtype."""
    half, offset, shift = (
        torch.tensor(values, dtype=z.dtype, device=z.device) for values in bound_constants(levels)
    )
    return (z + shift).tanh() * half - offset


@torch.no_grad()
def fsq_encode(z: Tensor, levels: Sequence[int]) -> Tensor:
    """Quantize vectors to codes.

    Args:
        z: (…, D) floating point, before `fsq_bound`; rounded to float32 if it is wider.
        levels: D numbers of levels, 2 or more each, product under 2^63.

    Returns:
        (…) int64: the sum of level_d · levels[0] · … · levels[d - 1], so that the first channel
        varies fastest.

    Raises:
        QuantizerError: wrong levels, shape or dtype; NaN.
    """
    check_fsq_levels(levels)
    if not z.is_floating_point() or z.ndim < 1 or z.shape[-1] != len(levels):
        raise QuantizerError(
            f"z must be floating point of shape (…, {len(levels)}), got {z.dtype} {tuple(z.shape)}"
        )
    flat = z.detach().reshape(-1, len(levels)).float().contiguous()
    if flat.device.type == "cuda":
        from .search.cuda import fsq_encode as encode_on_cuda

        return encode_on_cuda(flat, levels).reshape(z.shape[:-1])
    if flat.device.type != "cpu":
        return _encode_anywhere(flat, levels).reshape(z.shape[:-1])
    from .search.scalar_kernels import pack_levels

    codes = np.empty(flat.shape[0], np.int64)
    values = flat.numpy()
    thresholds = fsq_thresholds(levels).numpy()
    sizes = np.array(levels, np.int64)

    def work(start: int, stop: int) -> None:
        if pack_levels(values[start:stop], thresholds, sizes, codes[start:stop]):
            raise QuantizerError("z has NaN values")

    share_rows(work, flat.shape[0], _LEAST)
    return torch.from_numpy(codes).reshape(z.shape[:-1])


def _encode_anywhere(flat: Tensor, levels: Sequence[int]) -> Tensor:
    if bool(flat.isnan().any()):
        raise QuantizerError("z has NaN values")
    thresholds = fsq_thresholds(levels).to(flat.device)
    codes = torch.zeros(flat.shape[0], dtype=torch.int64, device=flat.device)
    basis = 1
    for channel, size in enumerate(levels):
        steps = thresholds[channel, : size - 1]
        codes += torch.searchsorted(steps, flat[:, channel].contiguous(), right=True) * basis
        basis *= size
    return codes


@torch.no_grad()
def fsq_decode(codes: Tensor, levels: Sequence[int]) -> Tensor:
    """Decode codes to vectors.

    Args:
        codes: (…) integer, from `fsq_encode`.
        levels: as for `fsq_encode`.

    Returns:
        Float32 (…, D): each channel's (level - levels[d] // 2) / (levels[d] // 2), in [-1, 1].

    Raises:
        QuantizerError: wrong levels or dtype, or a code out of range.
    """
    check_fsq_levels(levels)
    if codes.is_floating_point() or codes.is_complex() or codes.dtype == torch.bool:
        raise QuantizerError(f"codes must be integers, got {codes.dtype}")
    flat = codes.reshape(-1).long().contiguous()
    size = math.prod(levels)
    if flat.numel():
        low, high = (int(value) for value in torch.aminmax(flat))
        if low < 0 or high >= size:
            raise QuantizerError(f"code {low if low < 0 else high} is not in 0..{size - 1}")
    shape = (*codes.shape, len(levels))
    if flat.device.type == "cuda":
        from .search.cuda import fsq_decode as decode_on_cuda

        return decode_on_cuda(flat, levels).reshape(shape)
    if flat.device.type != "cpu":
        return _decode_anywhere(flat, levels).reshape(shape)
    from .search.scalar_kernels import unpack_levels

    values = np.empty((flat.shape[0], len(levels)), np.float32)
    given = flat.numpy()
    sizes = np.array(levels, np.int64)

    def work(start: int, stop: int) -> None:
        unpack_levels(given[start:stop], sizes, values[start:stop])

    share_rows(work, flat.shape[0], _LEAST)
    return torch.from_numpy(values).reshape(shape)


def _decode_anywhere(flat: Tensor, levels: Sequence[int]) -> Tensor:
    channels = []
    for size in levels:
        channels.append((flat % size - size // 2).float() / (size // 2))
        flat = torch.div(flat, size, rounding_mode="floor")
    return torch.stack(channels, -1)
