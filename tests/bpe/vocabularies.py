"""Vocabularies that nobody would train, sequences like units, and segmentation by definition."""

from itertools import pairwise

import numpy as np
from hypothesis import strategies as st

from syllabary.bpe import UnitBPE
from syllabary.bpe.vocabulary import SCORE_SCALE, Vocabulary


@st.composite
def vocabularies(draw, kinds=("bpe", "unigram")):
    """Random pieces over very few units: ambiguous, overlapping, out of reach of each other."""
    kind = draw(st.sampled_from(kinds))
    num_units = draw(st.integers(1, 4))
    unit = st.integers(0, num_units - 1)
    pieces = draw(st.lists(st.lists(unit, min_size=2, max_size=6), max_size=14, unique_by=tuple))
    scores = None
    if kind == "unigram":
        # Few values, so that many paths are equal.
        score = st.integers(-6, 0).map(lambda n: n * SCORE_SCALE // 2)
        count = num_units + len(pieces)
        scores = np.array(draw(st.lists(score, min_size=count, max_size=count)), np.int64)
    longer = [np.array(piece, np.int64) for piece in pieces]
    return Vocabulary.of_pieces(kind, num_units, longer, scores)


@st.composite
def bpes_and_units(draw, kinds=("bpe", "unigram"), max_size=60):
    vocabulary = draw(vocabularies(kinds))
    bpe = UnitBPE(vocabulary, (vocabulary.num_units,))
    unit = st.integers(0, vocabulary.num_units - 1)
    units = draw(st.lists(unit, max_size=max_size))
    return bpe, np.array(units, np.int64)


def by_definition(vocabulary, units):
    """Join the neighbours whose units are the piece of the best rank, the leftmost first."""
    rank = {tuple(piece.tolist()): index for index, piece in enumerate(vocabulary.pieces())}
    parts = [(unit,) for unit in units.tolist()]
    while True:
        found = [
            (rank[left + right], at)
            for at, (left, right) in enumerate(pairwise(parts))
            if left + right in rank
        ]
        if not found:
            return [rank[part] for part in parts]
        _, at = min(found)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]


def unit_likeness(count, num_units, seed=0, repeats=False):
    """A random walk in which every unit has a few likely followers, as speech units have."""
    followers = np.random.default_rng(7).integers(0, num_units, (num_units, 8))
    rng = np.random.default_rng(seed)
    likely = rng.random(count) < 0.85
    which = np.minimum(rng.geometric(0.4, count) - 1, 7)
    other = rng.integers(0, num_units, count)
    units = np.empty(count, np.int64)
    unit = 0
    for at in range(count):
        unit = int(followers[unit, which[at]]) if likely[at] else int(other[at])
        units[at] = unit
    if repeats:
        return np.repeat(units, rng.integers(1, 5, count))
    return units[np.concatenate([[True], units[1:] != units[:-1]])]
