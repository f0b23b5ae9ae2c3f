import heapq
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syllabary.eval.metrics.interface import MetricError
from syllabary.eval.unit_measures.rates import bitrate, huffman_lengths, unit_rates, usage

counts = st.lists(st.integers(0, 50), min_size=1, max_size=40).map(np.array)


def test_bitrate():
    assert bitrate([100, 50], [1024, 2], 10) == (100 * 10 + 50 * 1) / 10
    assert bitrate([3], [500], 1) == pytest.approx(3 * math.log2(500))
    for wrong in (([1], [2], 0), ([1], [0], 1), ([1, 2], [2], 1)):
        with pytest.raises(MetricError):
            bitrate(*wrong)


@given(counts)
def test_huffman(count):
    lengths = huffman_lengths(count)
    present = count > 0
    assert ((lengths > 0) == present).all()
    if present.sum() > 1:
        assert sum(2.0 ** -lengths[present]) == 1  # a full prefix code
        # The sum of all inner nodes is the least cost that any prefix code can have.
        heap, cost = [int(value) for value in count[present]], 0
        heapq.heapify(heap)
        while len(heap) > 1:
            node = heapq.heappop(heap) + heapq.heappop(heap)
            cost += node
            heapq.heappush(heap, node)
        assert (lengths * count).sum() == cost
    assert (lengths == huffman_lengths(count)).all()


@given(counts.filter(lambda count: count.sum() > 0))
def test_usage(count):
    found = usage([np.repeat(np.arange(len(count)), count)], len(count))
    assert found.num_symbols == count.sum() and found.used == (count > 0).sum()
    assert found.perplexity <= found.used * (1 + 1e-9)
    if found.used > 1:
        assert found.entropy - 1e-9 <= found.huffman < found.entropy + 1
    else:
        assert found.entropy == 0 and found.huffman == 1


def test_rates_of_units():
    units = [np.array([0, 0, 0, 1, 1, 2]), np.array([3, 3])]
    found = unit_rates(units, 4, seconds=2)
    assert found.frames == 8 * 2 / 2 and found.deduplicated == 4 * 2 / 2
    assert found.compression == 2 and found.usage.used == 4
    assert found.huffman == found.deduplicated  # all equally frequent
    assert found.entropy == pytest.approx(found.huffman, rel=1e-12)
    with pytest.raises(MetricError, match="out of range"):
        unit_rates(units, 3, seconds=2)
    with pytest.raises(MetricError, match="no units"):
        unit_rates([np.zeros(0, int)], 3, seconds=2)
