# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
# Triton reads the types of a kernel's arguments from its launch.
"""Exact scores in kernels: for rows that screening left undecided, and for chosen codes.

The score is bit-identical to that of `scores.py`: float64, the same order of additions, and no
fused multiply-add, so these kernels are launched with `enable_fp_fusion=False`.
"""

from dataclasses import dataclass

import triton
import triton.language as tl
from torch import Tensor

from ..scores import Metric
from .device import multiprocessors, power_of_two
from .judging import CONSTANTS, LONGEST, SETTLING, margin

# Elements of a tile of float64.
_TILE = 4096


@triton.jit
def fold(terms, ROWS: tl.constexpr, WIDTH: tl.constexpr, HALVINGS: tl.constexpr):
    """Sums (ROWS,) of terms (ROWS, WIDTH), folded in halves as `folded_sum` does."""
    for step in tl.static_range(HALVINGS):
        # A sum of two terms has only one order.
        terms = tl.sum(tl.reshape(terms, (ROWS, 2, WIDTH >> (step + 1))), axis=1)
    return tl.reshape(terms, (ROWS,))


@triton.jit
def deciding_scores(
    rows,
    codes,
    norms,
    METRIC: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    HALVINGS: tl.constexpr,
):
    """Compute float64 scores of float32 rows (ROWS or 1, WIDTH) and codes (ROWS, WIDTH)."""
    rows = rows.to(tl.float64)
    codes = codes.to(tl.float64)
    if METRIC == "l2":
        difference = rows - codes
        return fold(difference * difference, ROWS, WIDTH, HALVINGS)
    products = -fold(rows * codes, ROWS, WIDTH, HALVINGS)
    if METRIC == "cosine":
        products = products / norms
    return products


@triton.jit
def settle(
    x,
    listed,
    count,
    raw,
    unit,
    norms,
    offsets,
    table,
    sizes,
    codes_out,
    residual_out,
    dim,
    stages,
    code_rows,
    offset_rows,
    METRIC: tl.constexpr,
    CODES: tl.constexpr,
    WIDTH: tl.constexpr,
    HALVINGS: tl.constexpr,
    RESIDUAL: tl.constexpr,
):
    """Find exact codes of listed rows, for all stages of a residual chain.

    A program takes one row at a time and goes over the codes of a stage. Float32 scores show which
    tiles can have the nearest code, given the lowest score so far; those are scored again in
    float64. For rows of x whose bound can't be trusted, all tiles are.

    `raw` and `unit` are (stages, code_rows, dim), `norms` (stages, code_rows), `offsets`
    (stages, offset_rows), `table` (stages, CONSTANTS), `sizes` (stages,) int32, `codes_out`
    (rows, stages). With RESIDUAL, the final residual is written to `residual_out` (rows, dim).
    """
    channel = tl.arange(0, WIDTH)
    lane = tl.arange(0, CODES)
    inside = channel < dim
    total = tl.load(count)
    for place in range(tl.program_id(0), total, tl.num_programs(0)):
        row = tl.load(listed + place).to(tl.int64)
        rest = tl.load(x + row * dim + channel, mask=inside, other=0.0)
        for stage in range(stages):
            size = tl.load(sizes + stage)
            wide = rest.to(tl.float64)
            constants = table + stage * CONSTANTS
            bound = margin(
                tl.sqrt(tl.sum(wide * wide, axis=0)),
                0.0,
                tl.load(constants + LONGEST),
                0.0,
                tl.load(constants + SETTLING),
                dim,
                METRIC == "l2",
            )
            stage_start = tl.full((), stage, tl.int64) * code_rows
            lowest = tl.full((), float("inf"), tl.float32)
            best = tl.full((), float("inf"), tl.float64)
            winner = tl.full((), 0, tl.int32)
            for first in range(0, size, CODES):
                code = first + lane
                live = code < size
                where = (stage_start + code)[:, None] * dim + channel[None, :]
                mask = live[:, None] & inside[None, :]
                codes = tl.load(unit + where, mask=mask, other=0.0)
                offset = tl.load(offsets + stage * offset_rows + code, mask=live, other=0.0)
                scores = offset - tl.sum(codes * rest[None, :], axis=1)
                smallest = tl.min(tl.where(live, scores, float("inf")), axis=0)
                lowest = tl.minimum(lowest, smallest)
                # With an infinite bound this is NaN or infinite, which keeps the tile.
                beyond = smallest.to(tl.float64) - lowest.to(tl.float64) > 2 * bound
                if beyond == 0:
                    if METRIC == "cosine":
                        codes = tl.load(raw + where, mask=mask, other=0.0)
                    lengths = tl.load(norms + stage_start + code, mask=live, other=1.0)
                    exact = deciding_scores(
                        rest[None, :], codes, lengths, METRIC, CODES, WIDTH, HALVINGS
                    )
                    exact = tl.where(live, exact, float("inf"))
                    nearest = tl.min(exact, axis=0)
                    at = tl.min(tl.where(exact == nearest, code, size), axis=0)
                    # Tiles are in order, so that a later one does not win a tie.
                    winner = tl.where(nearest < best, at, winner)
                    best = tl.minimum(best, nearest)
            tl.store(codes_out + row * stages + stage, winner.to(tl.int64))
            if RESIDUAL:
                chosen = raw + (stage_start + winner) * dim + channel
                rest = rest - tl.load(chosen, mask=inside, other=0.0)
        if RESIDUAL:
            tl.store(residual_out + row * dim + channel, rest, mask=inside)


