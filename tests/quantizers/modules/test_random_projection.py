"""The random-projection quantizer."""

import pytest
import torch
from torch.nn import functional

from syllabary.errors import QuantizerError
from syllabary.quantizers.modules import RandomProjectionQuantizer, RandomProjectionQuantizerConfig


def quantizer(**settings):
    settings = {"dim": 20, "codebook_size": 64, "codebook_dim": 8, **settings}
    return RandomProjectionQuantizer(RandomProjectionQuantizerConfig(**settings))


def features(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(*shape, generator=generator) + torch.arange(shape[-1]) - 5


def by_hand(module, x):
    """Float64: the paper's argmin of distances between unit vectors."""
    codes = []
    for matrix, codebook in zip(module.projections, module.codebooks, strict=True):
        unit = functional.normalize(x.double() @ matrix.double().T, dim=-1)
        codes.append(torch.cdist(unit, codebook.double()[None]).argmin(-1))
    return torch.stack(codes, 1)


def test_codes_by_hand_with_normalization_over_valid_frames():
    module = quantizer(num_codebooks=3)
    x, lengths = features(2, 200, 20), (200, 80)
    mask = torch.arange(200) < torch.tensor(lengths)[:, None]
    codes = module(x, mask).codes
    assert torch.equal(module.encode(x, mask), codes)
    for row, length in enumerate(lengths):
        part = x[row, None, :length].double()
        part = (part - part.mean(1)) / part.std(1, correction=0)
        assert torch.equal(by_hand(module, part), codes[row, None, :, :length])
        # An utterance alone, without padding, has the same codes.
        assert torch.equal(module.encode(x[row, None, :length]), codes[row, None, :, :length])
    assert not torch.equal(module.encode(x)[1, :, :80], codes[1, :, :80])


def test_given_statistics_and_none():
    module = quantizer(normalization="given")
    x = features(2, 100, 20)
    mean, deviation = x.mean((0, 1)), x.std((0, 1))
    assert torch.equal(module.encode(x), by_hand(module, x))
    module.set_statistics(mean, deviation)
    assert torch.equal(module.encode(x), by_hand(module, (x - mean) / deviation))
    assert torch.equal(quantizer(normalization="none").encode(x), by_hand(quantizer(), x))
    for wrong in ((mean[:3], deviation), (mean, deviation * 0), (mean * torch.nan, deviation)):
        with pytest.raises(QuantizerError):
            module.set_statistics(*wrong)


def test_normalization_is_what_keeps_codes_in_use():
    """Features far off zero all point one way."""
    x = features(4, 500, 20) + 100
    used = quantizer().eval()(x).statistics["used_share"]
    assert (
        float(used) > 0.9 > 0.3 > float(quantizer(normalization="none")(x).statistics["used_share"])
    )


def test_frozen_and_from_the_seed():
    module = quantizer(num_codebooks=2)
    assert list(module.parameters()) == []
    before = module.projections.clone(), module.codebooks.clone()
    result = module.train()(features(2, 50, 20).requires_grad_())
    assert not result.quantized.requires_grad and result.losses == {}
    assert torch.equal(before[0], module.projections)
    assert torch.equal(before[1], module.codebooks)
    torch.rand(3)
    assert torch.equal(quantizer(num_codebooks=2).projections, before[0])
    assert not torch.equal(quantizer(num_codebooks=2, seed=1).projections, before[0])
    assert not torch.equal(before[0][0], before[0][1])
    assert torch.allclose(before[1].norm(dim=-1), torch.ones(2, 64))
    # Xavier's uniform bound and variance.
    bound = (6 / (20 + 8)) ** 0.5
    assert 0.9 * bound < float(before[0].abs().max()) <= bound
    assert float(before[0].var()) == pytest.approx(bound**2 / 3, rel=0.15)


def test_quantized_are_the_unit_vectors_side_by_side():
    module = quantizer(num_codebooks=2)
    result = module(features(2, 50, 20))
    for index in range(2):
        part = result.quantized[..., 8 * index : 8 * index + 8]
        assert torch.equal(part, module.codebooks[index][result.codes[:, index]])
    with pytest.raises(QuantizerError, match="all 2"):
        module.decode(result.codes[:, :1])


def test_silence_and_single_frames():
    module = quantizer()
    assert module(torch.zeros(2, 30, 20)).codes.shape == (2, 1, 30)
    assert module(features(2, 1, 20)).codes.shape == (2, 1, 1)


@pytest.mark.parametrize("settings", [{"normalization": "x"}, {"dim": 0}, {"seed": -1}])
def test_bad_settings(settings):
    with pytest.raises(QuantizerError):
        quantizer(**settings)
