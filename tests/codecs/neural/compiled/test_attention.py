"""Compiled transformers say what the modules say, the same whatever comes with a frame."""

import copy

import numpy as np
import pytest
import torch

from syllabary.codecs.neural.compiled.attention import (
    AttentionPast,
    PackedTransformer,
    packed_layers,
)
from syllabary.codecs.neural.compiled.packing import PackedStack
from syllabary.codecs.neural.layers.causal import CausalStack, StackConfig
from syllabary.codecs.neural.layers.transformer import CausalTransformer, TransformerConfig
from syllabary.errors import StateError

# Heads of a size that fills no vector, some, and four; windows of one frame, and of two spans.
CONFIGS = {
    "odd": TransformerConfig(21, 2, 3, 19, 5),
    "one frame": TransformerConfig(16, 1, 2, 8, 1),
    "wide heads": TransformerConfig(160, 1, 2, 70, 32),
    "shipped": TransformerConfig(256, 2, 4, 480, 32),
    "long": TransformerConfig(24, 2, 1, 30, 40),
}
FRAMES = 50
PIECES = (1, 1, 3, 4, 5, 28, 1, 7)


@pytest.fixture(params=CONFIGS, scope="module")
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def network(name: str, int8: bool) -> CausalTransformer:
    config = CONFIGS[name]
    fields = {**vars(config), "int8": int8}
    torch.manual_seed(0)
    stack = CausalTransformer(None, TransformerConfig(**fields)).eval()
    with torch.no_grad():
        for parameter in stack.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    return stack


def run(packed: PackedTransformer, x: np.ndarray, state: AttentionPast) -> np.ndarray:
    """What the layers make of frames of one row; the state is moved on."""
    y = x.copy()
    packed(y, np.array([0, len(y)]), [state])
    return y


def frames(width: int, dtype: type) -> np.ndarray:
    return (3 * np.random.default_rng(2).standard_normal((FRAMES, width))).astype(dtype)


@pytest.mark.parametrize("int8", [False, True])
@torch.no_grad()
def test_equals_the_module(name, int8):
    stack = network(name, int8)
    x = frames(stack.config.width, np.float64)
    expected, _ = copy.deepcopy(stack).double()(torch.from_numpy(x)[None])
    packed = PackedTransformer(stack, np.float64)
    found = run(packed, x, packed.init_state())
    np.testing.assert_allclose(found, expected[0].numpy(), rtol=0, atol=1e-12)


@torch.no_grad()
def test_single_precision_is_near(name):
    stack = network(name, False)
    x = frames(stack.config.width, np.float32)
    expected, _ = stack(torch.from_numpy(x)[None])
    packed = PackedTransformer(stack, np.float32)
    found = run(packed, x, packed.init_state())
    np.testing.assert_allclose(found, expected[0].numpy(), rtol=0, atol=5e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("int8", [False, True])
def test_any_number_of_frames_at_a_time(name, int8, dtype):
    packed = PackedTransformer(network(name, int8), dtype)
    x = frames(packed.width, dtype)
    end = packed.init_state()
    whole = run(packed, x, end)
    parts, state, at = [], packed.init_state(), 0
    for count in PIECES:
        parts.append(run(packed, x[at : at + count], state))
        at += count
    assert at == FRAMES
    assert np.array_equal(np.concatenate(parts), whole)
    # Whatever the past's places in memory, the next frame sees the same.
    assert state.at != end.at
    assert np.array_equal(run(packed, x[:1], state), run(packed, x[:1], end))


def test_a_place_outside_is_refused():
    packed = PackedTransformer(network("odd", False), np.float32)
    state = packed.init_state()
    state.check()
    for at in (-1, 10):
        state.at = at
        with pytest.raises(StateError, match="expected 0 to 9"):
            state.check()


@torch.no_grad()
def test_scores_far_apart():
    """Where all but one of the softmax's terms vanish."""
    stack = network("odd", False)
    stack.layers[0].attention.query.weight *= 1e4
    x = frames(21, np.float64)
    expected, _ = copy.deepcopy(stack).double()(torch.from_numpy(x)[None])
    packed = PackedTransformer(stack, np.float64)
    found = run(packed, x, packed.init_state())
    np.testing.assert_allclose(found, expected[0].numpy(), rtol=0, atol=1e-9)


def test_layers_have_their_compiled_form():
    config = CONFIGS["odd"]
    kinds = {
        PackedTransformer: CausalTransformer(7, config),
        PackedStack: CausalStack(7, StackConfig(width=8, blocks=1)),
    }
    for kind, stack in kinds.items():
        assert type(packed_layers(stack, np.float32)) is kind
