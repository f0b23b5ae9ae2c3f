import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syllabary.eval.token_lm.mixture import CountedSymbols, best_weights, mixed_bits
from syllabary.eval.token_lm.packing import Stream, pack


@given(st.integers(0, 99))
@settings(deadline=None, max_examples=20)
def test_probabilities_sum_to_one(seed):
    random = np.random.default_rng(seed)
    sizes = (4, 3)
    counted = CountedSymbols(pack([random.integers(0, sizes, (9, 2)) for _ in range(2)]), sizes)
    previous = np.array([[-1, -1], [3, 0]])
    for place, size in enumerate(sizes):
        rows = []
        for symbol in range(size):
            symbols = np.zeros((2, 2), np.int64)
            symbols[:, place] = symbol
            rows.append(counted.chances(Stream(symbols, previous, np.zeros(2, np.int64))))
        assert np.allclose(np.sum(rows, axis=0)[:, :, place], 1)
        assert (np.array(rows)[..., place] > 0).all()


def test_each_expert_is_found_where_it_knows_best():
    """Place 0 repeats itself over time, place 1 repeats place 0, place 2 is skewed."""
    random = np.random.default_rng(0)
    rows = []
    for _ in range(30):
        first = np.repeat(random.integers(0, 8, 10), 5)
        skewed = random.choice(8, 50, p=[0.6, 0.2, 0.1, 0.06, 0.01, 0.01, 0.01, 0.01])
        rows.append(np.stack([first, first, skewed], 1))
    counted = CountedSymbols(pack(rows[:20]), (8, 8, 8))
    chances = counted.chances(pack(rows[20:]))
    weights = best_weights(chances)
    assert weights.shape == (4, 3) and np.allclose(weights.sum(0), 1)
    assert weights[2, 0] > 0.8 and weights[3, 1] > 0.9
    bits = mixed_bits(chances, weights).mean(0)
    singles = -np.log2(chances).mean(1)
    assert (bits <= singles.min(0) + 5e-3).all()
    assert bits[1] < 0.2 and bits[2] == pytest.approx(1.76, abs=0.25)
