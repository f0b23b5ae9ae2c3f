"""Compiled segmentation: merges in rank order, and the most probable path.

The encoders of both libraries process text, allocate memory for every symbol and return lists:
sentencepiece encodes 0.9 (BPE) and 1.6 (unigram) million units per second on the computer on which
this was developed. These kernels process integers. Their results are the same; `segmentation.py`
explains why.

Tables are open-addressing hash tables (capacity,) int64, -1 where empty, with a pair and its value
in one number, so that a look-up reads one cache line; the capacity is a power of two and at least
twice the number of entries. `shift` is 64 - log2(capacity).
"""

import numpy as np

from ..kernels.cache import kernel

#: Bits of a unit; of a piece or a node of the trie; of a value.
_UNIT_BITS, NODE_BITS, _VALUE_BITS = 18, 22, 23
_VALUES = (1 << _VALUE_BITS) - 1

#: Special values of the merge table, larger than all pieces, so that the minimum over a list of
#: pairs is the merge that comes first.
INSIDE = 1 << NODE_BITS  # two units that no merge joins, but that are adjacent inside some piece
ABSENT = INSIDE + 1  # not in the table: the two are adjacent inside no piece

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
#: Length up to which searching all pairs for each merge is faster than a heap.
_SHORT = 48


@kernel
def find(table, shift, left, right):  # type: ignore[no-untyped-def]
    """Return the value of the pair, or `ABSENT`."""
    key = (np.int64(left) << _UNIT_BITS) | np.int64(right)
    slot = np.int64((np.uint64(key) * _GOLDEN) >> np.uint64(shift))
    mask = table.shape[0] - 1
    while True:
        entry = table[slot]
        if entry >> _VALUE_BITS == key:
            return np.int32(entry & _VALUES)
        if entry == -1:
            return np.int32(ABSENT)
        slot = (slot + 1) & mask


@kernel
def put(table, shift, left, right, value):  # type: ignore[no-untyped-def]
    """Set the value of the pair."""
    key = (np.int64(left) << _UNIT_BITS) | np.int64(right)
    slot = np.int64((np.uint64(key) * _GOLDEN) >> np.uint64(shift))
    mask = table.shape[0] - 1
    while table[slot] != -1 and table[slot] >> _VALUE_BITS != key:
        slot = (slot + 1) & mask
    table[slot] = (key << _VALUE_BITS) | np.int64(value)


@kernel
def put_neighbours(table, shift, units, starts):  # type: ignore[no-untyped-def]
    """Enter every pair of units that are adjacent inside a piece, as `INSIDE`."""
    for piece in range(starts.shape[0] - 1):
        for at in range(starts[piece], starts[piece + 1] - 1):
            put(table, shift, units[at], units[at + 1], INSIDE)


@kernel
def merge_all(units, offsets, table, shift, out, counts):  # type: ignore[no-untyped-def]
    """Segment each sequence units[offsets[s] : offsets[s + 1]] by merges.

    Args:
        units: (total,) int32.
        offsets: (sequences + 1,) int64.
        table, shift: the merge table.
        out: (total,) int32, output; the concatenated pieces of all sequences.
        counts: (sequences,) int64, output; number of pieces of each.

    Returns:
        Total number of pieces.
    """
    symbols = np.empty(_SHORT, np.int32)
    pairs = np.empty(_SHORT, np.int32)
    done = 0
    for sequence in range(offsets.shape[0] - 1):
        at, end = offsets[sequence], offsets[sequence + 1]
        before = done
        while at < end:
            # A run of units whose neighbours all occur inside pieces; nothing is merged across its
            # ends, so it can be segmented on its own.
            symbols[0] = units[at]
            size = 1
            while at + size < end:
                value = find(table, shift, units[at + size - 1], units[at + size])
                if value == ABSENT:
                    break
                if size == _SHORT:
                    size += 1
                    break
                symbols[size] = units[at + size]
                pairs[size - 1] = value
                size += 1
            if size > _SHORT:
                while (
                    at + size < end
                    and find(table, shift, units[at + size - 1], units[at + size]) != ABSENT
                ):
                    size += 1
                done = _merge_long(units[at : at + size], table, shift, out, done)
            else:
                done = _merge_short(symbols, pairs, size, table, shift, out, done)
            at += size
        counts[sequence] = done - before
    return done


@kernel
def _merge_short(symbols, pairs, size, table, shift, out, done):  # type: ignore[no-untyped-def]
    while True:
        best, where = np.int32(INSIDE), -1
        for pair in range(size - 1):
            if pairs[pair] < best:
                best, where = pairs[pair], pair
        if where < 0:
            break
        symbols[where] = best
        for later in range(where + 1, size - 1):
            symbols[later] = symbols[later + 1]
            pairs[later - 1] = pairs[later]
        size -= 1
        if where > 0:
            pairs[where - 1] = find(table, shift, symbols[where - 1], best)
        if where < size - 1:
            pairs[where] = find(table, shift, best, symbols[where + 1])
    for at in range(size):
        out[done + at] = symbols[at]
    return done + size


