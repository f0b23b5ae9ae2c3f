# mypy: allow-untyped-calls
# numba reads the types of a kernel's arguments from its calls.
"""Compiled steps before and after the matrix product of `products.py`."""

import numpy as np
from numba import types
from numba.extending import intrinsic

from ...kernels import vector_ir as v
from ...kernels.cache import kernel
from .exact_kernels import UNDECIDED, settle

# Number of codes for which only the lowest bound is stored.
BLOCK = 128
_MOST = 256  # limit of candidates; rows with more are left undecided
# Beyond this, screening could overflow.
_HUGE = np.float32(1e30)
# Error of a float64 score, relative to (|x| + |c|)²: folding rounds log2(D) + 3 times.
_DECIDING = np.float32(2.0**-47)


def _lower_bounds(builder, half, products, offsets, slack, vectors):  # type: ignore[no-untyped-def]
    """Compute offset - product - slack * |product| for 16 codes per vector, from addresses."""
    slacks = v.spread(builder, builder.fneg(slack))
    bounds = []
    for i in range(vectors):
        if half:
            shorts = v.load(builder, v.at(builder, products, 32 * i), v.SHORTS)
            product = v.widen_bfloat16(builder, shorts)
        else:
            product = v.load(builder, v.at(builder, products, 64 * i))
        bound = builder.fsub(v.load(builder, v.at(builder, offsets, 64 * i)), product)
        bounds.append(v.multiply_add(builder, v.magnitude(builder, product), slacks, bound))
    return bounds


def _screens(half):  # type: ignore[no-untyped-def]
    """Create intrinsics: the lowest bound of BLOCK codes; a mask of 64 codes' bounds within a
    limit.
    """

    @intrinsic
    def least(context, products, offsets, slack):  # type: ignore[no-untyped-def]
        def code(_, builder, signature, values):  # type: ignore[no-untyped-def]
            products, offsets, slack = values
            count = BLOCK // v.LANES
            return v.smallest(
                builder, _lower_bounds(builder, half, products, offsets, slack, count)
            )

        return types.float32(types.int64, types.int64, types.float32), code

    @intrinsic
    def within(context, products, offsets, slack, limit):  # type: ignore[no-untyped-def]
        def code(_, builder, signature, values):  # type: ignore[no-untyped-def]
            products, offsets, slack, limit = values
            limits = v.spread(builder, limit)
            bounds = _lower_bounds(builder, half, products, offsets, slack, 4)
            return v.mask_of(builder, [builder.fcmp_ordered("<=", x, limits) for x in bounds])

        return types.int64(types.int64, types.int64, types.float32, types.float32), code

    return least, within


_least_bfloat16, _within_bfloat16 = _screens(half=True)
_least_float32, _within_float32 = _screens(half=False)


@kernel(fastmath={"reassoc", "contract", "nsz"})
def prepare_bfloat16(rows, center, narrow, sizes):  # type: ignore[no-untyped-def]
    """Centre rows and round them to bfloat16; store their lengths and the errors' lengths.

    Args:
        rows: (n, D) float32.
        center: (D,) float32.
        narrow: (n, D') uint16, bfloat16's bits, output; D' >= D, the rest is unchanged.
        sizes: (n, 2) float32: lengths, output.
    """
    for r in range(rows.shape[0]):
        length = np.float32(0)
        error = np.float32(0)
        for d in range(rows.shape[1]):
            value = np.float32(rows[r, d] - center[d])
            bits = np.float32(value).view(np.uint32)
            odd = np.uint32((bits >> np.uint32(16)) & np.uint32(1))
            top = np.uint32(np.uint32(bits + np.uint32(0x7FFF) + odd) >> np.uint32(16))
            narrow[r, d] = np.uint16(top)
            rounded = np.uint32(top << np.uint32(16)).view(np.float32)
            length += value * value
            error += (value - rounded) * (value - rounded)
        sizes[r, 0] = np.sqrt(length)
        sizes[r, 1] = np.sqrt(error)


@kernel(fastmath={"reassoc", "contract", "nsz"})
def prepare_float32(rows, center, moved, sizes):  # type: ignore[no-untyped-def]
    """Centre rows (n, D'); store their lengths and the bounds of a product's rounding of them."""
    for r in range(rows.shape[0]):
        length = np.float32(0)
        for d in range(rows.shape[1]):
            value = rows[r, d] - center[d]
            moved[r, d] = value
            length += value * value
        sizes[r, 0] = np.sqrt(length)
        sizes[r, 1] = np.sqrt(length) * np.float32(2.0**-8)


