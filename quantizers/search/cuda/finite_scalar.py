# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
# Triton reads the types of a kernel's arguments from its launch.
"""Finite scalar quantization in one pass each way; see `quantizers/finite_scalar.py`.

Both directions are limited by memory: 4 D bytes per vector and 8 per code. Rounding a bounded value
to one of L levels equals counting how many of L − 1 edges it has reached, so no hyperbolic tangent
is needed, and the code is exact because the edges are.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from ....errors import QuantizerError
from ...finite_scalar_levels import fsq_thresholds
from .device import cdiv, on_device, power_of_two, require_device

# Elements of a tile: 16 for each of 128 threads, with several loads in flight.
_TILE = 2048
# Codes below this are divided exactly by a float32 multiplication: see `unpack_levels`.
_FLOAT_CODES = 1 << 20
# Number of edges up to which comparisons are unrolled and edges stay in registers.
_UNROLLED = tl.constexpr(32)


@triton.jit
def pack_levels(
    z,
    edges,
    basis,
    codes_out,
    nan_out,
    num_rows,
    dim,
    EDGES: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """Quantize z (num_rows, dim) to codes (num_rows,); edges (EDGES, WIDTH), basis (WIDTH,).

    Edges beyond a channel's are infinite, basis values beyond `dim` zero. `nan_out` becomes 1 if
    there is a NaN.
    """
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    channel = tl.arange(0, WIDTH)
    live = row < num_rows
    values = tl.load(
        z + row[:, None] * dim + channel[None, :],
        mask=live[:, None] & (channel < dim)[None, :],
        other=0.0,
    )
    nans = tl.max(tl.max((values != values).to(tl.int32), axis=1), axis=0)
    if nans > 0:
        tl.store(nan_out, 1)
    level = tl.zeros((ROWS, WIDTH), tl.int32)
    if EDGES <= _UNROLLED:
        for number in tl.static_range(EDGES):
            edge = tl.load(edges + number * WIDTH + channel)
            level += (values >= edge[None, :]).to(tl.int32)
    else:
        for number in range(EDGES):
            edge = tl.load(edges + number * WIDTH + channel)
            level += (values >= edge[None, :]).to(tl.int32)
    digits = level.to(basis.dtype.element_ty) * tl.load(basis + channel)[None, :]
    tl.store(codes_out + row, tl.sum(digits, axis=1).to(tl.int64), mask=live)


@triton.jit
def unpack_levels(
    codes,
    basis,
    sizes,
    reciprocals,
    values,
    z_out,
    num_rows,
    dim,
    LEVELS: tl.constexpr,
    SMALL: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """Decode codes (num_rows,) to vectors (num_rows, dim); values (WIDTH, LEVELS) of each level.

    With SMALL, codes are below 2^20 and code // basis is floor((code + 1/2) × reciprocal) in
    float32: the exact product is at least 1 / (2 basis) away from an integer, and the computed one
    has a relative error below 2^-22, a quarter of that. `reciprocals` are (2, WIDTH), of the basis
    and of the next channel's.
    """
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    channel = tl.arange(0, WIDTH)
    live = row < num_rows
    code = tl.load(codes + row, mask=live, other=0)[:, None]
    start = tl.load(basis + channel)[None, :]
    size = tl.load(sizes + channel)[None, :]
    if SMALL:
        middle = code.to(tl.float32) + 0.5
        lower = tl.floor(middle * tl.load(reciprocals + channel)[None, :]).to(tl.int32)
        upper = tl.floor(middle * tl.load(reciprocals + WIDTH + channel)[None, :]).to(tl.int32)
        level = lower - upper * size.to(tl.int32)
    else:
        level = ((code // start) % size).to(tl.int32)
    # Keeps reads within the table, for any code.
    level = tl.minimum(tl.maximum(level, 0), LEVELS - 1)
    vectors = tl.load(values + channel[None, :] * LEVELS + level)
    tl.store(
        z_out + row[:, None] * dim + channel[None, :],
        vectors,
        mask=live[:, None] & (channel < dim)[None, :],
    )


class TritonFSQ:
    """`fsq_encode` and `fsq_decode` for one set of levels, in one pass each.

    Args:
        levels: (D,) levels of each channel, 2 or more; their product below 2^63.
        device: a CUDA device.

    Raises:
        QuantizerError: there are no levels, one is below 2, or there are too many for a code.
    """

    name = "triton"

    def __init__(self, levels: Sequence[int], device: torch.device | str):
        total = 1
        for size in levels:
            total *= size
        if not levels or min(levels) < 2 or total >= 1 << 63:
            raise QuantizerError(f"levels must be 2 or more, below 2^63 codes, got {list(levels)}")
        self.levels = tuple(levels)
        self._small = total <= _FLOAT_CODES
        self._width = power_of_two(len(levels))
        edges = torch.full((max(levels) - 1, self._width), torch.inf)
        edges[:, : len(levels)] = fsq_thresholds(levels).T
        values = torch.zeros(self._width, max(levels))
        basis = [1]
        for channel, size in enumerate(levels):
            values[channel, :size] = (torch.arange(size) - size // 2).float() / (size // 2)
            basis.append(basis[-1] * size)
        padding = self._width - len(levels)
        kind = torch.int32 if total < 1 << 31 else torch.int64
        self._edges = edges.to(device)
        self._values = values.to(device)
        self._digits = torch.tensor([*basis[:-1], *[0] * padding], dtype=kind, device=device)
        self._starts = torch.tensor([*basis[:-1], *[1] * padding], device=device)
        self._sizes = torch.tensor([*levels, *[1] * padding], device=device)
        self._reciprocals = 1 / torch.stack([self._starts, self._starts * self._sizes]).float()
        require_device(self._edges, "levels")

    def encode(self, z: Tensor) -> Tensor:
        """Quantize float32 vectors z (…, D) to codes (…) int64.

        Raises:
            QuantizerError: a wrong shape, dtype or device; NaN.
        """
        require_device(z, "z")
        dim = len(self.levels)
        if z.dtype != torch.float32 or z.shape[-1] != dim:
            raise QuantizerError(f"z must be float32 (…, {dim}), got {z.dtype} {tuple(z.shape)}")
        codes = torch.empty(z.shape[:-1], dtype=torch.int64, device=z.device)
        nans = torch.zeros(1, dtype=torch.int32, device=z.device)
        rows = max(1, _TILE // self._width)
        if codes.numel():
            with on_device(z):
                pack_levels[(cdiv(codes.numel(), rows),)](
                    z.contiguous(),
                    self._edges,
                    self._digits,
                    codes,
                    nans,
                    codes.numel(),
                    dim,
                    EDGES=self._edges.shape[0],
                    ROWS=rows,
                    WIDTH=self._width,
                    num_warps=4,
                )
        if bool(nans):
            raise QuantizerError("z has NaN values")
        return codes

    def decode(self, codes: Tensor) -> Tensor:
        """Decode codes (…) int64, from 0 to the product of the levels − 1, to float32 (…, D)."""
        require_device(codes, "codes")
        dim = len(self.levels)
        vectors = torch.empty((*codes.shape, dim), dtype=torch.float32, device=codes.device)
        rows = max(1, _TILE // self._width)
        if codes.numel():
            with on_device(codes):
                unpack_levels[(cdiv(codes.numel(), rows),)](
                    codes.contiguous(),
                    self._starts,
                    self._sizes,
                    self._reciprocals,
                    self._values,
                    vectors,
                    codes.numel(),
                    dim,
                    LEVELS=self._values.shape[1],
                    SMALL=self._small,
                    ROWS=rows,
                    WIDTH=self._width,
                    num_warps=4,
                )
        return vectors


def fsq_encode(z: Tensor, levels: Sequence[int]) -> Tensor:
    """Call `TritonFSQ.encode` with cached tables."""
    return _prepared(tuple(levels), z.device).encode(z)


def fsq_decode(codes: Tensor, levels: Sequence[int]) -> Tensor:
    """Call `TritonFSQ.decode` with cached tables."""
    return _prepared(tuple(levels), codes.device).decode(codes)


@lru_cache(maxsize=32)
def _prepared(levels: tuple[int, ...], device: torch.device) -> TritonFSQ:
    return TritonFSQ(levels, device)
