"""Finite scalar quantization as a module."""

import math

import pytest
import torch

from syllabary.errors import QuantizerError
from syllabary.quantizers.finite_scalar import fsq_bound, fsq_encode
from syllabary.quantizers.modules import (
    FSQ_LEVELS,
    FiniteScalarQuantizer,
    FiniteScalarQuantizerConfig,
    ResidualFiniteScalarQuantizer,
)


def frames(*shape, seed=0):
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def quantizer(levels, stages=1, **settings):
    config = FiniteScalarQuantizerConfig(levels, **settings)
    return ResidualFiniteScalarQuantizer(config, stages)


@pytest.mark.parametrize("name", FSQ_LEVELS)
def test_published_levels_against_vector_quantize_pytorch(name):
    package = pytest.importorskip("vector_quantize_pytorch")
    levels = FSQ_LEVELS[name]
    assert math.prod(levels) == pytest.approx(2 ** int(name[2:]), rel=0.08)
    module = FiniteScalarQuantizer(FiniteScalarQuantizerConfig(levels)).eval()
    x = frames(2, 300, len(levels))
    quantized, codes = package.FSQ(list(levels)).eval()(x)
    assert torch.equal(module.encode(x)[:, 0], codes.long())
    assert torch.allclose(module(x).quantized, quantized, atol=1e-6)


def test_projections_and_gradients_against_vector_quantize_pytorch():
    package = pytest.importorskip("vector_quantize_pytorch")
    torch.manual_seed(0)
    oracle = package.FSQ([8, 5, 5], dim=7)
    module = quantizer((8, 5, 5), dim=7)
    for name in ("project_in", "project_out"):
        getattr(module, name).load_state_dict(getattr(oracle, name).state_dict())
    x, weights = frames(2, 100, 7), frames(2, 100, 7, seed=1)
    gradients = []
    for forward in (lambda leaf: oracle(leaf)[0], lambda leaf: module.train()(leaf).quantized):
        leaf = x.clone().requires_grad_()
        (forward(leaf) * weights).sum().backward()
        gradients.append(leaf.grad)
    assert torch.allclose(*gradients, atol=1e-5)
    assert torch.allclose(module.project_in.weight.grad, oracle.project_in.weight.grad, atol=1e-3)


def test_the_gradient_is_that_of_the_bound():
    levels = (8, 5, 2)
    module = quantizer(levels)
    x = frames(2, 50, 3)
    for training in (True, False):
        leaf, other = x.clone().requires_grad_(), x.clone().requires_grad_()
        module.train(training)(leaf).quantized.sum().backward()
        (fsq_bound(other, levels) / torch.tensor([4.0, 2, 1])).sum().backward()
        assert torch.allclose(leaf.grad, other.grad)


@pytest.mark.parametrize("levels", [(5, 5), (4, 4), (8, 3, 2), (2, 2)])
def test_each_stage_divides_the_step_of_the_one_before(levels):
    """The promised bound on the error, and that no level of any stage is left unused."""
    module = quantizer(levels, 4).eval()
    x = frames(1, 20000, len(levels))
    half_width = torch.tensor([float(size // 2) for size in levels])
    bounded = fsq_bound(x.double(), levels) / half_width
    codes = module.encode(x)
    assert torch.equal(codes[:, 0], fsq_encode(x, levels))
    for stages in range(1, 5):
        error = (module.decode(codes[:, :stages]) - bounded).abs().amax((0, 1))
        half_step = 0.5 / half_width / torch.tensor(levels) ** (stages - 1)
        # The bound goes a thousandth over the outermost level; float32 rounds at 1e-7.
        assert (error <= half_step * 1.001 + 4e-7).all()
        assert (error >= half_step * 0.9).all()
        assert len(codes[:, stages - 1].unique()) == math.prod(levels)


def test_one_stage_with_as_many_levels_is_as_good():
    """3 stages of 3 levels cover 27 levels of one channel, each once."""
    module = quantizer((3,), 3).eval()
    position = (torch.arange(27) - 13) / 27 * 3
    x = torch.atanh(position.double() / (1.0 * 1.001)).float()[None, :, None]
    finite = x.isfinite()[0, :, 0]
    codes = module.encode(x[:, finite])
    digits = (codes * torch.tensor([9, 3, 1])[:, None]).sum(1)
    assert torch.equal(digits[0], torch.arange(27)[finite])


class TestNoise:
    def run(self, stages, share=0.5):
        levels = (5, 4)
        module = quantizer(levels, stages, noise_dropout=share)
        x = frames(2, 4000, 2)
        torch.manual_seed(0)
        result = module.train()(x)
        bounded = fsq_bound(x, levels) / 2
        rounded = module.decode(result.codes)
        noisy = (result.quantized != rounded).any(-1)
        return module, x, result, bounded, rounded, noisy

    @pytest.mark.parametrize("stages", [1, 2])
    def test_a_random_part_of_frames_gets_noise_of_a_step(self, stages):
        module, x, result, bounded, _, noisy = self.run(stages)
        assert float(noisy.float().mean()) == pytest.approx(0.5, abs=0.03)
        steps = 0.5 / torch.tensor([5.0, 4.0]) ** (stages - 1)
        noise = (result.quantized - bounded)[noisy] / steps
        assert (noise.abs() <= 0.5 + 1e-4).all()
        assert torch.allclose(noise.mean(0), torch.zeros(2), atol=0.02)
        assert torch.allclose(noise.var(0), torch.full((2,), 1 / 12), atol=0.004)
        assert torch.equal(result.codes, module.encode(x))

    def test_never_in_eval_mode_and_always_if_asked_for(self):
        module, x, result, _, rounded, _ = self.run(1)
        assert torch.equal(module.eval()(x).quantized, rounded)
        assert torch.equal(module(x).codes, result.codes)
        assert bool(self.run(1, 1.0)[-1].all())
        assert not bool(self.run(1, 0.0)[-1].any())


@pytest.mark.parametrize(
    "settings",
    [
        {"levels": ()},
        {"levels": (5, 1)},
        {"levels": (1 << 32, 1 << 32)},
        {"levels": (5,), "dim": 0},
        {"levels": (5,), "noise_dropout": 1.5},
    ],
)
def test_bad_settings(settings):
    with pytest.raises(QuantizerError):
        quantizer(**settings)


def test_statistics_of_codebooks_too_large_for_a_table():
    module = quantizer((1000,) * 6).eval()
    result = module(frames(1, 50, 6))
    assert float(result.statistics["perplexity"]) == pytest.approx(50, rel=1e-4)
    assert float(result.statistics["used_share"]) == pytest.approx(50e-18)
