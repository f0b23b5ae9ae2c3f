import math

import numpy as np
import pytest
import torch

from syllabary.eval.metrics.interface import MetricError
from syllabary.eval.token_lm.fitting import Budget, train
from syllabary.eval.token_lm.network import NetworkConfig

SMALL = NetworkConfig(width=32, layers=1, heads=2, window=8, depth_width=16)
QUICK = Budget(frames=16_000, length=32, batch=4, rate=2e-2, checks=3)


def markov(states, stay, count, length, seed):
    """Chains that stay with some probability, and else go anywhere: (1, length) each."""
    random = np.random.default_rng(seed)
    chains = []
    for _ in range(count):
        chain = np.empty(length, np.int64)
        chain[0] = random.integers(states)
        for frame in range(1, length):
            same = random.random() < stay
            chain[frame] = chain[frame - 1] if same else random.integers(states)
        chains.append(chain[None])
    return chains


def entropy_rate(states, stay):
    chances = np.full(states, (1 - stay) / states)
    chances[0] += stay
    return float(-(chances * np.log2(chances)).sum())


def test_a_markov_source_costs_its_entropy_rate():
    chains = markov(20, 0.7, 60, 100, seed=0)
    model = train(chains[:36], chains[36:40], (20,), QUICK, SMALL)
    bits = model.bits(chains[40:])
    # First codes cost log2(20); codes by themselves are even, so all is in what came before.
    expected = 20 * (math.log2(20) + 99 * entropy_rate(20, 0.7))
    assert bits.shape == (20,) and model.kept > 0
    assert expected * 0.95 < bits.sum() < expected * 1.05
    assert bits.sum() < 0.6 * 20 * 100 * math.log2(20)


def test_random_codes_cost_what_they_hold():
    random = np.random.default_rng(1)
    sizes = (16, 700, 3000)
    rows = [random.integers(0, np.array(sizes)[:, None], (3, 80)) for _ in range(30)]
    model = train(rows[:16], rows[16:20], sizes, Budget(4000, 32, 4, checks=2), SMALL)
    even = 10 * 80 * sum(map(math.log2, sizes))
    assert even * 0.999 < model.bits(rows[20:]).sum() < even * 1.05


def test_later_codebooks_are_told_by_earlier_ones():
    """The second codebook repeats the first one's code, the third one that of the last frame."""
    random = np.random.default_rng(2)
    rows = []
    for _ in range(40):
        first = random.integers(0, 8, 60)
        rows.append(np.stack([first, first, np.concatenate([[0], first[:-1]])]))
    model = train(rows[:30], rows[30:34], (8, 8, 8), QUICK, SMALL)
    bits_a_frame = model.bits(rows[34:]).sum() / (6 * 60)
    assert 2.95 < bits_a_frame < 3.4  # of 9; the first codebook alone holds 3


@pytest.fixture(scope="module")
def trained():
    chains = markov(300, 0.5, 20, 50, seed=3)
    return train(chains[:15], chains[15:], (300,), Budget(3000, 16, 2, checks=1), SMALL), chains


def test_utterances_do_not_depend_on_their_neighbours(trained):
    model, chains = trained
    chains = [*chains, *markov(300, 0.5, 1, 1200, seed=4), np.zeros((1, 0), np.int64)]
    together = model.bits(chains)
    alone = np.concatenate([model.bits([chain]) for chain in chains])
    assert np.allclose(together, alone, rtol=1e-5) and together[-1] == 0
    assert np.allclose(model.bits(chains[::-1])[::-1], together, rtol=1e-5)
    assert len(model.bits([])) == 0


def test_runs_and_threads_agree_to_the_last_bit(trained):
    model, chains = trained
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        again = train(chains[:15], chains[15:], (300,), Budget(3000, 16, 2, checks=1), SMALL)
        assert torch.get_num_threads() == 2
        assert np.array_equal(again.bits(chains), model.bits(chains))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert again.held_out == model.held_out


def test_the_best_state_is_kept():
    """Codes of a large codebook, hardly any twice: training on them can only do harm."""
    random = np.random.default_rng(5)
    rows = [random.integers(0, 1000, (1, 40)) for _ in range(12)]
    model = train(rows[:8], rows[8:], (1000,), Budget(6_000, 32, 4, 1e-2, checks=4), SMALL)
    assert model.kept == int(np.argmin(model.held_out)) < 4
    # The mixture is no worse than the network alone, on what chose its weights.
    assert model.bits(rows[8:]).sum() / (4 * 40) <= model.held_out[model.kept] + 0.01


def test_nothing_to_train_on():
    rows = [np.zeros((1, 5), np.int64)]
    for shown, asked in (([], rows), (rows, []), ([np.zeros((1, 0), np.int64)], rows)):
        with pytest.raises(MetricError, match="no frames"):
            train(shown, asked, (4,), QUICK, SMALL)
    with pytest.raises(MetricError, match="range"):
        train([np.array([[4]])], rows, (4,), QUICK, SMALL)
