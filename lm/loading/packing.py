"""How documents are put into rows of a fixed number of steps: packed, concatenated, or by length.

A document is one utterance, laid out. Each function here takes the lengths of all documents in
their shuffled order and gives a `Plan`: which part of which document stands in which row.
"""

from dataclasses import dataclass

import numpy as np

from ...errors import DatasetError
from ...kernels.cache import kernel

#: Documents that are packed, or sorted, together: neighbours in the shuffled order.
BLOCK = 1 << 16


@dataclass(frozen=True, eq=False)
class Plan:
    """Rows of parts of documents.

    Attributes:
        items: (parts,) the document of each part.
        starts, stops: (parts,) its first step, and the one after its last.
        row_starts: (rows + 1,) number of each row's first part.
        unit_starts: (units + 1,) number of each unit's first row; a unit is what a position of the
            sequence of samples stands for: one row, or a batch of rows of similar length.
    """

    items: np.ndarray
    starts: np.ndarray
    stops: np.ndarray
    row_starts: np.ndarray
    unit_starts: np.ndarray | None = None

    def __len__(self) -> int:
        """Units."""
        return len(self.row_starts if self.unit_starts is None else self.unit_starts) - 1

    def rows(self, unit: int) -> range:
        """The rows of a unit."""
        if self.unit_starts is None:
            return range(unit, unit + 1)
        return range(int(self.unit_starts[unit]), int(self.unit_starts[unit + 1]))

    @property
    def num_rows(self) -> int:
        return len(self.row_starts) - 1

    @property
    def steps(self) -> int:
        """Of all parts; padding is not counted."""
        return int((self.stops.astype(np.int64) - self.starts).sum())


def best_fit(order: np.ndarray, lengths: np.ndarray, context: int) -> Plan:
    """Whole documents in as few rows as possible: best-fit packing (Ding et al., "Fewer truncations
    improve language modeling", ICML 2024).

    In each block of the order, the longest documents come first, each into the fullest row that it
    fits in. Only documents of more than `context` steps are cut.

    Args:
        order: (n,) int64, documents in shuffled order.
        lengths: (documents,) int64 steps of each.
        context: steps of a row.
    """
    items, starts, stops, rows, count = _best_fit(order, lengths, context, BLOCK)
    by_row = np.argsort(rows, kind="stable")
    row_starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=count))])
    return Plan(items[by_row], starts[by_row], stops[by_row], row_starts)


def concatenated(order: np.ndarray, lengths: np.ndarray, context: int) -> Plan:
    """All documents one after the other, cut every `context` steps; only the last row is padded."""
    return Plan(*_concatenated(order, lengths, context))


def by_length(
    order: np.ndarray,
    lengths: np.ndarray,
    context: int,
    rows: int | None,
    budget: int | None,
    multiple: int = 1,
) -> Plan:
    """A row for each document, in batches of documents of similar length, which are the units.

    Documents of more than `context` steps are cut into several rows.

    Args:
        rows: of a batch; or
        budget: steps of a batch, padding included.
        multiple: rows are padded to a multiple of this, at most to the context.

    Raises:
        DatasetError: neither is given, or the budget is less than one row.
    """
    if (rows is None) == (budget is None):
        raise DatasetError("batches by length need a number of rows, or of tokens")
    if budget is not None and budget < context:
        raise DatasetError(f"a batch of {budget} tokens has no room for a row of {context} steps")
    return Plan(
        *_by_length(
            order, lengths, context, rows or len(order) + 1, budget or 1 << 62, multiple, BLOCK
        )
    )


@kernel
def _pieces(order, lengths, context):  # type: ignore[no-untyped-def]
    count = 0
    for place in range(len(order)):
        count += (lengths[order[place]] + context - 1) // context
    return count


@kernel
def _longest_first(sizes, context):  # type: ignore[no-untyped-def]
    """Stable counting sort of sizes 1 … context, the longest first."""
    begins = np.zeros(context + 2, np.int64)
    for size in sizes:
        begins[context - size + 1] += 1
    for size in range(context + 1):
        begins[size + 1] += begins[size]
    found = np.empty(len(sizes), np.int64)
    for number in range(len(sizes)):
        size = context - sizes[number]
        found[begins[size]] = number
        begins[size] += 1
    return found


