"""Items and triples of the ABX task: the segments of speech that are compared."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .alignment import PhoneAlignment

#: Kinds of items: a phone with its two neighbours, compared only if both neighbours are equal; or a
#: phone by itself, with any neighbours.
Items = Literal["triphone", "phone"]


@dataclass(frozen=True)
class Item:
    """A segment of an utterance.

    Attributes:
        utterance: its index.
        start, end: seconds.
        phone: index into `PHONES`; of a triphone, the one in the middle.
        context: the phones before and after it; (-1, -1) if they don't matter.
        speaker: of the utterance.
    """

    utterance: int
    start: float
    end: float
    phone: int
    context: tuple[int, int]
    speaker: str


@dataclass(frozen=True, eq=False)
class Triples:
    """A, B and X of each comparison: A and X have the same phone, B another; contexts are equal.

    Attributes:
        indices: (triples, 3) int64, items A, B and X.
        cells: (triples,) int64, cell of each: same phones, context and speaker of A.
        pairs: (cells, 2) int64, phones of A and of B.
        available: number of existing triples; `indices` may be a sample of them.
    """

    indices: np.ndarray
    cells: np.ndarray
    pairs: np.ndarray
    available: int


def find_items(
    alignments: Sequence[PhoneAlignment], speakers: Sequence[str], kind: Items = "triphone"
) -> list[Item]:
    """Find all items of the utterances; none contains silence."""
    items = []
    for index, (alignment, speaker) in enumerate(zip(alignments, speakers, strict=True)):
        phones, times = alignment.phones.tolist(), alignment.intervals()
        for at in range(len(phones)):
            if kind == "phone":
                first, last, context = at, at, (-1, -1)
            else:
                first, last = at - 1, at + 1
                if first < 0 or last == len(phones):
                    continue
                context = (phones[first], phones[last])
            if 0 not in phones[first : last + 1]:
                start, end = float(times[first, 0]), float(times[last, 1])
                items.append(Item(index, start, end, phones[at], context, speaker))
    return items


def choose_triples(
    items: Sequence[Item], across_speakers: bool, max_triples: int, seed: int = 0
) -> Triples:
    """Choose triples within a speaker, or with X by another speaker than A and B.

    If there are more than `max_triples`, every cell keeps at most as many as fit, chosen at random
    by `seed`; if there are more cells than `max_triples`, so many cells are chosen at random.
    """
    groups: dict[tuple[int, int], dict[str, dict[int, list[int]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for index, item in enumerate(items):
        groups[item.context][item.speaker][item.phone].append(index)
    cells = []
    for context in sorted(groups):
        speakers = groups[context]
        others: dict[int, list[tuple[str, int]]] = defaultdict(list)
        for name in sorted(speakers):
            for phone, found in speakers[name].items():
                others[phone] += [(name, index) for index in found]
        for name in sorted(speakers):
            phones = speakers[name]
            for first in sorted(phones):
                if across_speakers:
                    xs = [index for other, index in others[first] if other != name]
                else:
                    xs = phones[first]
                for second in sorted(phones):
                    if second != first and len(xs) > (not across_speakers):
                        cells.append((phones[first], phones[second], xs, first, second))
    return _sample(cells, across_speakers, max_triples, np.random.default_rng(seed))


_Cell = tuple[list[int], list[int], list[int], int, int]


def _sample(
    cells: list[_Cell], across_speakers: bool, max_triples: int, random: np.random.Generator
) -> Triples:
    # Within a speaker X is another item than A: the index of X skips A's.
    sizes = np.array([len(a) * len(b) * (len(x) - (not across_speakers)) for a, b, x, *_ in cells])
    available = int(sizes.sum())
    if len(cells) > max_triples:
        chosen = np.sort(random.choice(len(cells), max_triples, replace=False, shuffle=False))
        cells, sizes = [cells[index] for index in chosen], sizes[chosen]
    most = _fill(sizes, max_triples)
    indices, owners = [], []
    for number, ((a, b, x, *_), size) in enumerate(zip(cells, sizes, strict=True)):
        if size <= most:
            picks = np.arange(size)
        else:
            picks = np.sort(random.choice(size, most, replace=False, shuffle=False))
        at_a, rest = np.divmod(picks, len(b) * (len(x) - (not across_speakers)))
        at_b, at_x = np.divmod(rest, len(x) - (not across_speakers))
        if not across_speakers:
            at_x += at_x >= at_a
        indices.append(np.stack([np.array(a)[at_a], np.array(b)[at_b], np.array(x)[at_x]], 1))
        owners.append(np.full(len(picks), number))
    empty = np.zeros((0, 3), np.int64)
    return Triples(
        np.concatenate([empty, *indices]),
        np.concatenate([np.zeros(0, np.int64), *owners]),
        np.array([cell[3:] for cell in cells], np.int64).reshape(-1, 2),
        available,
    )


def _fill(sizes: np.ndarray, total: int) -> int:
    """Return the largest number such that taking at most so many from each stays within `total`."""
    low, high = 1, int(sizes.max(initial=1))
    while low < high:
        middle = (low + high + 1) // 2
        if np.minimum(sizes, middle).sum() <= total:
            low = middle
        else:
            high = middle - 1
    return low
