"""The distance between power-compressed spectra."""

import pytest
import torch

from syllabary.errors import TrainingError
from syllabary.training.losses.compressed import CompressedLossConfig, CompressedSpectralLoss

from ..conftest import synthetic_speech


@pytest.fixture(scope="module")
def loss():
    return CompressedSpectralLoss()


def speech(rows=2, samples=8000):
    return torch.stack([torch.from_numpy(synthetic_speech(samples, row)) for row in range(rows)])


def test_it_is_nothing_between_equals(loss):
    assert float(loss(speech(), speech())) < 1e-10
    assert float(loss(speech(), -speech())) < 1e-10  # phase does not count
    assert float(loss(torch.zeros(2, 3000), torch.zeros(2, 3000))) < 1e-10
    assert float(loss(speech(), 0.9 * speech())) > 1e-6


def test_it_grows_with_noise_and_with_lost_level(loss):
    wave = speech()
    torch.manual_seed(0)
    noise = torch.randn_like(wave)
    noisy = [float(loss(wave + size * noise, wave)) for size in (1e-3, 1e-2, 1e-1)]
    assert 0 < noisy[0] < noisy[1] < noisy[2]
    softer = [float(loss(gain * wave, wave)) for gain in (0.9, 0.5, 0.1, 0.0)]
    assert softer == sorted(softer) and softer[0] > 0


def test_it_is_the_squared_difference_of_compressed_magnitudes():
    config = CompressedLossConfig(window_lengths=(512,), floor=0.0)
    time = torch.arange(16_000) / 16_000
    tone = (2 * torch.pi * 1000 * time).sin()[None]  # in the middle of a bin of 512
    loud, soft = 0.1 * tone, 0.05 * tone
    measured = CompressedSpectralLoss(config)(loud, soft)
    # By definition of a power, the compressed spectra are in the ratio 2^0.3.
    zero = CompressedSpectralLoss(config)(loud, 1e-9 * tone)
    assert float(measured / zero) == pytest.approx((1 - 0.5**0.3) ** 2, rel=0.05)


def test_loud_parts_count_for_more(loss):
    """By 0.3 of its level, where a logarithm counts all levels alike."""
    wave = speech(1)
    errors = [float(loss(0.7 * scale * wave, scale * wave)) for scale in (1.0, 0.1)]
    assert errors[0] / errors[1] == pytest.approx(10**0.6, rel=0.15)


def test_gradients_at_silence_are_finite(loss):
    for target in (torch.zeros(1, 4000), speech(1, 4000)):
        prediction = torch.zeros(1, 4000, requires_grad=True)
        loss(prediction, target).backward()
        assert bool(prediction.grad.isfinite().all())
    target = speech(1, 4000).requires_grad_()
    prediction = (0.5 * speech(1, 4000)).requires_grad_()
    loss(prediction, target).backward()
    assert target.grad is None
    assert prediction.grad.abs().sum() > 0 and bool(prediction.grad.isfinite().all())


def test_following_the_gradient_helps(loss):
    target, prediction = speech(1, 4000), 0.01 * torch.randn(1, 4000)
    before = float(loss(prediction, target))
    prediction.requires_grad_()
    loss(prediction, target).backward()
    step = 1e-4 * prediction.grad / prediction.grad.norm()
    assert float(loss((prediction - step).detach(), target)) < before


def test_padding_has_no_influence(loss):
    wave, other = speech(), 0.5 * speech().flip(0)
    lengths = torch.tensor([8000, 5000])
    expected = loss(other, wave, lengths)
    rubbish = other.clone()
    rubbish[1, 5000:] = float("nan")
    assert torch.equal(loss(rubbish, wave, lengths), expected)
    rows = [loss(other[:1], wave[:1]), loss(other[1:, :5000], wave[1:, :5000])]
    assert float(expected) == pytest.approx(float(sum(rows) / 2), rel=0.02)


def test_autocast_changes_nothing(loss):
    wave, other = speech(), 0.5 * speech().flip(0)
    expected = loss(other, wave)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(loss(other, wave), expected)


def test_bad_input(loss):
    with pytest.raises(TrainingError, match="one shape"):
        loss(torch.zeros(1, 100), torch.zeros(1, 101))
    with pytest.raises(TrainingError, match="lengths in"):
        loss(torch.zeros(1, 100), torch.zeros(1, 100), torch.tensor([101]))
    with pytest.raises(TrainingError, match="floating-point"):
        loss(torch.zeros(1, 100).int(), torch.zeros(1, 100).int())
