"""The disturbance of loudness."""

import pytest
import torch
from pesq import pesq

from syllabary.errors import TrainingError
from syllabary.training.losses.loudness import LoudnessLoss

from ..conftest import synthetic_speech


@pytest.fixture(scope="module")
def loss():
    return LoudnessLoss()


def speech(rows=2, samples=12_000):
    return torch.stack([torch.from_numpy(synthetic_speech(samples, row)) for row in range(rows)])


def test_level_and_phase_do_not_count(loss):
    for prediction in (speech(), -speech(), 0.25 * speech()):
        assert float(loss(prediction, speech())) == pytest.approx(0, abs=1e-3)


def test_what_is_added_counts_more_than_what_is_missing(loss):
    wave = speech(1, 32_000)
    torch.manual_seed(0)
    noise = 0.03 * torch.randn_like(wave)
    assert float(loss(wave + noise, wave)) > 1.5 * float(loss(wave, wave + noise))


def test_it_ranks_as_pesq_does(loss):
    wave = speech(1, 48_000)
    torch.manual_seed(0)
    noise = torch.randn_like(wave)
    ours, theirs = [], []
    for size in (1e-3, 3e-3, 1e-2, 3e-2, 0.1):
        noisy = wave + size * noise
        ours.append(float(loss(noisy, wave)))
        theirs.append(-pesq(16_000, wave[0].numpy(), noisy[0].numpy(), "wb"))
    assert ours == sorted(ours) and theirs == sorted(theirs)


def test_gradients_at_silence_are_finite(loss):
    for target in (torch.zeros(1, 12_000), speech(1)):
        prediction = torch.zeros(1, 12_000, requires_grad=True)
        loss(prediction, target).backward()
        assert bool(prediction.grad.isfinite().all())


def test_following_the_gradient_helps(loss):
    torch.manual_seed(0)
    target = speech(1)
    prediction = target + 0.01 * torch.randn(1, 12_000)
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
    assert float(expected) == pytest.approx(float(sum(rows) / 2), rel=0.05)


def test_bad_input(loss):
    with pytest.raises(TrainingError, match="one shape"):
        loss(torch.zeros(1, 100), torch.zeros(1, 101))
