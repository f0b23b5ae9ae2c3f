"""Causal stacks: the past is an argument, and any split of the input gives the whole's output."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from syllabary.codecs.neural.layers.causal import CausalStack, StackConfig

CONFIG = StackConfig(width=6, blocks=3, expansion=2, kernel=4)


def stack(config=CONFIG, in_features=5):
    torch.manual_seed(0)
    return CausalStack(in_features, config).double().eval()


@given(
    cuts=st.lists(st.integers(0, 23), max_size=6),
    kernel=st.integers(1, 7),
    in_features=st.sampled_from([None, 5]),
)
@settings(max_examples=30, deadline=None)
@torch.no_grad()
def test_any_split_gives_the_whole(cuts, kernel, in_features):
    config = StackConfig(width=6, blocks=2, expansion=2, kernel=kernel)
    network = stack(config, in_features)
    x = torch.randn(2, 23, in_features or 6, dtype=torch.float64)
    whole, end = network(x)
    parts, state = [], None
    edges = [0, *sorted(cuts), 23]
    for start, stop in pairwise(edges):
        if stop > start:
            y, state = network(x[:, start:stop], state)
            parts.append(y)
    assert torch.allclose(torch.cat(parts, 1), whole, rtol=1e-10, atol=1e-12)
    for ours, theirs in zip(state, end, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-10, atol=1e-12)


@torch.no_grad()
def test_it_starts_from_a_state_of_zeros():
    network = stack()
    x = torch.randn(2, 9, 5, dtype=torch.float64)
    assert torch.equal(network(x)[0], network(x, network.init_state(2))[0])


@torch.no_grad()
def test_a_state_is_not_changed_by_its_use():
    network = stack()
    x = torch.randn(1, 9, 5, dtype=torch.float64)
    _, state = network(x)
    kept = [part.clone() for part in state]
    first, _ = network(x, state)
    second, _ = network(x, state)
    assert torch.equal(first, second)
    assert all(map(torch.equal, state, kept))


def test_a_frame_hears_itself_and_its_receptive_field_alone():
    network = stack()
    x = torch.randn(1, 30, 5, dtype=torch.float64, requires_grad=True)
    # Not a plain sum: that of what a norm gives is the same whatever it is given.
    weights = torch.arange(1.0, 1 + CONFIG.width, dtype=torch.float64)
    (network(x)[0][0, 20].square() @ weights).backward()
    heard = x.grad[0].abs().sum(1)
    first = 20 - CONFIG.blocks * (CONFIG.kernel - 1)
    assert heard.nonzero().flatten().tolist() == list(range(first, 21))
    assert float(heard[first:21].min()) > 1e-12  # far above what rounding would leave


def test_macs_are_those_of_the_layers():
    network = CausalStack(5, CONFIG)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.randn(1, 50, 5))
    assert counter.get_total_flops() / 2 / 50 == pytest.approx(network.macs_per_frame, rel=0.1)


@pytest.mark.parametrize("field", ["width", "blocks", "expansion", "kernel"])
def test_sizes_are_positive(field):
    fields = {"width": 4, "blocks": 1, field: 0}
    with pytest.raises(ValueError, match=f"must be positive.*{field}=0"):
        StackConfig(**fields)
