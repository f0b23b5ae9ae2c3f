# mypy: allow-untyped-calls
# numba reads the types of a kernel's arguments from its calls.
"""The compiled loops of `entropy`: one pass over the codes, bit by bit.

The states of a tree's nodes are stored in blocks, one for up to four levels below a node, so that a
code of 16 bits needs four look-ups instead of sixteen. A hash table by context and node finds a
block; table and blocks are doubled when full, so that a short chunk stays in the L1 cache.
"""

import numpy as np

from ...kernels.cache import kernel

BY_CODEBOOK, BY_PREVIOUS, BY_NEIGHBOURS = 0, 1, 2

TOP = 1 << 24
MASK = (1 << 32) - 1
NEW = 1 << 21  # a node's state: its probability of a 0, of 65536, and below it 6 bits of age
LEAST = 1024  # of 65536: the least distance of a probability from 0 and 1
OLDEST = 60
RATES = np.array([65536 // (age + 2) for age in range(OLDEST + 1)])

_LEVELS = 4  # levels of a tree per block
_FIRST_BLOCKS = 256


@kernel
def _context(model, codebook, before, below):  # type: ignore[no-untyped-def]
    """Return the number of a code's context; codes have less than 32 bits."""
    if model == BY_CODEBOOK:
        return codebook
    if model == BY_PREVIOUS:
        return codebook << 32 | before
    return before << 32 | below


@kernel
def _slot(table, context, node):  # type: ignore[no-untyped-def]
    """Return the row of table (slots, 3) with (context, node, block + 1), or the free one."""
    mixed = context * 0x2545F4914F6CDD1D + node * 0x1B873593CC9E2D51
    mixed ^= mixed >> 29
    last = table.shape[0] - 1
    slot = (mixed * 0x369DEA0F31A53F85 >> 20) & last
    while table[slot, 2] != 0 and (table[slot, 0] != context or table[slot, 1] != node):
        slot = (slot + 1) & last
    return slot


@kernel
def _new_blocks(count):  # type: ignore[no-untyped-def]
    blocks = np.empty((count, 1 << _LEVELS), np.int32)
    for block in range(count):
        for node in range(1 << _LEVELS):
            blocks[block, node] = NEW
    return blocks


@kernel
def _doubled(table, blocks):  # type: ignore[no-untyped-def]
    """Return copies of the table and blocks (count, 16) with twice the capacity."""
    more = np.zeros((2 * table.shape[0], 3), np.int64)
    for old in range(table.shape[0]):
        if table[old, 2] != 0:
            slot = _slot(more, table[old, 0], table[old, 1])
            for part in range(3):
                more[slot, part] = table[old, part]
    states = _new_blocks(2 * blocks.shape[0])
    for block in range(blocks.shape[0]):
        for node in range(blocks.shape[1]):
            states[block, node] = blocks[block, node]
    return more, states


@kernel
def _after_zero(state):  # type: ignore[no-untyped-def]
    probability, age = state >> 6, state & 63
    probability += (65536 - probability) * RATES[age] >> 16
    return min(probability, 65536 - LEAST) << 6 | min(age + 1, OLDEST)


@kernel
def _after_one(state):  # type: ignore[no-untyped-def]
    probability, age = state >> 6, state & 63
    probability -= probability * RATES[age] >> 16
    return max(probability, LEAST) << 6 | min(age + 1, OLDEST)


@kernel
def _shift_low(out, at, low, cache, pending):  # type: ignore[no-untyped-def]
    """Output the top byte of `low` once no carry can change it any more."""
    if low < 0xFF000000 or low > MASK:
        carry = low >> 32
        out[at] = (cache + carry) & 0xFF
        at += 1
        for _ in range(pending):
            out[at] = (0xFF + carry) & 0xFF
            at += 1
        pending, cache = 0, (low >> 24) & 0xFF
    else:
        pending += 1
    return at, (low << 8) & MASK, cache, pending


# Inlined: as a call, which counts references to both arrays, it halves the speed of decoding.
@kernel(inline="always")
def _block_of(table, blocks, used, context, node):  # type: ignore[no-untyped-def]
    """Find the block of a context's node, or add one; return it, and what may have grown."""
    slot = _slot(table, context, node)
    if table[slot, 2] == 0:
        if used == blocks.shape[0]:
            table, blocks = _doubled(table, blocks)
            slot = _slot(table, context, node)
        used += 1
        table[slot, 0], table[slot, 1], table[slot, 2] = context, node, used
    return table[slot, 2] - 1, used, table, blocks


@kernel
def encode(codes, widths, model, out):  # type: ignore[no-untyped-def]
    """Encode codes (positions, codebooks) int64 into out, uint8; return the number of bytes.

    The first byte is the empty cache. `out` needs one byte per bit, and six more.
    """
    table = np.zeros((2 * _FIRST_BLOCKS, 3), np.int64)
    blocks = _new_blocks(_FIRST_BLOCKS)
    used = 0
    before = np.zeros(widths.size, np.int64)
    at, low, span, cache, pending = 0, 0, MASK, 0, 0
    for position in range(codes.shape[0]):
        below = 0
        for codebook in range(widths.size):
            code = codes[position, codebook]
            context = _context(model, codebook, before[codebook], below)
            left = widths[codebook]
            while left > 0:
                node = (1 << (widths[codebook] - left)) | (code >> left)
                block, used, table, blocks = _block_of(table, blocks, used, context, node)
                inner = 1
                for _ in range(min(left, _LEVELS)):
                    left -= 1
                    state = int(blocks[block, inner])
                    bound = (span >> 16) * (state >> 6)
                    if code >> left & 1:
                        low += bound
                        span -= bound
                        blocks[block, inner] = _after_one(state)
                        inner = inner << 1 | 1
                    else:
                        span = bound
                        blocks[block, inner] = _after_zero(state)
                        inner <<= 1
                    while span < TOP:
                        span = span << 8 & MASK
                        at, low, cache, pending = _shift_low(out, at, low, cache, pending)
            before[codebook] = below = code
    for _ in range(5):
        at, low, cache, pending = _shift_low(out, at, low, cache, pending)
    return at


@kernel
def decode(data, widths, model, codes):  # type: ignore[no-untyped-def]
    """Decode data uint8, followed by zeros, to codes (positions, codebooks) int64 (output)."""
    table = np.zeros((2 * _FIRST_BLOCKS, 3), np.int64)
    blocks = _new_blocks(_FIRST_BLOCKS)
    used = 0
    before = np.zeros(widths.size, np.int64)
    value, span = 0, MASK
    for at in range(4):
        value = value << 8 | (int(data[at]) if at < data.size else 0)
    at = 4
    for position in range(codes.shape[0]):
        below = 0
        for codebook in range(widths.size):
            context = _context(model, codebook, before[codebook], below)
            left, code = widths[codebook], 0
            while left > 0:
                node = (1 << (widths[codebook] - left)) | code
                block, used, table, blocks = _block_of(table, blocks, used, context, node)
                inner = 1
                for _ in range(min(left, _LEVELS)):
                    left -= 1
                    state = int(blocks[block, inner])
                    bound = (span >> 16) * (state >> 6)
                    if value < bound:
                        span = bound
                        blocks[block, inner] = _after_zero(state)
                        bit = 0
                    else:
                        value -= bound
                        span -= bound
                        blocks[block, inner] = _after_one(state)
                        bit = 1
                    inner = inner << 1 | bit
                    code = code << 1 | bit
                    while span < TOP:
                        span = span << 8 & MASK
                        value = (value << 8 | (int(data[at]) if at < data.size else 0)) & MASK
                        at += 1
            codes[position, codebook] = code
            before[codebook] = below = code
