"""ABX against a brute force that is written from the definition."""

import itertools
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syllabary.eval.metrics.interface import MetricError
from syllabary.eval.unit_measures.abx import abx, unit_abx
from syllabary.eval.unit_measures.alignment import PhoneAlignment
from syllabary.eval.unit_measures.discrimination import choose_triples, find_items
from syllabary.eval.unit_measures.time_warping import warped_distances


def utterances(seed, count=6, phones=30, alphabet=4):
    random = np.random.default_rng(seed)
    alignments = []
    for _ in range(count):
        names = random.integers(0, alphabet, phones)  # 0, silence, among them
        lengths = random.integers(3, 9, phones)
        starts = np.cumsum([0, *lengths[:-1]])
        total = int(lengths.sum())
        alignments.append(PhoneAlignment(names, starts, total, total * 160))
    speakers = [f"speaker {index % 3}" for index in range(count)]
    return alignments, speakers


def brute_distance(x, y, frame_distance):
    """Over all paths: least sum, then the preferred steps; the mean along that path."""
    n, m = len(x), len(y)
    best = {}
    for i, j in itertools.product(range(n), range(m)):
        before = [best[k] for k in ((i - 1, j - 1), (i - 1, j), (i, j - 1)) if k in best]
        total, length = min(before, key=lambda pair: pair[0]) if before else (0.0, 0)
        best[i, j] = (total + frame_distance(x[i], y[j]), length + 1)
    return best[n - 1, m - 1][0] / best[n - 1, m - 1][1]


def angular(x, y):
    norms = np.linalg.norm(x) * np.linalg.norm(y)
    if (x == y).all() and norms:
        return 0.0
    return np.arccos(np.clip(x @ y / norms if norms else 0.0, -1, 1)) / np.pi


def brute_abx(features, alignments, speakers, rate, across, frame_distance, kind):
    items = []
    for matrix, alignment, speaker in zip(features, alignments, speakers, strict=True):
        times = alignment.intervals()
        reach = 1 if kind == "triphone" else 0
        for at in range(reach, len(alignment.phones) - reach):
            names = alignment.phones[at - reach : at + reach + 1]
            if (names == 0).any():
                continue
            start, end = times[at - reach, 0], times[at + reach, 1]
            inside = [f for f in range(len(matrix)) if start <= (f + 0.5) / rate < end]
            context = (names[0], names[-1]) if reach else None
            items.append((matrix[inside], alignment.phones[at], context, speaker))
    cells = defaultdict(list)
    for (ia, a), (_, b), (ix, x) in itertools.product(enumerate(items), repeat=3):
        if ia == ix or a[1] != x[1] or a[1] == b[1] or not a[2] == b[2] == x[2]:
            continue
        if a[3] != b[3] or (a[3] != x[3]) != across:
            continue
        near = brute_distance(x[0], a[0], frame_distance)
        far = brute_distance(x[0], b[0], frame_distance)
        cells[a[1], b[1], a[2], a[3]].append(1.0 if near > far else 0.5 if near == far else 0.0)
    pairs = defaultdict(list)
    for (a, b, *_), errors in cells.items():
        pairs[a, b].append(np.mean(errors))
    return np.mean([np.mean(values) for values in pairs.values()]), sum(map(len, cells.values()))


@pytest.mark.parametrize("kind", ["triphone", "phone"])
def test_against_brute_force(kind):
    size, alphabet = {"triphone": (24, 3), "phone": (8, 4)}[kind]
    alignments, speakers = utterances(1, phones=size, alphabet=alphabet)
    random = np.random.default_rng(2)
    # Features tell phones apart a little: nothing is at chance, nothing is trivial.
    table = random.standard_normal((4, 6))
    features, units = [], []
    for alignment in alignments:
        labels = alignment.labels(50)
        features.append(table[labels] + 1.5 * random.standard_normal((len(labels), 6)))
        units.append(np.where(random.random(len(labels)) < 0.5, labels, random.integers(0, 8)))
    found = abx(features, alignments, speakers, 50, items=kind)
    coded = unit_abx(units, alignments, speakers, 50, items=kind)
    centred = unit_abx(units, alignments, speakers, 50, random.standard_normal((8, 6)), items=kind)
    assert centred.across.error != coded.across.error
    one_hot = [codes[:, None] for codes in units]
    for across, where in ((False, "within"), (True, "across")):
        for score, vectors, measure in (
            (getattr(found, where), features, angular),
            (getattr(coded, where), one_hot, lambda x, y: float(x[0] != y[0])),
        ):
            error, count = brute_abx(vectors, alignments, speakers, 50, across, measure, kind)
            assert score.error == pytest.approx(error, abs=1e-12)
            assert score.num_triples == score.available == count > 20
            assert score.interval[0] <= score.error <= score.interval[1]
            assert 0.02 < score.error < 0.7


