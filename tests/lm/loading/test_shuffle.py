from collections import Counter
from itertools import permutations

import numpy as np
import pytest

from syllabary.lm.loading.shuffle import Shuffle, mixed


@pytest.mark.parametrize("size", [0, 1, 2, 3, 7, 64, 1000, 4097])
def test_everything_stands_somewhere_once(size):
    for key in range(5):
        assert sorted(Shuffle(size, key).all().tolist()) == list(range(size))


def test_a_place_is_the_same_by_itself():
    shuffle = Shuffle(1000, 3)
    places = np.array([999, 0, 512])
    assert (shuffle[places] == shuffle.all()[places]).all()


def test_orders_are_equally_likely():
    """All 24 orders of four things: chi-squared with 23 degrees of freedom stays below 60, which a
    fair shuffle exceeds once in 30,000 times; the keys are fixed."""
    found = Counter(tuple(Shuffle(4, mixed(key)).all().tolist()) for key in range(4800))
    assert set(found) == set(permutations(range(4)))
    assert sum((count - 200) ** 2 / 200 for count in found.values()) < 60


def test_neighbours_are_not_kept():
    order = Shuffle(20_000, 5).all()
    steps = np.abs(np.diff(order))
    assert abs(steps.mean() / (20_000 / 3) - 1) < 0.05
    assert abs(np.corrcoef(order, np.arange(20_000))[0, 1]) < 0.03


def test_the_order_is_for_ever():
    """A run that goes on with another release must find the same order."""
    assert mixed(1, 2, 3) == 0x6AE515C1C0AC7E37
    assert Shuffle(10, 42).all().tolist() == [3, 9, 4, 5, 0, 7, 1, 2, 8, 6]
