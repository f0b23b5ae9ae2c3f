from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_curve

from syllabary.eval.metrics.interface import MetricError
from syllabary.eval.probes.characters import Alphabet, edits, frames_needed, normalise
from syllabary.eval.probes.scoring import equal_error_rate, rate, verification


def test_equal_error_rates_by_hand():
    same = np.array([True, True, False, False])
    assert equal_error_rate(np.array([4.0, 3, 2, 1]), same) == 0
    assert equal_error_rate(np.array([1.0, 2, 3, 4]), same) == 1
    assert equal_error_rate(np.array([4.0, 2, 3, 1]), same) == 0.5
    assert equal_error_rate(np.zeros(4), same) == 0.5
    # Equal scores don't profit from the order that they come in.
    assert equal_error_rate(np.array([0, 0, 1.0, 0]), same) == pytest.approx(2 / 3)


@given(st.integers(0, 2**32 - 1), st.integers(2, 60), st.integers(1, 6))
@settings(max_examples=25, deadline=None)
def test_equal_error_rates_as_the_roc_has_them(seed, count, levels):
    rng = np.random.default_rng(seed)
    scores = rng.integers(levels * 4, size=count) / 4
    same = rng.random(count) < 0.5
    same[:2] = [True, False]
    false, true, _ = roc_curve(same, scores, drop_intermediate=False)
    places = np.concatenate([np.linspace(a, b, 500) for a, b in pairwise(false)])
    hits = np.concatenate([np.linspace(a, b, 500) for a, b in pairwise(true)])
    at = np.argmin(np.abs(places - (1 - hits)))
    found = equal_error_rate(scores, same)
    assert found == pytest.approx(places[at], abs=3e-3) and 0 <= found <= 1
    # Weights count like repetitions.
    weights = rng.integers(1, 4, size=count)
    repeated = equal_error_rate(scores.repeat(weights), same.repeat(weights))
    assert equal_error_rate(scores, same, weights) == pytest.approx(repeated)


def test_rates_and_their_intervals():
    correct = np.zeros((3, 100))
    correct[0, :50], correct[1, :60], correct[2, :70] = 1, 1, 1
    score = rate(correct, np.ones(100), seed=0)
    assert score.seeds == (50, 60, 70) and score.value == pytest.approx(60)
    assert score.low < 60 < score.high
    # Of a binomial share of 200 the interval is ±1.96 √(p(1−p)/n).
    rng = np.random.default_rng(0)
    score = rate((rng.random((1, 200)) < 0.5).astype(float), np.ones(200), seed=1)
    assert (score.high - score.low) / 2 == pytest.approx(196 * np.sqrt(0.25 / 200), rel=0.15)
    assert rate(correct, np.ones(100), seed=0) == rate(correct, np.ones(100), seed=0)
    # A quotient of totals, not a mean of quotients.
    assert rate(np.array([[1.0, 0]]), np.array([10.0, 90]), 0).value == pytest.approx(1)
    with pytest.raises(MetricError, match="nothing to count"):
        rate(np.zeros((1, 2)), np.zeros(2), 0)


def test_verification_scores():
    rng = np.random.default_rng(0)
    speakers = np.arange(20) // 4
    pairs = np.stack(np.triu_indices(20, 1), 1)
    same = speakers[pairs[:, 0]] == speakers[pairs[:, 1]]
    similarity = same + 0.6 * rng.standard_normal((3, len(same)))
    score = verification(similarity, pairs, same, 0)
    assert 7 < score.low < score.value < score.high < 35
    assert score.value == pytest.approx(np.mean(score.seeds))
    assert verification(same[None].astype(float), pairs, same, 0).value == 0
    with pytest.raises(MetricError, match="pairs of one speaker"):
        verification(similarity, pairs, np.zeros(len(pairs), bool), 0)


def test_text():
    assert normalise("  It’s ÜBER-cool, 3×!\n") == "it's über cool 3"
    alphabet = Alphabet(["abba", "cab"])
    assert len(alphabet) == 4 and alphabet.numbers("bad") == [2, 1]
    assert alphabet.decode([0, 1, 1, 0, 2, 2, 0, 2, 1, 0]) == "abba"
    assert alphabet.decode([]) == "" and frames_needed(alphabet.numbers("abba")) == 5
    assert edits("kitten", "sitting") == 3 and edits("", "ab") == 2


@given(st.text("ab c", max_size=12))
@settings(max_examples=50, deadline=None)
def test_what_ctc_can_write(text):
    alphabet = Alphabet([text, "ab c"])
    numbers = alphabet.numbers(text)
    frames = []
    for number in numbers:
        frames += [0, number] if frames and frames[-1] == number else [number]
    assert len(frames) == frames_needed(numbers) and alphabet.decode(frames) == text
