"""Tiles of many rows in one call: every row as if it were alone, in calls of one shape."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from syllabary.codecs.neural.streams.tile_batches import TileBatches
from syllabary.codecs.neural.streams.tile_state import TileState

TILE, EMPTY = 4, torch.full((2,), -1.0)


def running_sums(calls=None):
    """The sum of a row's frames so far, and of the first feature the last but one frame's."""

    def function(tiles, state):
        assert tiles.shape[1:] == (TILE, 2)
        if calls is not None:
            calls.append(tuple(tiles.shape))
        total, last = state
        sums = total[:, None] + tiles.sum(2).cumsum(1)
        before = torch.cat([last, tiles[:, :-1, 0]], 1)
        return torch.stack([sums, before], 2), [sums[:, -1], tiles[:, -1:, 0]]

    return function


def batches(places, calls=None):
    def first():
        return [torch.zeros(1), torch.zeros(1, 1)]

    made = TileBatches(running_sums(calls), first, EMPTY.expand(TILE, 2), places)
    return made, lambda: TileState(first(), EMPTY.expand(TILE, 2).clone())


def expected(frames):
    before = torch.cat([torch.zeros(1), frames[:-1, 0]])[: len(frames)]
    return torch.stack([frames.sum(1).cumsum(0), before], 1)


@given(
    lengths=st.lists(st.integers(0, 75), min_size=1, max_size=7),
    places=st.sampled_from([1, 2, 3, 8]),
    cuts=st.integers(1, 4),
    seed=st.integers(0, 99),
)
@settings(max_examples=80, deadline=None)
def test_each_row_is_as_if_alone(lengths, places, cuts, seed):
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randint(0, 9, (n, 2), generator=generator).float() for n in lengths]
    runner, first = batches(places)
    states = [first() for _ in rows]
    found = [[] for _ in rows]
    done = [0] * len(rows)
    for cut in range(cuts):
        stops = [
            len(row)
            if cut == cuts - 1
            else int(torch.randint(at, len(row) + 1, (), generator=generator))
            for row, at in zip(rows, done, strict=True)
        ]
        new = [row[at:stop] for row, at, stop in zip(rows, done, stops, strict=True)]
        for row, pieces in enumerate(runner.push(new, states)):
            found[row] += pieces
        done = stops
    for row, pieces, state in zip(rows, found, states, strict=True):
        if len(row):
            assert torch.equal(torch.cat(pieces), expected(row))
        assert state.filled == len(row) % TILE
        whole = len(row) // TILE * TILE
        assert torch.equal(state.frames[: state.filled], row[whole:])
        assert torch.equal(state.frames[state.filled :], EMPTY.expand(TILE - state.filled, 2))
        assert state.network[0].tolist() == [float(row[:whole].sum())]


def test_calls_have_one_shape_and_are_as_few_as_can_be():
    calls = []
    runner, first = batches(3, calls)
    lengths = (9, 1, 40, 8, 0, 3)
    runner.push([torch.ones(n, 2) for n in lengths], [first() for _ in lengths])
    # The three longest together, then those of one tile.
    assert calls == [(3, TILE, 2)] * (40 // TILE + 1)


def test_what_comes_after_gets_frames_of_all_places():
    sizes = []

    def double(frames):
        sizes.append(frames.shape)
        return 2 * frames

    runner, first = batches(2)
    (pieces,) = runner.push([torch.ones(5, 2)], [first()], double)
    assert torch.equal(torch.cat(pieces), 2 * expected(torch.ones(5, 2)))
    assert sizes == [(2 * TILE, 2)] * 2


@pytest.mark.parametrize("places", [1, 4])
def test_no_frames_are_no_call(places):
    calls = []
    runner, first = batches(places, calls)
    assert runner.push([torch.zeros(0, 2)] * 3, [first() for _ in range(3)]) == [[], [], []]
    assert not calls