@dataclass(frozen=True)
class SettlingCodes:
    """The codebooks of all stages, padded to one size K, as `settle` reads them.

    Attributes:
        raw, unit: (S, K, D) float32.
        norms: (S, K) float64.
        offsets: (S, K') float32, K' >= K.
        table: (S, 4) float64, see `constants` in `judging.py`.
        sizes: (S,) int32, number of codes without padding.
    """

    raw: Tensor
    unit: Tensor
    norms: Tensor
    offsets: Tensor
    table: Tensor
    sizes: Tensor


def settle_listed(
    x: Tensor,
    listed: Tensor,
    count: Tensor,
    codes: SettlingCodes,
    metric: Metric,
    codes_out: Tensor,
    residual_out: Tensor | None = None,
) -> None:
    """Write exact codes of the first `count` rows in `listed`, and the final residuals.

    Args:
        x: (N, D) float32.
        listed: (N,) int32 rows, and count: (1,) int32, both on the device.
        codes: the codebooks.
        metric: the metric.
        codes_out: (N, S') int64 for the first S' of the stages; or (N,) for the first.
        residual_out: (N, D) float32.
    """
    _, code_rows, dim = codes.raw.shape
    stages = codes_out.shape[1] if codes_out.ndim == 2 else 1
    width, tile = settle_tile(dim)
    grid = (min(x.shape[0], 8 * multiprocessors(x)),)
    settle[grid](
        x,
        listed,
        count,
        codes.raw,
        codes.unit,
        codes.norms,
        codes.offsets,
        codes.table,
        codes.sizes,
        codes_out,
        x if residual_out is None else residual_out,
        dim,
        stages,
        code_rows,
        codes.offsets.shape[1],
        METRIC=metric,
        CODES=tile,
        WIDTH=width,
        HALVINGS=width.bit_length() - 1,
        RESIDUAL=residual_out is not None,
        num_warps=4,
        enable_fp_fusion=False,
    )


def settle_tile(dim: int) -> tuple[int, int]:
    """Return columns and rows of a tile of float64 terms: 4,096 of them, or one row."""
    width = power_of_two(dim)
    return width, max(1, min(512, _TILE // width))


@triton.jit
def score_chosen(
    x,
    codes,
    raw,
    norms,
    scores_out,
    num_rows,
    dim,
    METRIC: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    HALVINGS: tl.constexpr,
):
    """Compute the exact scores (num_rows,) of rows and their chosen codes."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    live = row < num_rows
    channel = tl.arange(0, WIDTH)
    mask = live[:, None] & (channel < dim)[None, :]
    code = tl.load(codes + row, mask=live, other=0)
    rows = tl.load(x + row[:, None].to(tl.int64) * dim + channel[None, :], mask=mask, other=0.0)
    chosen = tl.load(raw + code[:, None] * dim + channel[None, :], mask=mask, other=0.0)
    lengths = tl.load(norms + code, mask=live, other=1.0)
    scores = deciding_scores(rows, chosen, lengths, METRIC, ROWS, WIDTH, HALVINGS)
    tl.store(scores_out + row, scores, mask=live)
