from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from syllabary.eval.token_lm.network import FrameModel, NetworkConfig

TINY = NetworkConfig(width=8, layers=2, heads=2, window=3, depth_width=4, dropout=0.0)


def model_of(sizes, config=TINY):
    model = FrameModel(sizes, config, seed=3)
    with torch.no_grad():  # it begins with equal probabilities, which would hide every mistake
        generator = torch.Generator().manual_seed(1)
        model.out.normal_(0, 1, generator=generator)
        model.bias.normal_(0, 1, generator=generator)
    return model


def inputs(symbols, utterance=None):
    symbols = torch.as_tensor(symbols)[None]
    previous = torch.cat([torch.full_like(symbols[:, :1], -1), symbols[:, :-1]], 1)
    if utterance is None:
        utterance = torch.zeros(symbols.shape[:2], dtype=torch.long)
    return symbols, previous, utterance


@pytest.mark.parametrize("sizes", [(5,), (3, 2), (2, 4, 3)])
def test_probabilities_of_all_frames_sum_to_one(sizes):
    model = model_of(sizes)
    past = [[size - 1 for size in sizes], [0] * len(sizes)]
    with torch.no_grad():
        chances = [
            model(*inputs([*past, frame]))[0, -1].double().neg().exp().prod()
            for frame in product(*map(range, sizes))
        ]
    assert sum(chances) == pytest.approx(1, abs=1e-5)


@given(st.integers(0, 7), st.integers(0, 2), st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_nothing_depends_on_what_comes_later(frame, place, seed):
    sizes = (4, 3, 5)
    symbols = np.random.default_rng(seed).integers(0, sizes, (8, 3))
    changed = symbols.copy()
    changed[frame, place] = (changed[frame, place] + 1) % sizes[place]
    model = model_of(sizes)
    with torch.no_grad():
        before, after = (model(*inputs(rows))[0].reshape(-1) for rows in (symbols, changed))
    at = 3 * frame + place
    assert torch.allclose(before[:at], after[:at], atol=1e-6)
    assert not torch.allclose(before[at], after[at])
    # Everything within reach does depend on it; the next symbol always is.
    if at + 1 < len(before):
        assert not torch.allclose(before[at + 1], after[at + 1], atol=1e-6)


def test_frames_do_not_see_other_utterances():
    model = model_of((6,))
    rows = np.random.default_rng(0).integers(0, 6, (10, 1))
    symbols, previous, utterance = inputs(rows)
    previous[0, 4], utterance[0, 4:] = -1, 1
    with torch.no_grad():
        packed = model(symbols, previous, utterance)[0]
        alone = model(*inputs(rows[4:]))[0]
    assert torch.allclose(packed[4:], alone, atol=1e-5)


def test_it_begins_with_the_frequencies():
    model = FrameModel((3, 5), TINY, seed=0)
    symbols = inputs([[2, 4], [0, 1]])
    with torch.no_grad():
        even = model(*symbols)
        assert torch.allclose(even, torch.tensor([3.0, 5.0]).log().expand_as(even))
        model.set_frequencies([torch.tensor([1, 0, 3]), torch.tensor([0, 0, 0, 0, 9])])
        found = model(*symbols)[0]
    expected = -np.log([[3.5 / 5.5, 9.5 / 11.5], [1.5 / 5.5, 0.5 / 11.5]])
    assert np.allclose(found.numpy(), expected, atol=1e-5)


def test_weights_are_of_the_seed_alone():
    state = torch.random.get_rng_state()
    first, second, other = (FrameModel((4, 4), TINY, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(map(torch.equal, first.parameters(), second.parameters()))
    assert not torch.equal(first.embed, other.embed)
