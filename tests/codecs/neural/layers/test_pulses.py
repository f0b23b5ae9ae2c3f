"""Pulses at a pitch, and pitch as a distribution."""

import numpy as np
import pytest
import torch

from syllabary.codecs.neural.layers.pulses import (
    PITCH_BINS,
    PITCH_MAX,
    PITCH_MIN,
    PulseTrain,
    expected_pitch,
    pitch_bin,
)

RATE, HOP, TOP = 16000, 80, 7900.0


@pytest.fixture(scope="module")
def pulses():
    return PulseTrain(RATE, HOP, TOP)


def begin(pitch, phase=0.0):
    """`before` and `phase` of rows that hold their first pitch already."""
    return pitch[:, 0], torch.full((len(pitch),), phase, dtype=torch.float64)


def steady(hertz, points=200):
    return torch.full((1, points), float(hertz))


@pytest.mark.parametrize("hertz", [64, 100, 125, 250, 400])
def test_energy_is_at_the_multiples_of_the_pitch_only(pulses, hertz):
    pitch = steady(hertz)
    wave = pulses(pitch, *begin(pitch, 0.37))[0][0].double()
    power = torch.fft.rfft(wave).abs().square() / len(wave)  # one second: bins are Hz
    multiples = torch.arange(hertz, TOP + 1, hertz).long()
    elsewhere = power.clone()
    elsewhere[multiples] = 0
    assert elsewhere.sum() < 1e-4 * power.sum()
    # All harmonics are equally strong, the last one included.
    assert power[multiples].max() < 1.01 * power[multiples].min()


@pytest.mark.parametrize("hertz", [61.3, 100, 217.7, 449])
def test_the_power_is_one(pulses, hertz):
    pitch = steady(hertz, 1000)
    wave = pulses(pitch, *begin(pitch))[0]
    assert float(wave.square().mean()) == pytest.approx(1, rel=0.02)


def test_nothing_lies_above_the_top_while_the_pitch_glides(pulses):
    pitch = torch.linspace(100, 140, 200)[None]
    wave = pulses(pitch, *begin(pitch))[0][0].double()
    hann = torch.hann_window(len(wave), dtype=torch.float64)
    power = torch.fft.rfft(wave * hann).abs().square()
    assert power[7950:].sum() < 1e-3 * power.sum()


def test_one_pulse_comes_each_period(pulses):
    pitch = steady(100)
    wave = pulses(pitch, *begin(pitch))[0][0]
    peaks = (wave > 0.9 * wave.max()).nonzero().flatten().numpy()
    assert set(np.diff(peaks)) == {160}
    assert peaks[0] == 159  # one turn after phase 0, which was one sample before the first


@pytest.mark.parametrize("cut", [1, 7, 50, 99])
def test_a_track_in_two_calls_is_the_track_in_one(pulses, cut):
    torch.manual_seed(0)
    pitch = 100 + 200 * torch.rand(3, 100)
    before, phase = torch.tensor([90.0, 150.0, 400.0]), torch.rand(3, dtype=torch.float64)
    whole, last, turn = pulses(pitch, before, phase)
    first, *state = pulses(pitch[:, :cut], before, phase)
    second, *end = pulses(pitch[:, cut:], *state)
    assert torch.allclose(torch.cat([first, second], 1), whole, atol=2e-3)
    assert torch.equal(end[0], last) and torch.equal(last, pitch[:, -1])
    assert torch.allclose(end[1], turn, atol=1e-9)
    assert end[1].dtype == torch.float64


def test_pitch_moves_linearly_between_points(pulses):
    pitch = torch.tensor([[200.0]])
    _, _, phase = pulses(pitch, torch.tensor([100.0]), torch.zeros(1, dtype=torch.float64))
    # The mean over the hop of a ramp that ends at its last sample.
    mean = 150 + 50 / HOP
    assert float(phase) == pytest.approx(mean * HOP / RATE % 1, abs=1e-6)


def test_pitch_bins_span_the_range():
    assert float(pitch_bin(torch.tensor(PITCH_MIN))) == pytest.approx(0, abs=1e-5)
    assert float(pitch_bin(torch.tensor(PITCH_MAX))) == pytest.approx(PITCH_BINS - 1, abs=1e-3)


def test_the_expected_pitch_is_within_a_bin():
    hertz = torch.linspace(PITCH_MIN, PITCH_MAX, 500)
    bins = torch.arange(PITCH_BINS)
    logits = -0.5 * (bins - pitch_bin(hertz)[:, None]) ** 2
    error = (pitch_bin(expected_pitch(logits)) - pitch_bin(hertz)).abs()
    assert error.max() < 1
    whole = (pitch_bin(hertz) > 4) & (pitch_bin(hertz) < PITCH_BINS - 5)  # of the bell
    assert error[whole].max() < 0.01


def test_a_second_pitch_far_away_does_not_pull():
    bins = torch.arange(PITCH_BINS)
    logits = torch.maximum(-0.5 * (bins - 30) ** 2, -0.5 * (bins - 90) ** 2 - 0.5)
    assert float(pitch_bin(expected_pitch(logits))) == pytest.approx(30, abs=0.1)
