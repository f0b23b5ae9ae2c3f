"""Levels and flatness of patches of spectrograms."""

import math

import pytest
import torch

from syllabary.training.losses.texture import TextureLoss, TextureLossConfig

from ..conftest import synthetic_speech


@pytest.fixture(scope="module")
def loss():
    return TextureLoss()


def speech(rows=2, samples=16_000):
    return torch.stack([torch.from_numpy(synthetic_speech(samples, row)) for row in range(rows)])


def test_a_gain_is_heard_as_its_logarithm():
    torch.manual_seed(0)
    noise = torch.randn(2, 16_000)
    loss = TextureLoss(TextureLossConfig(floor=1e-9))
    assert float(loss(noise, noise)) == 0
    for gain in (0.5, 2.0):
        assert float(loss(gain * noise, noise)) == pytest.approx(math.log(2), rel=1e-3)


def test_points_do_not_count_and_peaks_do(loss):
    """Another noise of the same level is near; a hum of the same level is not."""
    generator = torch.Generator().manual_seed(0)
    one, other = torch.randn(2, 1, 64_000, generator=generator)
    times = torch.arange(64_000) / 16_000
    partials = torch.stack([torch.sin(2 * math.pi * 100 * k * times + k * k) for k in range(1, 80)])
    hum = partials.sum(0)[None]
    hum = hum / hum.square().mean().sqrt()
    flat = TextureLoss(TextureLossConfig(flatness_weight=0.0))
    assert float(loss(other, one)) < 0.35
    assert float(loss(hum, one)) - float(flat(hum, one)) > 0.5


def test_gradients_at_silence_are_finite(loss):
    for target in (torch.zeros(1, 12_000), speech(1, 12_000)):
        prediction = torch.zeros(1, 12_000, requires_grad=True)
        loss(prediction, target).backward()
        assert bool(prediction.grad.isfinite().all())


def test_padding_has_no_influence(loss):
    wave, other = speech(), 0.5 * speech().flip(0)
    lengths = torch.tensor([16_000, 9_000])
    expected = loss(other, wave, lengths)
    rubbish = other.clone()
    rubbish[1, 9_000:] = float("nan")
    assert torch.equal(loss(rubbish, wave, lengths), expected)
    rows = [loss(other[:1], wave[:1]), loss(other[1:, :9_000], wave[1:, :9_000])]
    assert float(expected) == pytest.approx(float(sum(rows) / 2), rel=0.05)


def test_what_is_shorter_than_a_patch_has_no_loss(loss):
    assert float(loss(torch.zeros(1, 500), torch.ones(1, 500))) == 0
