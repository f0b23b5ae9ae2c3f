from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syllabary.eval.metrics.interface import MetricError
from syllabary.eval.token_lm.symbols import LARGEST, FrameSymbols

sizes = st.lists(
    st.one_of(st.integers(2, 40), st.integers(1000, 70_000), st.just(2**31)), min_size=1, max_size=4
)


@given(sizes, st.integers(0, 6), st.integers(0, 9))
@settings(deadline=None)
def test_codes_come_back(sizes, frames, seed):
    symbols = FrameSymbols(tuple(sizes))
    codes = np.random.default_rng(seed).integers(0, np.array(sizes)[:, None], (len(sizes), frames))
    codes[:, :1] = np.array(sizes)[:, None] - 1  # the last code of each
    split = symbols.split(codes)
    assert split.shape == (frames, len(symbols.sizes))
    assert ((split >= 0) & (split < np.array(symbols.sizes))).all()
    # Horner's rule over each codebook's digits, most significant first.
    ends = np.cumsum([len(digits) for digits in symbols.digits])[:-1]
    for row, digits in zip(codes, np.split(split, ends, axis=1), strict=True):
        assert np.array_equal(reduce(lambda high, low: high * 512 + low, digits.T), row)
    assert max(symbols.sizes) <= LARGEST


def test_small_codebooks_are_left_whole():
    assert FrameSymbols((500, 1024)).sizes == (500, 1024)
    assert FrameSymbols((65_536,)).sizes == (128, 512)
    assert FrameSymbols((64_000,)).sizes == (125, 512)


@pytest.mark.parametrize("codes", [np.array([[7]]), np.array([[-1]]), np.zeros((2, 1), int)])
def test_codes_that_do_not_fit(codes):
    with pytest.raises(MetricError):
        FrameSymbols((7,)).split(codes)