@kernel
def _best_fit(order, lengths, context, block):  # type: ignore[no-untyped-def]
    total = _pieces(order, lengths, context)
    items = np.empty(total, np.int64)
    starts = np.empty(total, np.int32)
    stops = np.empty(total, np.int32)
    rows = np.empty(total, np.int64)
    count, row = 0, 0
    # tree[leaves + room]: whether a row has so much room left; above, whether one of two has.
    leaves = 1
    while leaves < context + 1:
        leaves *= 2
    tree = np.zeros(2 * leaves, np.int64)
    head = np.empty(context + 1, np.int64)  # of the rows with so much room, as a linked list
    after = np.empty(block, np.int64)
    for first in range(0, len(order), block):
        last = min(first + block, len(order))
        documents = np.empty(last - first, np.int64)
        sizes = np.empty(last - first, np.int64)
        waiting = 0
        for place in range(first, last):
            item = order[place]
            length = lengths[item]
            whole = length // context
            for piece in range(whole):
                items[count], rows[count] = item, row
                starts[count], stops[count] = piece * context, (piece + 1) * context
                count += 1
                row += 1
            if length > whole * context:
                documents[waiting] = item
                sizes[waiting] = length - whole * context
                waiting += 1
        base = row
        tree[:] = 0
        head[:] = -1
        for number in _longest_first(sizes[:waiting], context):
            item, size = documents[number], sizes[number]
            node = leaves + size
            if tree[node] == 0:
                while node > 1 and (node % 2 == 1 or tree[node + 1] == 0):
                    node //= 2
                if node > 1:
                    node += 1
                    while node < leaves:
                        node *= 2
                        if tree[node] == 0:
                            node += 1
            if node > 1:
                room = node - leaves
                found = head[room]
                head[room] = after[found - base]
                while node > 0:
                    tree[node] -= 1
                    node //= 2
            else:
                room, found = context, row
                row += 1
            items[count], rows[count] = item, found
            stops[count] = lengths[item]
            starts[count] = lengths[item] - size
            count += 1
            room -= size
            if room > 0:
                after[found - base] = head[room]
                head[room] = found
                node = leaves + room
                while node > 0:
                    tree[node] += 1
                    node //= 2
    return items, starts, stops, rows, row


@kernel
def _concatenated(order, lengths, context):  # type: ignore[no-untyped-def]
    total, steps = 0, 0
    for place in range(len(order)):
        length = lengths[order[place]]
        if length > 0:
            total += (steps + length - 1) // context - steps // context + 1
        steps += length
    items = np.empty(total, np.int64)
    starts = np.empty(total, np.int32)
    stops = np.empty(total, np.int32)
    row_starts = np.empty((steps + context - 1) // context + 1, np.int64)
    row_starts[0] = 0
    count, row, room = 0, 0, context
    for place in range(len(order)):
        item = order[place]
        length = lengths[item]
        done = 0
        while done < length:
            if room == 0:
                row += 1
                row_starts[row] = count
                room = context
            taken = min(room, length - done)
            items[count], starts[count], stops[count] = item, done, done + taken
            count += 1
            done += taken
            room -= taken
    row_starts[-1] = count
    return items, starts, stops, row_starts


@kernel
def _by_length(order, lengths, context, most_rows, budget, multiple, block):  # type: ignore[no-untyped-def]
    total = _pieces(order, lengths, context)
    items = np.empty(total, np.int64)
    starts = np.empty(total, np.int32)
    stops = np.empty(total, np.int32)
    unit_starts = np.empty(total + 1, np.int64)
    count, units = 0, 0
    for first in range(0, len(order), block):
        last = min(first + block, len(order))
        waiting = _pieces(order[first:last], lengths, context)
        documents = np.empty(waiting, np.int64)
        begins = np.empty(waiting, np.int64)
        sizes = np.empty(waiting, np.int64)
        number = 0
        for place in range(first, last):
            item = order[place]
            for begin in range(0, lengths[item], context):
                documents[number], begins[number] = item, begin
                sizes[number] = min(context, lengths[item] - begin)
                number += 1
        rows, longest = 0, 0
        for number in _longest_first(sizes, context):
            if rows == 0 or rows == most_rows or (rows + 1) * longest > budget:
                unit_starts[units] = count
                units += 1
                rows = 0
                longest = min(context, (sizes[number] + multiple - 1) // multiple * multiple)
            items[count] = documents[number]
            starts[count] = begins[number]
            stops[count] = begins[number] + sizes[number]
            count += 1
            rows += 1
    unit_starts[units] = count
    return items, starts, stops, np.arange(total + 1), unit_starts[: units + 1].copy()
