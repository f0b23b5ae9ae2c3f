"""Segment units into pieces, by the rules of sentencepiece and of Hugging Face tokenizers.

**Merges.** sentencepiece repeatedly joins the two adjacent pieces whose joined text is the piece of
the best rank, the leftmost first; how that text is split into two does not matter. Hugging Face has
a list of pairs, and so in general other results: "aba" may be a+ba in one and ab+a in the other.
The two agree if the list has exactly one pair for each piece, the right one, because:

    Whatever surrounds a piece P, it is formed by the same pair. Until P is formed, every merge
    among its units is within them; the best pair of the whole text is also the best one there; so
    the merges there are, in order, those of segmenting the units of P alone. The pair that forms P
    is the last of these. (If they end otherwise, P is never formed.)

So the best pair that sentencepiece finds is in the list, and since the list has no pairs that it
would not find, it is also the list's best. `merges` returns those pairs; the compiled encoder uses
them as well.

**Independence.** If the pieces of a text have a boundary at i, they are the pieces of text[:i]
followed by those of text[i:], because no merge crossed i, and so each side's merges were its own
best ones in turn. Streams (`stream.py`) and runs (`kernels.merge_all`) rely on this.

**Most probable path.** Both libraries process positions from the left and pieces in order of
length, and keep the first of equal paths. On a grid of scores (`vocabulary.SCORE_SCALE`) all sums
are exact, so they can't differ. Independence holds here as well: the best path to a position
depends on nothing after it.
"""

from typing import Protocol

import numpy as np

from . import kernels
from .vocabulary import Vocabulary


class Segmenter(Protocol):
    """Segment many sequences in one call."""

    def segment(self, units: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Segment sequences into pieces.

        Args:
            units: (total,) int32, concatenated sequences; all in range.
            offsets: (sequences + 1,) int64, start of each.

        Returns:
            All pieces, (pieces,) int32, and their number for each sequence, (sequences,) int64.
        """
        ...

    def last_cut(self, units: np.ndarray) -> int:
        """Return the last position in units (n,) int32 that no piece can cross, or 0."""
        ...


def segmenter(vocabulary: Vocabulary) -> Segmenter:
    """Create the segmenter for a vocabulary's kind of model."""
    return _Paths(vocabulary) if vocabulary.kind == "unigram" else _Merges(vocabulary)


class _Table:
    """A hash table for a limited number of pairs; see `kernels`."""

    def __init__(self, entries: int) -> None:
        bits = max(4, (2 * entries - 1).bit_length())
        self.slots = np.full(1 << bits, -1, np.int64)
        self.shift = 64 - bits


def _neighbours(vocabulary: Vocabulary, more: int) -> _Table:
    """Create a table of units that are adjacent inside pieces, with space for `more` pairs."""
    table = _Table(int(vocabulary.lengths.sum()) - vocabulary.num_pieces + more + 1)
    kernels.put_neighbours(table.slots, table.shift, vocabulary.units, vocabulary.starts)
    return table


class _Merges:
    def __init__(self, vocabulary: Vocabulary) -> None:
        self._table, _ = _merge_table(vocabulary)

    def segment(self, units: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return _run_merges(self._table, units, offsets)

    def last_cut(self, units: np.ndarray) -> int:
        table = self._table
        return int(kernels.last_cut(units, table.slots, table.shift))


def merges(vocabulary: Vocabulary) -> np.ndarray:
    """Return the pair that forms each piece, (merges, 3) int64: left, right, piece, by piece.

    Pieces that never occur in a segmentation are omitted.
    """
    return _merge_table(vocabulary)[1]


def _merge_table(vocabulary: Vocabulary) -> tuple[_Table, np.ndarray]:
    longer = vocabulary.num_pieces - vocabulary.num_units
    table = _neighbours(vocabulary, longer)
    found = []
    lengths = vocabulary.lengths
    for length in range(2, vocabulary.longest + 1):
        # Pieces of equal length can't be part of each other.
        which = np.flatnonzero(lengths == length)
        units = vocabulary.units[vocabulary.starts[which][:, None] + np.arange(length)]
        offsets = np.arange(len(which) + 1) * length
        ids, counts = _run_merges(table, units.reshape(-1).astype(np.int32), offsets)
        ends = np.cumsum(counts)
        made = counts == 2
        pairs = np.stack([ids[ends[made] - 2], ids[ends[made] - 1], which[made]], axis=1)
        for left, right, piece in pairs:
            kernels.put(table.slots, table.shift, left, right, piece)
        found.append(pairs)
    pairs = np.concatenate(found) if found else np.zeros((0, 3), np.int64)
    return table, pairs[np.argsort(pairs[:, 2])].astype(np.int64)


def _run_merges(
    table: _Table, units: np.ndarray, offsets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    out = np.empty(len(units), np.int32)
    counts = np.empty(len(offsets) - 1, np.int64)
    done = kernels.merge_all(units, offsets.astype(np.int64), table.slots, table.shift, out, counts)
    return out[:done], counts


class _Paths:
    def __init__(self, vocabulary: Vocabulary) -> None:
        assert vocabulary.scores is not None
        self._trie = Trie(vocabulary)
        self._scores = vocabulary.scores.astype(np.int64)
        self._lengths = vocabulary.lengths.astype(np.int64)
        self._neighbours = _neighbours(vocabulary, 0)

    def segment(self, units: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        out = np.empty(len(units), np.int32)
        counts = np.empty(len(offsets) - 1, np.int64)
        trie, table = self._trie, self._trie.table
        done = kernels.best_paths(
            units,
            offsets.astype(np.int64),
            table.slots,
            table.shift,
            trie.pieces,
            trie.leaves,
            self._scores,
            self._lengths,
            int(np.diff(offsets).max(initial=0)),
            out,
            counts,
        )
        return out[:done], counts

    def last_cut(self, units: np.ndarray) -> int:
        table = self._neighbours
        return int(kernels.last_cut(units, table.slots, table.shift))


class Trie:
    """A trie of all pieces.

    Attributes:
        table: maps (node, unit) to the next node; node u is the unit u.
        pieces: (nodes,) int32, the piece of each node, or -1.
        leaves: (nodes,) bool, whether no longer piece starts with the node's units.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        most = int(vocabulary.lengths.sum())
        self.table = _Table(most - vocabulary.num_pieces + 1)
        self.pieces = np.full(most, -1, np.int32)
        self.leaves = np.ones(most, bool)
        nodes = kernels.grow_trie(
            self.table.slots,
            self.table.shift,
            vocabulary.units,
            vocabulary.starts,
            vocabulary.num_units,
            self.pieces,
            self.leaves,
        )
        self.pieces, self.leaves = self.pieces[:nodes].copy(), self.leaves[:nodes].copy()

    def starts_longer(self, units: np.ndarray) -> bool:
        """Whether some piece is longer than units (n,) and starts with them."""
        node = int(units[0])
        for unit in units[1:]:
            node = int(kernels.find(self.table.slots, self.table.shift, node, unit))
            if node == kernels.ABSENT:
                return False
        return not bool(self.leaves[node])