@kernel
def _product(products, row, code, half):  # type: ignore[no-untyped-def]
    if half:
        bits = np.uint32(np.uint32(products[row, code]) << np.uint32(16))
        return np.float32(bits.view(np.float32))
    return np.float32(products[row, code])


@kernel
def _first_within(products, offsets, block, half, slack, limit):  # type: ignore[no-untyped-def]
    """Return the first code of a block whose lower bound is within the limit."""
    for first in range(block * BLOCK, (block + 1) * BLOCK, 64):
        at = products.ctypes.data + first * products.itemsize
        offset = offsets.ctypes.data + first * 4
        if half:
            mask = _within_bfloat16(at, offset, slack, limit)
        else:
            mask = _within_float32(at, offset, slack, limit)
        if mask != 0:
            return first + v.lowest_bit(mask)
    return block * BLOCK


@kernel
def decide_tile(  # type: ignore[no-untyped-def]
    products, offsets, sizes, bounds, rows, codebook, norms, metric, least, work, codes, scores
):
    """Decide the codes of a tile of rows from the products of the screening.

    Args:
        products: (n, K') uint16 (bfloat16's bits) or float32, K' a multiple of BLOCK.
        offsets: (K',) float32; huge for the padding.
        sizes: (n, 2) float32 from `prepare_…`.
        bounds: (6,) float32, see `ProductSearch`: error per length of the row, error per length of
            its rounding, relative and absolute slack, relative slack of a product, longest code.
        rows, codebook: (n, D), (K, D) float32, as given.
        norms: (K,) float64.
        metric: of `exact_kernels`.
        least: (K' // BLOCK,) float32 and work: (D,) float64, scratch.
        codes: (n,) int64, output. scores: (n,) float64 or empty, output.

    Rows that screening can't decide, including rows with NaN, get UNDECIDED.
    """
    half = products.itemsize == 2
    padded = products.shape[1]
    blocks = padded // BLOCK
    slack = bounds[4]
    wanted = scores.shape[0] > 0
    candidates = np.empty(_MOST, np.int64)
    for r in range(rows.shape[0]):
        # The screening error of this row, for any code.
        error = sizes[r, 0] * bounds[0] + sizes[r, 1] * bounds[1] + bounds[3]
        # The exact score is rounded, too: it may miss a code that is short compared with the row.
        size = sizes[r, 0] + bounds[5]
        error += _DECIDING * size * size
        count = 0
        if error < _HUGE:
            start = products.ctypes.data + r * padded * products.itemsize
            smallest = np.float32(np.inf)
            home = 0
            for b in range(blocks):
                at = start + b * BLOCK * products.itemsize
                offset = offsets.ctypes.data + b * BLOCK * 4
                if half:
                    least[b] = _least_bfloat16(at, offset, slack)
                else:
                    least[b] = _least_float32(at, offset, slack)
                if least[b] < smallest:
                    smallest, home = least[b], b
            # A code can't win if its lower bound exceeds an upper bound of another code's score.
            # The upper bound of the code with the lowest bound: plus its product's slack, and twice
            # the error.
            code = _first_within(products[r], offsets, home, half, slack, smallest)
            size = slack * abs(_product(products, r, code, half))
            upper = smallest + 2 * size + 2 * error
            limit = upper + bounds[2] * (abs(upper) + size)
            for b in range(blocks):
                if least[b] <= limit:
                    for first in range(b * BLOCK, (b + 1) * BLOCK, 64):
                        at = start + first * products.itemsize
                        offset = offsets.ctypes.data + first * 4
                        if half:
                            mask = _within_bfloat16(at, offset, slack, limit)
                        else:
                            mask = _within_float32(at, offset, slack, limit)
                        while mask != 0 and count < _MOST:
                            candidates[count] = first + v.lowest_bit(mask)
                            mask &= mask - 1
                            count += 1
        if count == 0 or count == _MOST:
            codes[r] = UNDECIDED
        elif count == 1 and not wanted:
            codes[r] = candidates[0]
        else:
            code, score = settle(rows[r], codebook, norms, metric, candidates, count, work)
            codes[r] = code
            if wanted:
                scores[r] = score
