import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syllabary.errors import DatasetError
from syllabary.lm.loading import packing
from syllabary.lm.loading.packing import best_fit, by_length, concatenated
from syllabary.lm.loading.shuffle import Shuffle

PACKINGS = {
    "best-fit": best_fit,
    "concatenate": concatenated,
    "by-length": lambda *given: by_length(*given, 4, None),
    "by-tokens": lambda *given: by_length(*given, None, max(64, given[2])),
}


def rows_of(plan):
    return [
        list(
            zip(
                *(part[a:b].tolist() for part in (plan.items, plan.starts, plan.stops)), strict=True
            )
        )
        for a, b in zip(plan.row_starts[:-1], plan.row_starts[1:], strict=True)
    ]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(0, 50), max_size=40),
    st.integers(1, 40),
    st.sampled_from(sorted(PACKINGS)),
    st.integers(0, 9),
    st.sampled_from([3, 1 << 16]),
)
def test_every_step_is_in_one_row(lengths, context, name, key, block):
    lengths = np.array(lengths, np.int64)
    order = Shuffle(len(lengths), key).all()
    before, packing.BLOCK = packing.BLOCK, block
    try:
        plan = PACKINGS[name](order, lengths, context)
    finally:
        packing.BLOCK = before
    seen = [np.zeros(length, int) for length in lengths]
    rows = rows_of(plan)
    for row in rows:
        assert 0 < sum(stop - start for _, start, stop in row) <= context
        for item, start, stop in row:
            assert start < stop
            seen[item][start:stop] += 1
            if name != "concatenate" and lengths[item] <= context:
                assert (start, stop) == (0, lengths[item]), "cut without need"
    assert all((times == 1).all() for times in seen)
    assert plan.steps == lengths.sum() and plan.num_rows == len(rows)
    assert [r for unit in range(len(plan)) for r in plan.rows(unit)] == list(range(len(rows)))


def test_rows_are_full():
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.gamma(3, 170, 20_000).astype(np.int64), 30, 4000)
    order = Shuffle(len(lengths), 0).all()
    plan = best_fit(order, lengths, 2048)
    assert plan.num_rows * 2048 < 1.005 * lengths.sum()
    plan = concatenated(order, lengths, 2048)
    assert plan.num_rows == -(-lengths.sum() // 2048)


def test_best_fit_takes_the_fullest_row():
    """6, 5, 4 and 3 of 10: 4 goes to 6, 3 to 5."""
    plan = best_fit(np.arange(4), np.array([3, 4, 5, 6]), 10)
    assert {frozenset(item for item, *_ in row) for row in rows_of(plan)} == {
        frozenset({3, 1}), frozenset({2, 0}),
    }  # fmt: skip


def test_batches_keep_their_budget():
    rng = np.random.default_rng(1)
    lengths = rng.integers(1, 300, 5000)
    plan = by_length(np.arange(5000), lengths, 300, None, 1000)
    used = padded = 0
    for unit in range(len(plan)):
        rows = plan.rows(unit)
        sizes = [int(plan.stops[row] - plan.starts[row]) for row in rows]
        assert len(rows) * max(sizes) <= 1000
        used, padded = used + sum(sizes), padded + len(rows) * max(sizes)
    assert used > 0.97 * padded
    plan = by_length(np.arange(5000), lengths, 300, 16, None)
    assert {len(plan.rows(unit)) for unit in range(len(plan) - 1)} == {16}


@pytest.mark.parametrize("multiple", [1, 8, 7])
def test_padding_is_in_the_budget(multiple):
    lengths = np.random.default_rng(0).integers(1, 400, 3000)
    plan = by_length(np.arange(3000), lengths, 300, None, 1000, multiple)
    for unit in range(len(plan)):
        rows = plan.rows(unit)
        first = plan.row_starts[rows.start : rows.stop]
        longest = int((plan.stops[first] - plan.starts[first]).max())
        padded = min(300, -(-longest // multiple) * multiple)
        assert len(rows) * padded <= 1000
    assert plan.steps == lengths.sum()


def test_bad_batches():
    with pytest.raises(DatasetError, match="rows, or of tokens"):
        by_length(np.arange(1), np.array([3]), 8, None, None)
    with pytest.raises(DatasetError, match="no room"):
        by_length(np.arange(1), np.array([3]), 8, None, 7)
