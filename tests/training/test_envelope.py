"""The correlation of band envelopes."""

import pytest
import torch
from pystoi import stoi

from syllabary.errors import TrainingError
from syllabary.training.losses.envelope import EnvelopeLoss, EnvelopeLossConfig

from ..conftest import synthetic_speech


@pytest.fixture(scope="module")
def loss():
    return EnvelopeLoss()


def speech(rows=2, samples=12_000):
    return torch.stack([torch.from_numpy(synthetic_speech(samples, row)) for row in range(rows)])


def test_level_and_phase_do_not_count(loss):
    for prediction in (speech(), -speech(), 0.5 * speech()):
        assert float(loss(prediction, speech())) == pytest.approx(0, abs=1e-3)


def test_it_is_one_where_nothing_follows(loss):
    torch.manual_seed(0)
    noise = 0.1 * torch.randn(4, 32_000)
    assert float(loss(noise, 0.1 * torch.randn(4, 32_000))) == pytest.approx(1, abs=0.05)
    assert float(loss(torch.zeros(2, 12_000), speech())) == pytest.approx(1, abs=0.02)


def test_it_ranks_as_stoi_does(loss):
    wave = speech(1, 32_000)
    torch.manual_seed(0)
    noise = torch.randn_like(wave)
    ours, theirs = [], []
    for size in (3e-3, 1e-2, 3e-2, 0.1, 0.3):
        noisy = wave + size * noise
        ours.append(float(loss(noisy, wave)))
        theirs.append(1 - stoi(wave[0].numpy(), noisy[0].numpy(), 16_000))
    assert ours == sorted(ours) and theirs == sorted(theirs)


def test_too_short_audio_has_none(loss):
    prediction = speech(2, 2000).requires_grad_()
    result = loss(prediction, 0.5 * speech(2, 2000).flip(0))
    result.backward()
    assert float(result.detach()) == 0 and not prediction.grad.any()


def test_gradients_at_silence_are_finite(loss):
    for target in (torch.zeros(1, 12_000), speech(1)):
        prediction = torch.zeros(1, 12_000, requires_grad=True)
        loss(prediction, target).backward()
        assert bool(prediction.grad.isfinite().all())
    target = speech(1).requires_grad_()
    loss(torch.randn(1, 12_000), target)
    assert target.grad is None


def test_following_the_gradient_helps(loss):
    torch.manual_seed(0)
    target, prediction = speech(1), 0.01 * torch.randn(1, 12_000)
    before = float(loss(prediction, target))
    prediction.requires_grad_()
    loss(prediction, target).backward()
    step = 1e-2 * prediction.grad / prediction.grad.norm()
    assert float(loss((prediction - step).detach(), target)) < before


def test_padding_has_no_influence(loss):
    wave, other = speech(), 0.5 * speech().flip(0)
    lengths = torch.tensor([12_000, 9_000])
    expected = loss(other, wave, lengths)
    rubbish = other.clone()
    rubbish[1, 9_000:] = float("nan")
    assert torch.equal(loss(rubbish, wave, lengths), expected)
    rows = [loss(other[:1], wave[:1]), loss(other[1:, :9_000], wave[1:, :9_000])]
    assert float(expected) == pytest.approx(float(sum(rows) / 2), rel=0.02)


def test_bad_input(loss):
    with pytest.raises(TrainingError, match="one shape"):
        loss(torch.zeros(1, 100), torch.zeros(1, 101))
    with pytest.raises(ValueError, match="no bin"):
        EnvelopeLoss(EnvelopeLossConfig(window_length=64, hop_length=32))
