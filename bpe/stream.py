"""Encode units as they arrive, to the pieces of the whole sequence.

Let t be the units so far, n their number, L the longest piece's length, and E(x) the pieces of x.

    Whatever units follow, the pieces of the whole sequence start with E(t[:p]) for some p of this
    set C: n itself, and each p from n - L + 1 to n - 1 for which t[p:n] is the start of a longer
    piece. So the pieces that all E(t[:p]), p in C, have in common at their start are final.

Proof. Let T be t and what follows, and p the last boundary of E(T) that is at most n. If p < n, one
piece covers t[p:n] and what comes next; it has at most L units, so p > n - L, and it starts with
t[p:n] and is longer: p is in C. By the independence in `segmentation.py`, E(T) starts with
E(t[:p]). ∎

Final pieces are emitted and dropped: by independence, the rest can be encoded on its own. The delay
depends on the units. A cut is a position that no piece in the text crosses, for example one between
two units that are adjacent inside no piece. Once L - 1 units have arrived after a cut, all p in C
are at or after it, and all E(t[:p]) have a boundary there: so a piece waits for at most L - 1 units
after the first cut that follows it. Usually the E(t[:p]) agree sooner. Without cuts (silence that
is not de-duplicated) there is no guaranteed bound, and for most probable paths there is none at
all: if aa is better than a+a, and a+aa better than aa+a, then the first piece of a long run of a
depends on whether its length is even. `waiting` is the number of units held back.
"""

import numpy as np

from ..errors import BPEError
from .segmentation import Segmenter, Trie
from .training import check_units
from .vocabulary import Vocabulary


class PieceStream:
    """Encode one sequence in chunks; created by `UnitBPE.stream`.

    The concatenated results of `push` and `finish` equal `encode` of all units.

    Args:
        vocabulary: the pieces.
        segmenter, trie: made of this vocabulary.
    """

    def __init__(self, vocabulary: Vocabulary, segmenter: Segmenter, trie: Trie) -> None:
        self._vocabulary, self._segmenter, self._trie = vocabulary, segmenter, trie
        self._held = np.zeros(0, np.int32)
        self._finished = False

    @property
    def waiting(self) -> int:
        """Number of units whose pieces later units may still change."""
        return len(self._held)

    def push(self, units: np.ndarray) -> np.ndarray:
        """Add units (n,); return the pieces, (pieces,) int64, that have become final.

        Raises:
            TokenError: a unit is out of range, or `units` is not a sequence of integers.
            BPEError: the stream is finished.
        """
        self._check_open()
        units = check_units(units, self._vocabulary.num_units)
        if not len(units):
            return np.zeros(0, np.int64)
        self._held = np.concatenate([self._held, units])
        final = [np.zeros(0, np.int32)]
        # Only the units after the last cut can differ.
        cut = self._segmenter.last_cut(self._held)
        if cut:
            final.append(self._segment(self._held[:cut]))
            self._held = self._held[cut:]
        count = len(self._held)
        common = self._segment(self._held)
        for start in range(max(0, count - self._vocabulary.longest + 1), count):
            if not len(common):
                break
            if self._trie.starts_longer(self._held[start:]):
                other = self._segment(self._held[:start])
                shorter = min(len(common), len(other))
                differ = np.flatnonzero(common[:shorter] != other[:shorter])
                common = common[: differ[0] if len(differ) else shorter]
        final.append(common)
        self._held = self._held[int(self._vocabulary.lengths[common].sum()) :]
        return np.concatenate(final).astype(np.int64)

    def finish(self) -> np.ndarray:
        """Return the pieces, (pieces,) int64, of the remaining units, and end the stream.

        Raises:
            BPEError: the stream is already finished.
        """
        self._check_open()
        self._finished = True
        rest, self._held = self._segment(self._held), self._held[:0]
        return rest.astype(np.int64)

    def _segment(self, units: np.ndarray) -> np.ndarray:
        return self._segmenter.segment(units, np.array([0, len(units)]))[0]

    def _check_open(self) -> None:
        if self._finished:
            raise BPEError("this stream is finished; start another with bpe.stream()")
