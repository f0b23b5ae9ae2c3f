"""Documents laid into rows: ids, what follows each, and positions.

A `Layout` says in a few numbers what stands at each step of an utterance of n frames, as `Pattern`
does: any part of a document can be laid without the rest of it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import DatasetError
from ..interleaving.sequence import IGNORE
from ..patterns.pattern import Pattern
from .fill_kernels import fill_codes, fill_documents
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
        return fill_documents(store.values, store.starts, *arguments, layout.fillings, IGNORE, *out)
    return fill_codes(
        store.values, store.starts, store.rows, store.heads, *arguments, layout.places,
        layout.marks, layout.law[0], layout.law[1], layout.fillings, layout.heads, layout.heads_at,
        IGNORE, *out,
    )  # fmt: skip
