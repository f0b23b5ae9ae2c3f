# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators
# Triton reads the types of a kernel's arguments from its launch.
"""Decide which rows the screening has settled, by an error bound on its scores; list the others.

Let s_k be the screening score of code k for row x and t_k = offset_k − x·c_k its true value. If
|s_k − t_k| <= B for all k, then a row whose two lowest s differ by more than 2 B has its lowest t
at the same code as its lowest s. With C the length of the longest code, D channels, and Cauchy and
Schwarz for every sum of products, B is the sum of

- **rounding of sums.** n products and an offset are added in one matrix unit, in any order. Matrix
  units align the addends with the largest and truncate them: published measurements (Fasi et al.,
  "Numerical behavior of NVIDIA tensor cores", 2021) find at least 24 bits kept. If an addition
  loses at most 2^-22 of the sum of magnitudes, four times a float32 rounding, this gives n 2^-22
  (|x| + C) C, which includes the offset's C C / 2. This is the only premise that is measured rather
  than specified by the vendor; `benchmarks/gpu.sh` checks it on the GPU at hand.
- **rounding of operands.** With both parts of numbers, 2^-22 each for the rest of x, the rest of c,
  and the omitted product of low parts; the offset's float32 2^-24; a unit code's 2^-24: together
  below 2^-20 (|x| + C) C. With high parts only it is measured instead: |x − x_high| C +
  |x_high| max |c − c_high|.
- **rounding of the exact score.** That score is float64 in a fixed order, of squared distances
  (|x| + C)^2 for "l2" and of products |x| C for the others: below 2^-47 of these.
- **underflow.** Numbers below 2^-126 may count as zero: 2^-122 D (|x| + C + 1), generously.

If |x|, C or their products reach 2^120, numbers may overflow, and B is infinite: such rows are
never taken as settled. A NaN among the scores needs such numbers. Lengths and B are float64.
"""

import triton
import triton.language as tl
from torch import Tensor

from .preparation import ScreeningCodes
from .screening import round_tf32

# Columns of the table of constants: see `constants`.
LONGEST: tl.constexpr = tl.constexpr(0)
DROPPED: tl.constexpr = tl.constexpr(1)
SCREENING: tl.constexpr = tl.constexpr(2)
SETTLING: tl.constexpr = tl.constexpr(3)
CONSTANTS: tl.constexpr = tl.constexpr(4)


def constants(codes: ScreeningCodes, addends: int, parts: int) -> list[float]:
    """Return a codebook's constants for `margin`.

    Args:
        codes: the codebook.
        addends: number of successive additions in a screening score.
        parts: number of TF32 parts used of a number.

    Returns:
        Length of the longest code; length of the longest omitted part of a code; relative error of
        screening scores; relative error of the float32 scores in `settling.py`.
    """
    dim = codes.raw.shape[1]
    screening = addends * 2.0**-22 + 2.0**-20
    settling = (dim + 8) * 2.0**-22
    return [codes.longest, codes.dropped if parts == 1 else 0.0, screening, settling]


@triton.jit
def margin(length, left_out, longest, code_left_out, relative, dim, L2: tl.constexpr):
    """Compute the bound B of the module's docstring in float64, from float64 lengths."""
    reach = length + longest if L2 else length
    size = reach * longest
    decided = reach * reach if L2 else size
    bound = relative * size + decided * 7.2e-15
    bound += left_out * longest + (length + left_out) * code_left_out
    bound += (length + longest + 1.0) * dim * 1.9e-37
    largest = tl.maximum(tl.maximum(length, longest), size)
    return tl.where(largest < 1.3e36, bound, float("inf"))


@triton.jit
def append(listed, count, values, chosen):
    """Append `values` where `chosen` to a list, with one atomic addition per tile."""
    ones = chosen.to(tl.int32)
    before = tl.cumsum(ones, 0) - ones
    base = tl.atomic_add(count, tl.sum(ones, 0))
    tl.store(listed + base + before, values, mask=chosen)


@triton.jit
def judge(
    x,
    listed_in,
    count_in,
    best_in,
    second_in,
    code_in,
    table,
    codes_out,
    listed_out,
    count_out,
    num_rows,
    num_codes,
    splits,
    dim,
    PARTS: tl.constexpr,
    LISTED: tl.constexpr,
    L2: tl.constexpr,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Combine the splits of a screening, write codes, and list the undecided rows."""
    place = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    if LISTED:
        total = tl.load(count_in)
        if tl.program_id(0) * ROWS >= total:
            return
        live = place < total
        row = tl.load(listed_in + place, mask=live, other=0)
    else:
        live = place < num_rows
        row = place
    squares = tl.zeros((ROWS,), tl.float64)
    left_out = tl.zeros((ROWS,), tl.float64)
    channel = tl.arange(0, CHANNELS)
    for begin in range(0, dim, CHANNELS):
        here = begin + channel
        values = tl.load(
            x + row[:, None].to(tl.int64) * dim + here[None, :],
            mask=live[:, None] & (here < dim)[None, :],
            other=0.0,
        )
        wide = values.to(tl.float64)
        squares += tl.sum(wide * wide, axis=1)
        if PARTS == 1:
            rest = wide - round_tf32(values).to(tl.float64)
            left_out += tl.sum(rest * rest, axis=1)

    best = tl.full((ROWS,), float("inf"), tl.float32)
    second = tl.full((ROWS,), float("inf"), tl.float32)
    code = tl.zeros((ROWS,), tl.int32)
    for split in range(splits):
        here = tl.full((), split, tl.int64) * num_rows + place
        other = tl.load(best_in + here, mask=live, other=0.0)
        other_second = tl.load(second_in + here, mask=live, other=0.0)
        other_code = tl.load(code_in + here, mask=live, other=0)
        second = tl.minimum(tl.minimum(second, other_second), tl.maximum(best, other))
        code = tl.where(other < best, other_code, code)
        best = tl.minimum(best, other)

    bound = margin(
        tl.sqrt(squares),
        tl.sqrt(left_out),
        tl.load(table + LONGEST),
        tl.load(table + DROPPED),
        tl.load(table + SCREENING),
        dim,
        L2,
    )
    decided = (second.to(tl.float64) - best.to(tl.float64)) > 2 * bound
    # Padding can win where scores overflowed; such rows are never taken as settled.
    code = tl.minimum(code, num_codes - 1)
    tl.store(codes_out + row, code.to(tl.int64), mask=live)
    append(listed_out, count_out, row, live & (decided == 0))


def table_of(rows: list[list[float]], like: Tensor) -> Tensor:
    """Return the constants of several codebooks (S, 4), float64 (not possible as arguments)."""
    return like.new_tensor(rows, dtype=like.double().dtype)