def test_features_that_are_phones_and_features_that_are_noise():
    alignments, speakers = utterances(seed=3, count=9, phones=120)
    labels = [alignment.labels(100) for alignment in alignments]
    # Not triphones: warping takes A A B and A B B for the same.
    perfect = unit_abx(labels, alignments, speakers, 100, items="phone")
    assert perfect.within.error == perfect.across.error == 0
    constant = unit_abx([np.zeros_like(u) for u in labels], alignments, speakers, 100)
    assert constant.within.error == constant.across.error == 0.5
    random = np.random.default_rng(0)
    noise = abx([random.standard_normal((len(u), 5)) for u in labels], alignments, speakers, 100)
    assert 0.4 < noise.within.error < 0.6 and 0.4 < noise.across.error < 0.6


@given(
    st.integers(0, 1000), st.booleans(), st.integers(1, 400), st.sampled_from(["triphone", "phone"])
)
@settings(max_examples=40, deadline=None)
def test_triples_are_what_they_say(seed, across, most, kind):
    alignments, speakers = utterances(seed, count=4, phones=25)
    items = find_items(alignments, speakers, kind)
    chosen = choose_triples(items, across, most, seed)
    again = choose_triples(items, across, most, seed)
    assert (chosen.indices == again.indices).all() and len(chosen.indices) <= most
    assert len(chosen.indices) == min(chosen.available, most) or len(chosen.indices) > 0
    assert len(np.unique(chosen.indices, axis=0)) == len(chosen.indices)
    for (a, b, x), cell in zip(chosen.indices, chosen.cells, strict=True):
        first, second, third = items[a], items[b], items[x]
        assert first.phone == third.phone != second.phone and a != x
        assert first.context == second.context == third.context
        assert first.speaker == second.speaker
        assert (first.speaker != third.speaker) == across
        assert tuple(chosen.pairs[cell]) == (first.phone, second.phone)


@given(st.integers(0, 10_000), st.sampled_from(["angular", "cosine", "equal"]))
@settings(max_examples=50, deadline=None)
def test_time_warping(seed, distance):
    random = np.random.default_rng(seed)
    lengths = random.integers(1, 7, 4)
    ends = np.cumsum(lengths)
    spans = np.stack([ends - lengths, ends], 1)
    if distance == "equal":
        frames = random.integers(0, 3, (ends[-1], 1)).astype(float)
    else:
        frames = random.standard_normal((ends[-1], 3))
    pairs = np.array(list(itertools.product(range(4), repeat=2)))
    found = warped_distances(frames, spans, pairs, distance)
    by_frame = {
        "angular": angular,
        "cosine": lambda x, y: 1 - x @ y / np.linalg.norm(x) / np.linalg.norm(y),
        "equal": lambda x, y: float(x[0] != y[0]),
    }[distance]
    for (one, other), value in zip(pairs, found, strict=True):
        first, second = (frames[slice(*spans[index])] for index in (one, other))
        assert value == pytest.approx(brute_distance(first, second, by_frame), abs=1e-7)
        assert value == 0 or one != other


def test_a_vector_of_zeros_is_at_a_right_angle():
    frames = np.array([[0.0, 0.0], [1.0, 0.0]])
    spans = np.array([[0, 1], [1, 2]])
    found = warped_distances(frames, spans, np.array([[0, 1], [0, 0], [1, 1]]), "angular")
    assert found.tolist() == [0.5, 0.5, 0]


def test_bad_input():
    alignments, speakers = utterances(0, count=2)
    units = [alignment.labels(50) for alignment in alignments]
    with pytest.raises(MetricError, match="2 with alignments, 1 with speakers"):
        unit_abx(units, alignments, speakers[:1], 50)
    with pytest.raises(MetricError, match="out of range: there are 2 centroids"):
        unit_abx(units, alignments, speakers, 50, np.eye(2))
    with pytest.raises(MetricError, match="utterance 1 has NaN"):
        abx([np.ones((9, 2)), np.full((9, 2), np.nan)], alignments, speakers, 50)
    with pytest.raises(MetricError, match="utterance 1: shape"):
        abx([np.ones((9, 2)), np.ones((9, 3))], alignments, speakers, 50)
    with pytest.raises(MetricError, match="frame rate"):
        unit_abx(units, alignments, speakers, 0)
    silent = [PhoneAlignment(np.array([0]), np.array([0]), 10, 1600)]
    nothing = unit_abx([np.zeros(5, int)], silent, ["one"], 50)
    assert nothing.within is None and nothing.across is None
