import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syllabary.eval.bootstrap import interval


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=60), st.integers(0, 5))
def test_an_interval_lies_among_the_values(values, seed):
    low, high = interval(values, seed=seed)
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9
    assert interval(values, seed=seed) == (low, high)


def test_fewer_than_two_items_have_none():
    assert interval([]) is None and interval([1.0]) is None


@pytest.mark.parametrize("count", [50, 400])
def test_it_is_as_wide_as_theory_says(count):
    values = np.random.default_rng(0).standard_normal(count)
    low, high = interval(values)
    expected = 2 * 1.96 * values.std() / np.sqrt(count)
    assert high - low == pytest.approx(expected, rel=0.12)


def test_quotients_of_totals():
    errors, words = [1.0, 0.0, 5.0, 2.0], [10.0, 2.0, 10.0, 1.0]
    low, high = interval(errors, words)
    assert low < sum(errors) / sum(words) < high
    # Items of equal rates have no spread, whatever their weights.
    assert interval([1.0, 2.0, 4.0], [2.0, 4.0, 8.0]) == (0.5, 0.5)
