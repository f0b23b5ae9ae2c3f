import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syllabary.eval.metrics.interface import MetricError
from syllabary.eval.unit_measures.held_out import held_out_bits
from syllabary.eval.unit_measures.rates import usage

rows = st.lists(
    st.lists(st.integers(0, 4), min_size=1, max_size=8).map(np.array), min_size=2, max_size=7
)


def by_hand(utterances, size, folds):
    """The definition, one code at a time."""
    folds = min(folds, len(utterances))
    alone = after = later = 0
    for fold in range(folds):
        shown = [codes for i, codes in enumerate(utterances) if i % folds != fold]
        counts = Counter(code for codes in shown for code in codes)
        pairs = Counter(pair for codes in shown for pair in pairwise(codes))
        total = sum(counts.values())

        def unigram(code, counts=counts, total=total):
            return (counts[code] + len(counts) / size) / (total + len(counts))

        for codes in utterances[fold::folds]:
            alone -= sum(math.log2(unigram(code)) for code in codes)
            for last, code in pairwise(codes):
                seen = sum(count for pair, count in pairs.items() if pair[0] == last)
                kinds = sum(pair[0] == last for pair in pairs)
                chance = unigram(code)
                if seen:
                    chance = (pairs[last, code] + kinds * chance) / (seen + kinds)
                after -= math.log2(chance)
                later += 1
    frames = sum(map(len, utterances))
    return alone / frames, after / later if later else None


@given(rows, st.integers(5, 9), st.integers(2, 5))
@settings(deadline=None)
def test_the_definition(utterances, size, folds):
    found = held_out_bits(utterances, size, folds)
    alone, after = by_hand([codes.tolist() for codes in utterances], size, folds)
    assert found.alone == pytest.approx(alone) and found.after_last == pytest.approx(after)
    assert found.frames == sum(map(len, utterances))


@given(st.integers(2, 2000), st.integers(0, 50))
@settings(deadline=None, max_examples=20)
def test_the_truth_lies_between(size, seed):
    """Even codes: what is observed is too low for a small sample, what is held out too high."""
    random = np.random.default_rng(seed)
    utterances = [random.integers(0, size, 50) for _ in range(20)]
    found, observed = held_out_bits(utterances, size), usage(utterances, size).entropy
    assert observed <= math.log2(size) + 1e-9
    # Given the size of the codebook, smoothing may come within a hair of it from below.
    assert found.alone > math.log2(size) - 0.02
    assert found.after_last > math.log2(size) - 0.05


def test_a_chain_is_found_out():
    """The next code is the last one plus 1, or any, half of the time each."""
    random = np.random.default_rng(0)
    utterances = []
    for _ in range(50):
        codes = [int(random.integers(30))]
        for _ in range(199):
            follows = random.random() < 0.5
            codes.append((codes[-1] + 1) % 30 if follows else int(random.integers(30)))
        utterances.append(np.array(codes))
    found = held_out_bits(utterances, 30)
    chances = np.full(30, 0.5 / 30)
    chances[0] += 0.5
    rate = -(chances * np.log2(chances)).sum()
    assert found.alone == pytest.approx(math.log2(30), abs=0.02)
    assert rate < found.after_last < rate + 0.2


def test_what_can_not_be_measured():
    with pytest.raises(MetricError, match="two utterances"):
        held_out_bits([np.array([1, 2]), np.zeros(0, int)], 4)
    with pytest.raises(MetricError, match="out of range"):
        held_out_bits([np.array([1]), np.array([4])], 4)
    assert held_out_bits([np.array([1]), np.array([2])], 4).after_last is None