@kernel
def _push(heap, size, entry):  # type: ignore[no-untyped-def]
    at = size
    while at > 0:
        parent = (at - 1) >> 1
        if heap[parent] <= entry:
            break
        heap[at] = heap[parent]
        at = parent
    heap[at] = entry
    return size + 1


@kernel
def _pop(heap, size):  # type: ignore[no-untyped-def]
    """Remove the smallest entry, heap[0]; return the remaining size."""
    size -= 1
    entry = heap[size]
    at = 0
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= entry:
            break
        heap[at] = heap[child]
        at = child
    heap[at] = entry
    return size


@kernel
def _merge_long(units, table, shift, out, done):  # type: ignore[no-untyped-def]
    """Merge with a heap of (merge, position), in O(n log n)."""
    count = units.shape[0]
    symbols = units.copy()
    pairs = np.full(count, INSIDE, np.int32)  # of the symbol that starts here and the next one
    following = np.arange(1, count + 1)
    before = np.arange(-1, count - 1)
    # Each merge removes a symbol and creates two pairs: at most 3 n entries.
    heap = np.empty(3 * count, np.int64)
    size = 0
    for at in range(count - 1):
        pairs[at] = find(table, shift, symbols[at], symbols[at + 1])
        if pairs[at] < INSIDE:
            size = _push(heap, size, (np.int64(pairs[at]) << 32) | at)
    while size > 0:
        merged, at = np.int32(heap[0] >> 32), heap[0] & 0xFFFFFFFF
        size = _pop(heap, size)
        if pairs[at] != merged:
            continue  # one of the two symbols no longer exists
        gone = following[at]
        after = following[gone]
        symbols[at] = merged
        symbols[gone] = -1
        pairs[gone] = INSIDE
        pairs[at] = INSIDE
        following[at] = after
        if after < count:
            before[after] = at
            pairs[at] = find(table, shift, merged, symbols[after])
            if pairs[at] < INSIDE:
                size = _push(heap, size, (np.int64(pairs[at]) << 32) | at)
        left = before[at]
        if left >= 0:
            pairs[left] = find(table, shift, symbols[left], merged)
            if pairs[left] < INSIDE:
                size = _push(heap, size, (np.int64(pairs[left]) << 32) | left)
    at = 0
    while at < count:
        out[done] = symbols[at]
        done += 1
        at = following[at]
    return done


@kernel
def last_cut(units, table, shift):  # type: ignore[no-untyped-def]
    """Return the last position between two units that are adjacent inside no piece, or 0."""
    for at in range(units.shape[0] - 1, 0, -1):
        if find(table, shift, units[at - 1], units[at]) == ABSENT:
            return at
    return 0


@kernel
def grow_trie(table, shift, units, starts, num_units, pieces, leaves):  # type: ignore[no-untyped-def]
    """Enter all pieces: node u is the unit u; the table maps (node, unit) to the next node.

    Args:
        pieces: (nodes,) int32, output: the piece of each node, or -1.
        leaves: (nodes,) bool, output: whether no longer piece starts with the node's units.

    Returns:
        Number of nodes.
    """
    nodes = num_units
    for piece in range(starts.shape[0] - 1):
        node = units[starts[piece]]
        for at in range(starts[piece] + 1, starts[piece + 1]):
            following = find(table, shift, node, units[at])
            if following == ABSENT:
                following = np.int32(nodes)
                nodes += 1
                put(table, shift, node, units[at], following)
                leaves[node] = False
            node = np.int64(following)
        pieces[node] = piece
    return nodes


@kernel
def best_paths(  # type: ignore[no-untyped-def]
    units, offsets, table, shift, pieces, leaves, scores, lengths, longest, out, counts
):
    """Segment each sequence into the pieces of the highest total score (Viterbi).

    Of equal paths to a position, the one with the longest last piece is used. Arguments as for
    `merge_all`, then the trie's, `scores` and `lengths` (pieces,) int64 and the length of the
    longest sequence.
    """
    total = np.empty(longest + 1, np.int64)
    last = np.empty(longest + 1, np.int32)
    lowest = np.int64(-(1 << 62))
    done = 0
    for sequence in range(offsets.shape[0] - 1):
        start, end = offsets[sequence], offsets[sequence + 1]
        count = end - start
        total[0] = 0
        for at in range(1, count + 1):
            total[at] = lowest
        for at in range(count):
            here = total[at]
            node = np.int64(units[start + at])
            stop = at + 1
            while True:
                piece = pieces[node]
                if piece >= 0 and here + scores[piece] > total[stop]:
                    total[stop] = here + scores[piece]
                    last[stop] = piece
                if stop == count or leaves[node]:
                    break
                following = find(table, shift, node, units[start + stop])
                if following == ABSENT:
                    break
                node = np.int64(following)
                stop += 1
        # Found from the end: written to the end of this sequence's part of `out`, which no earlier
        # result reaches, and then moved to the front.
        at, back = count, end
        while at > 0:
            back -= 1
            out[back] = last[at]
            at -= lengths[last[at]]
        for found in range(back, end):
            out[done] = out[found]
            done += 1
        counts[sequence] = end - back
    return done
