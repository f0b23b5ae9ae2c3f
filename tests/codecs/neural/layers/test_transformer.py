"""Causal transformers: the past is an argument, and any split of the input gives the whole."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from syllabary.codecs.neural.layers.transformer import (
    CausalTransformer,
    Int8Linear,
    TransformerConfig,
)

CONFIG = TransformerConfig(width=6, layers=2, heads=3, feed_forward=10, window=4)


def network(config=CONFIG, in_features=5):
    torch.manual_seed(0)
    return CausalTransformer(in_features, config).double().eval()


@given(
    cuts=st.lists(st.integers(0, 23), max_size=6),
    window=st.integers(1, 40),
    in_features=st.sampled_from([None, 5]),
    int8=st.booleans(),
)
@settings(max_examples=30, deadline=None)
@torch.no_grad()
def test_any_split_gives_the_whole(cuts, window, in_features, int8):
    config = TransformerConfig(6, 2, 2, 10, window, int8)
    layers = network(config, in_features)
    x = torch.randn(2, 23, in_features or 6, dtype=torch.float64)
    whole, end = layers(x)
    parts, state = [], None
    for start, stop in pairwise([0, *sorted(cuts), 23]):
        if stop > start:
            y, state = layers(x[:, start:stop], state)
            parts.append(y)
    assert torch.allclose(torch.cat(parts, 1), whole, rtol=1e-10, atol=1e-12)
    for ours, theirs in zip(state, end, strict=True):
        assert ours.shape == (2, window - 1, 6)
        assert torch.allclose(ours, theirs, rtol=1e-10, atol=1e-12)


@torch.no_grad()
def test_attention_is_what_the_paper_says():
    """Shaw et al.: softmax over q·(k + a) / √d, written out for each frame and head."""
    layers = network()
    attention = layers.layers[0].attention
    x = torch.randn(1, 9, 6, dtype=torch.float64)
    nothing = torch.zeros(1, 3, 6, dtype=torch.float64)
    got, _, _ = attention(x, nothing, nothing)
    q, k, v = attention.query(x)[0], attention.key(x)[0], attention.value(x)[0]
    k, v = torch.cat([nothing[0], k]), torch.cat([nothing[0], v])
    for t in range(9):
        mixed = []
        for head in range(3):
            at = slice(2 * head, 2 * head + 2)
            scores = [
                float(q[t, at] @ (k[t + o, at] + attention.distances[o])) / math.sqrt(2)
                for o in range(4)
            ]
            weights = torch.tensor(scores, dtype=torch.float64).softmax(0)
            mixed.append(sum(weights[o] * v[t + o, at] for o in range(4)))
        assert torch.allclose(got[0, t], attention.outward(torch.cat(mixed)))


def test_a_frame_hears_its_windows_alone():
    layers = network()
    x = torch.randn(1, 30, 5, dtype=torch.float64, requires_grad=True)
    # Not a plain sum: that of what a norm gives is the same whatever it is given.
    layers(x)[0][0, 20].square().mul(torch.arange(1, 7)).sum().backward()
    heard = x.grad[0].abs().sum(1)
    first = 20 - CONFIG.layers * (CONFIG.window - 1)
    assert heard.nonzero().flatten().tolist() == list(range(first, 21))
    assert float(heard[first:21].min()) > 1e-6  # far above what rounding would leave


@torch.no_grad()
def test_a_shift_in_time_shifts_the_result():
    layers = network()
    x = torch.randn(1, 40, 5, dtype=torch.float64)
    reach = CONFIG.layers * (CONFIG.window - 1)
    here, _ = layers(x)
    there, _ = layers(x[:, 11:])
    assert torch.allclose(here[:, 11 + reach :], there[:, reach:], rtol=1e-12)


@torch.no_grad()
def test_a_state_is_not_changed_by_its_use():
    layers = network()
    x = torch.randn(1, 9, 5, dtype=torch.float64)
    _, state = layers(x)
    kept = [part.clone() for part in state]
    assert torch.equal(layers(x, state)[0], layers(x, state)[0])
    assert all(map(torch.equal, state, kept))


@torch.no_grad()
def test_macs_are_those_of_layers_and_attention():
    config = TransformerConfig(32, 2, 4, 64, 8)
    layers = CausalTransformer(5, config)
    one = torch.randn(1, 1, 5)
    with FlopCounterMode(display=False) as counter:
        layers(one, layers.init_state(1))
    assert counter.get_total_flops() / 2 == layers.macs_per_frame


@torch.no_grad()
def test_int8_layers_are_near_and_whole_numbers():
    torch.manual_seed(0)
    layer = Int8Linear(64, 33)
    x = torch.randn(3, 7, 64)
    exact = torch.nn.functional.linear(x, layer.weight, layer.bias)
    assert torch.equal(layer.train()(x), exact)
    rounded = layer.eval()(x)
    error = (rounded - exact).norm() / exact.norm()
    assert 1e-4 < float(error) < 0.02
    assert torch.equal(layer(x[1:2]), rounded[1:2])
    assert torch.equal(layer(torch.zeros(1, 64)), layer.bias[None])
    # The same whatever the scale: activations have a scale for each frame.
    louder = layer(x * 1024) - layer.bias
    assert torch.allclose(louder, (rounded - layer.bias) * 1024, atol=1e-2)


@pytest.mark.parametrize("field", ["width", "layers", "heads", "feed_forward", "window"])
def test_sizes_are_positive(field):
    fields = {"width": 4, "layers": 1, "heads": 2, "feed_forward": 8, "window": 2, field: 0}
    with pytest.raises(ValueError, match=f"must be positive.*{field}=0"):
        TransformerConfig(**fields)


def test_heads_divide_the_width():
    with pytest.raises(ValueError, match="3 heads don't divide a width of 4"):
        TransformerConfig(4, 1, 3, 8, 2)
