import numpy as np
import pytest

from syllabary.errors import DatasetError
from syllabary.lm.loading.mixture import Mixture

WEIGHTS = [(1.0,), (0.7, 0.3), (5, 1, 1), (1, 1e-4), tuple(range(1, 40))]


@pytest.mark.parametrize("weights", WEIGHTS)
def test_each_source_is_counted_on(weights):
    mixture = Mixture(weights, seed=7)
    total = 3 * mixture.block + 100 if len(weights) > 1 else 1000
    sources, numbers = mixture[np.arange(total)]
    for source in range(len(weights)):
        own = numbers[sources == source]
        assert own.tolist() == list(range(len(own)))


@pytest.mark.parametrize("weights", WEIGHTS[1:])
def test_shares_are_exact_at_every_block(weights):
    mixture = Mixture(weights, seed=0)
    for blocks in (1, 2, 1000):
        counts = np.array(mixture.counts(blocks))
        share = np.array(weights) / sum(weights) * blocks * mixture.block
        assert counts.sum() == blocks * mixture.block
        assert (np.abs(counts - share) <= len(weights) / 2 + 1e-3).all()
    first, second = (np.array(mixture.counts(n)) for n in (999, 1000))
    assert (second >= first).all()


def test_any_position_by_itself():
    mixture = Mixture((2, 1, 1), seed=1)
    total = 2 * mixture.block
    sources, numbers = mixture[np.arange(total)]
    for places in (np.array([5000, 3, 8000]), np.array([total - 1])):
        some, counts = Mixture((2, 1, 1), seed=1)[places]
        assert (some == sources[places]).all() and (counts == numbers[places]).all()
    other, _ = Mixture((2, 1, 1), seed=2)[np.arange(total)]
    assert (other != sources).any()


@pytest.mark.parametrize("weights", [(), (1, 0), (1, -1), (1, float("nan")), (1, float("inf"))])
def test_bad_weights(weights):
    with pytest.raises(DatasetError, match="positive"):
        Mixture(weights, 0)
