"""The compiled loops of `filling`, which see arrays only."""

import numpy as np

from ...kernels.cache import kernel


@kernel
def sequence_bounds(parts, lengths, width):  # type: ignore[no-untyped-def]
    """Where sequences begin in rows one after the other, and the end: (sequences + 1,) int32.

    Args:
        parts: in order of rows; the padding of a row that has some is one more sequence.
        lengths: (rows,) steps that are not padding.
        width: steps of a row.
    """
    bounds = np.empty(len(parts) + len(lengths) + 1, np.int32)
    bounds[0] = 0
    count, part = 0, 0
    for row in range(len(lengths)):
        while part < len(parts) and parts[part, 0] == row:
            count += 1
            bounds[count] = bounds[count - 1] + parts[part, 4] - parts[part, 3]
            part += 1
        if lengths[row] < width:
            count += 1
            bounds[count] = (row + 1) * width
    return bounds[: count + 1].copy()


@kernel
def _no_parts(row_starts, rows):  # type: ignore[no-untyped-def]
    count = 0
    for row in rows:
        count += row_starts[row + 1] - row_starts[row]
    return np.empty((count, 5), np.int64)


@kernel(inline="always")
def _copy(source, first, last, target, at, stride, base):  # type: ignore[no-untyped-def]
    """``target[at + stride × n] = base + source[first + n]``."""
    count = last - first
    if count <= 0:
        return
    taken = source[first:last]
    if stride == 1:
        given = target[at : at + count]
        for number in range(count):
            given[number] = base + np.int64(taken[number])
    else:
        for number in range(count):
            target[at + stride * number] = base + np.int64(taken[number])


@kernel(inline="always")
def _note(parts, count, slot, source, item, start, stop):  # type: ignore[no-untyped-def]
    """Note where a part of a row comes from."""
    parts[count, 0], parts[count, 1], parts[count, 2] = slot, source, item
    parts[count, 3], parts[count, 4] = start, stop


@kernel
def fill_codes(  # type: ignore[no-untyped-def]
    values, begins, books, heads, source, items, starts, stops, row_starts, rows, slots, places,
    marks, fixed, each, fillings, head_bases, head_at, ignored, ids, targets, positions,
    lengths,
):  # fmt: skip
    width = positions.shape[1]
    parts, count = _no_parts(row_starts, rows), 0
    for number in range(len(rows)):
        slot, at = slots[number], 0
        for stream in range(len(fillings)):
            ids[slot, stream, :] = fillings[stream]
            targets[slot, stream, :] = ignored
        for part in range(row_starts[rows[number]], row_starts[rows[number] + 1]):
            item, start, stop = items[part], np.int64(starts[part]), np.int64(stops[part])
            place = begins[item]
            frames = (begins[item + 1] - place) // books
            length = fixed + each * frames
            for book in range(len(places)):
                stride, stream = places[book, 2], places[book, 0]
                first = places[book, 1] + places[book, 3] * frames
                code = place + book * frames
                base = places[book, 4]
                for ahead in range(2):
                    # The ids of steps start … stop - 1; then the targets, which are one later.
                    low = start + ahead
                    high = min(stop + ahead, length)
                    begin = max(0, (low - first + stride - 1) // stride)
                    end = min(frames, (high - first + stride - 1) // stride)
                    column = at + first + stride * begin - low
                    target = targets[slot, stream] if ahead else ids[slot, stream]
                    _copy(values, code + begin, code + end, target, column, stride, base)
            for mark in range(len(marks)):
                step = marks[mark, 1] + marks[mark, 2] * frames
                stream = marks[mark, 0]
                if start <= step < stop:
                    ids[slot, stream, at + step - start] = marks[mark, 3]
                if start < step < min(stop + 1, length) and marks[mark, 4]:
                    targets[slot, stream, at + step - 1 - start] = marks[mark, 3]
            for head in range(len(head_bases)):
                step = head_at + head
                if start <= step < stop:
                    ids[slot, 0, at + step - start] = head_bases[head] + heads[item, head]
                if start < step < min(stop + 1, length):
                    targets[slot, 0, at + step - 1 - start] = head_bases[head] + heads[item, head]
            here = positions[slot, at : at + stop - start]
            for step in range(stop - start):
                here[step] = step
            _note(parts, count, slot, source, item, start, stop)
            count += 1
            at += int(stop - start)
        lengths[slot] = at
        for step in range(at, width):
            positions[slot, step] = step - at
    return parts


@kernel
def fill_documents(  # type: ignore[no-untyped-def]
    values, begins, source, items, starts, stops, row_starts, rows, slots, fillings, ignored, ids,
    targets, positions, lengths,
):  # fmt: skip
    width = positions.shape[1]
    parts, count = _no_parts(row_starts, rows), 0
    for number in range(len(rows)):
        slot, at = slots[number], 0
        for part in range(row_starts[rows[number]], row_starts[rows[number] + 1]):
            item, start, stop = items[part], np.int64(starts[part]), np.int64(stops[part])
            first, last = begins[item] + start, begins[item] + stop
            behind = (begins[item + 1] - begins[item]) // 2
            _copy(values, first, last, ids[slot, 0], at, 1, 0)
            _copy(values, first + behind, last + behind, targets[slot, 0], at, 1, 0)
            for step in range(stop - start):
                positions[slot, at + step] = step
            _note(parts, count, slot, source, item, start, stop)
            count += 1
            at += int(stop - start)
        lengths[slot] = at
        for step in range(at, width):
            positions[slot, step] = step - at
            ids[slot, 0, step] = fillings[0]
            targets[slot, 0, step] = ignored
    return parts
