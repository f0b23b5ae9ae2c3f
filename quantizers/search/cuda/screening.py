# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
# Triton reads the types of a kernel's arguments from its launch.
"""Find the two lowest scores of each row, in the arithmetic of matrix units.

A score is `offset − x·c`, so that the lowest is the nearest code: half the squared distance without
the row's own half for "l2". A program keeps a tile of rows, goes over its share of the codes, and
holds one tile of scores at a time. `judging.py` bounds the error of the scores.
"""

import triton
import triton.language as tl


@triton.jit
def round_tf32(values):
    """Round to the nearest number with 11 significant bits, halves away from zero."""
    bits = values.to(tl.int32, bitcast=True)
    return ((bits + 0x1000) & -8192).to(tl.float32, bitcast=True)


@triton.jit
def pack_rows(values, column, DIM: tl.constexpr):
    """Pack rows as columns high, high, low, 1, 1, 1: the factor for `ScreeningCodes.packed`.

    `values` (rows, columns) has channel `column % DIM` in each of the first three parts.
    """
    high = round_tf32(values)
    low = round_tf32(values - high)
    part = column // DIM
    packed = tl.where(part[None, :] < 2, high, low)
    ones = tl.where(column < 3 * DIM + 3, 1.0, 0.0)
    return tl.where(part[None, :] < 3, packed, ones[None, :])


@triton.jit
def start_lanes(ROWS: tl.constexpr, CODES: tl.constexpr):
    """Initialize lowest score, second lowest, and the lowest one's first code, for each lane."""
    smallest = tl.full((ROWS, CODES), float("inf"), tl.float32)
    second = tl.full((ROWS, CODES), float("inf"), tl.float32)
    start = tl.zeros((ROWS, CODES), tl.int32)
    return smallest, second, start


@triton.jit
def track_lanes(scores, first, smallest, second, start):
    """Update the lanes with a tile of scores whose codes start at `first`.

    Per lane: five operations per score, and no exchange between threads until the end.
    """
    second = tl.minimum(second, tl.maximum(smallest, scores))
    start = tl.where(scores < smallest, first, start)
    return tl.minimum(smallest, scores), second, start


@triton.jit
def join_lanes(smallest, second, start, CODES: tl.constexpr):
    """Reduce lanes to each row's lowest score, its code and its second lowest score."""
    lane = tl.arange(0, CODES)[None, :]
    best = tl.min(smallest, axis=1)
    winner = tl.min(tl.where(smallest == best[:, None], lane, CODES - 1), axis=1)
    won = lane == winner[:, None]
    code = tl.sum(tl.where(won, start, 0), axis=1) + winner
    others = tl.minimum(second, tl.where(won, float("inf"), smallest))
    return best, code, tl.min(others, axis=1)


@triton.jit
def screen_narrow(
    x,
    packed,
    best_out,
    second_out,
    code_out,
    num_rows,
    share,
    num_codes,
    DIM: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    CODES: tl.constexpr,
):
    """Screen few channels: rows are packed once, with one product of WIDTH columns per code tile.

    Grid (tiles of rows, splits); split s has codes s × share to (s + 1) × share, and writes to
    [s, row] of the outputs (splits, num_rows).
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    split = tl.program_id(1)
    column = tl.arange(0, WIDTH)
    live = row < num_rows
    values = tl.load(
        x + row[:, None].to(tl.int64) * DIM + (column % DIM)[None, :],
        mask=live[:, None] & (column < 3 * DIM)[None, :],
        other=0.0,
    )
    rows = pack_rows(values, column, DIM)
    smallest, second, start = start_lanes(ROWS, CODES)
    end = tl.minimum((split + 1) * share, num_codes)
    for first in range(split * share, end, CODES):
        code = first + tl.arange(0, CODES)
        codes = tl.load(packed + code[None, :] * WIDTH + column[:, None])
        scores = tl.dot(rows, codes, input_precision="tf32")
        smallest, second, start = track_lanes(scores, first, smallest, second, start)
    best, code, next_best = join_lanes(smallest, second, start, CODES)
    place = split.to(tl.int64) * num_rows + row
    tl.store(best_out + place, best, mask=live)
    tl.store(second_out + place, next_best, mask=live)
    tl.store(code_out + place, code, mask=live)


@triton.jit
def screen_wide(
    x,
    listed,
    count,
    high,
    low,
    offsets,
    best_out,
    second_out,
    code_out,
    num_rows,
    share,
    num_codes,
    dim,
    stride,
    PARTS: tl.constexpr,
    LISTED: tl.constexpr,
    ROWS: tl.constexpr,
    CODES: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Screen many channels, CHANNELS at a time.

    PARTS is 1 for products of the high parts only, a third of the work with a wider bound, or 2 for
    all three products. With LISTED, the rows are the first `count` ones in `listed`, and results
    are stored by place in the list. Codes and splits are as in `screen_narrow`.

    Partial products are subtracted from the scores rather than accumulated in the matrix unit, so
    that rounding grows with CHANNELS and not with `dim`.
    """
    place = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    split = tl.program_id(1)
    if LISTED:
        total = tl.load(count)
        if tl.program_id(0) * ROWS >= total:
            return
        live = place < total
        row = tl.load(listed + place, mask=live, other=0)
    else:
        live = place < num_rows
        row = place
    channel = tl.arange(0, CHANNELS)
    row_start = x + row[:, None].to(tl.int64) * dim
    best = tl.full((ROWS,), float("inf"), tl.float32)
    second = tl.full((ROWS,), float("inf"), tl.float32)
    code = tl.zeros((ROWS,), tl.int32)
    lane = tl.arange(0, CODES)
    end = tl.minimum((split + 1) * share, num_codes)
    for first in range(split * share, end, CODES):
        scores = tl.zeros((ROWS, CODES), tl.float32) + tl.load(offsets + first + lane)[None, :]
        code_start = (first + lane)[None, :].to(tl.int64) * stride
        for begin in range(0, stride, CHANNELS):
            here = begin + channel
            values = tl.load(
                row_start + here[None, :],
                mask=live[:, None] & (here < dim)[None, :],
                other=0.0,
            )
            rows_high = round_tf32(values)
            codes_high = tl.load(high + code_start + here[:, None])
            products = tl.zeros((ROWS, CODES), tl.float32)
            if PARTS == 2:
                # Small products first: matrix units truncate addends to fit the largest.
                codes_low = tl.load(low + code_start + here[:, None])
                rows_low = round_tf32(values - rows_high)
                products = tl.dot(rows_low, codes_high, products, input_precision="tf32")
                products = tl.dot(rows_high, codes_low, products, input_precision="tf32")
            products = tl.dot(rows_high, codes_high, products, input_precision="tf32")
            scores -= products
        smallest, winner = tl.min(scores, axis=1, return_indices=True)
        others = tl.min(tl.where(lane[None, :] == winner[:, None], float("inf"), scores), axis=1)
        second = tl.minimum(tl.minimum(second, others), tl.maximum(best, smallest))
        code = tl.where(smallest < best, first + winner, code)
        best = tl.minimum(best, smallest)
    out = split.to(tl.int64) * num_rows + place
    tl.store(best_out + out, best, mask=live)
    tl.store(second_out + out, second, mask=live)
    tl.store(code_out + out, code, mask=live)
