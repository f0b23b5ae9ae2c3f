"""The compiled loop that lays documents into rows: ids, what follows each, and positions.

A `Layout` says in a few numbers what stands at each step of an utterance of n frames, as `Pattern`
does: any part of a document can be laid without the rest of it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import DatasetError
from ...kernels.cache import kernel
from ..interleaving.sequence import IGNORE
from ..patterns.pattern import Pattern
from .packing import Plan
from .store import FlatStore


@dataclass(frozen=True, eq=False)
class Layout:
    """What stands where in a document.

    Attributes:
        places: (codebooks, 5) stream, step of frame 0, steps a frame, steps by which each frame of
            the utterance moves the start, and id of code 0.
        marks: (marks, 5) stream, step, steps that each frame adds, id, and 1 if it is learned.
        law: steps without frames, and steps that each frame adds.
        fillings: (streams,) id where nothing stands.
        heads: id of code 0 of each global codebook.
        heads_at: step of the first of their codes.
    """

    places: np.ndarray
    marks: np.ndarray
    law: tuple[int, int]
    fillings: np.ndarray
    heads: np.ndarray
    heads_at: int = 0

    @property
    def streams(self) -> int:
        return len(self.fillings)

    def lengths(self, frames: np.ndarray) -> np.ndarray:
        """(items,) steps of documents of so many frames; 0 where there are none."""
        return np.where(frames > 0, self.law[0] + self.law[1] * frames, 0)


def layout_of(
    pattern: Pattern,
    begin: int | None = None,
    end: int | None = None,
    heads: tuple[int, ...] = (),
) -> Layout:
    """The layout of a pattern, with markers around it.

    Args:
        pattern: writing the ids of a vocabulary, or codes.
        begin, end: ids of a step before and a step after it, in all streams.
        heads: id of code 0 of each global codebook; their codes stand first, after `begin`.

    Raises:
        DatasetError: global codes, which parallel streams have no place for.
    """
    if heads and pattern.streams > 1:
        raise DatasetError(
            f"this tokenizer has global codes, which the {pattern.streams} streams of {pattern} "
            "have no place for: take a pattern of one stream, such as flatten"
        )
    before = int(begin is not None) + len(heads)
    fixed, each = int(pattern.num_steps(0)), int(pattern.num_steps(1) - pattern.num_steps(0))
    places = [
        (place.stream, before + place.start, place.stride, place.after, base)
        for place, base in zip(pattern.places, pattern.bases, strict=True)
    ]
    marks = [(mark.stream, before + mark.start, mark.after, mark.id, 1) for mark in pattern.marks]
    for stream in range(pattern.streams):
        if begin is not None:
            marks.append((stream, 0, 0, begin, 0))
        if end is not None:
            marks.append((stream, before + fixed, each, end, 1))
    return Layout(
        np.array(places, np.int64).reshape(-1, 5),
        np.array(marks, np.int64).reshape(-1, 5),
        (before + fixed + int(end is not None), each),
        np.array(pattern.specials, np.int64),
        np.array(heads, np.int64),
        int(begin is not None),
    )


def documents_layout(pattern: Pattern) -> Layout:
    """The layout of documents that are made already: only how rows are filled up."""
    nothing = np.empty((0, 5), np.int64)
    filling = np.array(pattern.specials[:1], np.int64)
    return Layout(nothing, nothing, (0, 1), filling, np.empty(0, np.int64))


def filled(
    number: int,
    store: FlatStore,
    layout: Layout,
    plan: Plan,
    rows: np.ndarray,
    slots: np.ndarray,
    out: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
) -> Any:
    """Write rows of a plan into arrays.

    Args:
        number: of the source, to note with each part.
        rows: (n,) numbers of rows of the plan.
        slots: (n,) row of the arrays that each goes to.
        out: ids and targets, (rows, streams, steps); positions, (rows, steps); and the steps
            of each row that are not padding, (rows,).

    Returns:
        (parts, 5) int64 of the parts written: slot, number, item, first step, last step + 1.
    """
    arguments = (number, plan.items, plan.starts, plan.stops, plan.row_starts, rows, slots)
    if store.documents:
        return _fill_documents(store.values, store.starts, *arguments, layout.fillings, *out)
    return _fill_codes(
        store.values, store.starts, store.rows, store.heads, *arguments, layout.places,
        layout.marks, layout.law[0], layout.law[1], layout.fillings, layout.heads, layout.heads_at,
        *out,
    )  # fmt: skip


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


@kernel
def _fill_codes(  # type: ignore[no-untyped-def]
    values, begins, books, heads, source, items, starts, stops, row_starts, rows, slots, places,
    marks, fixed, each, fillings, head_bases, head_at, ids, targets, positions, lengths,
):  # fmt: skip
    width = positions.shape[1]
    parts, count = _no_parts(row_starts, rows), 0
    for number in range(len(rows)):
        slot, at = slots[number], 0
        for stream in range(len(fillings)):
            ids[slot, stream, :] = fillings[stream]
            targets[slot, stream, :] = IGNORE
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
            parts[count, 0], parts[count, 1], parts[count, 2] = slot, source, item
            parts[count, 3], parts[count, 4] = start, stop
            count += 1
            at += stop - start
        lengths[slot] = at
        for step in range(at, width):
            positions[slot, step] = step - at
    return parts


@kernel
def _fill_documents(  # type: ignore[no-untyped-def]
    values, begins, source, items, starts, stops, row_starts, rows, slots, fillings, ids, targets,
    positions, lengths,
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
            parts[count, 0], parts[count, 1], parts[count, 2] = slot, source, item
            parts[count, 3], parts[count, 4] = start, stop
            count += 1
            at += stop - start
        lengths[slot] = at
        for step in range(at, width):
            positions[slot, step] = step - at
            ids[slot, 0, step] = fillings[0]
            targets[slot, 0, step] = IGNORE
    return parts
