"""Resampling whose state moves: the same bits for any split, and a filter as good as it says."""

from math import ceil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syllabary.audio.polyphase import PolyphaseResampler, PolyphaseState
from syllabary.audio.resampling import resample
from syllabary.errors import StateError, WaveError

from ..conftest import synthetic_speech

RATES = [(8000, 16000), (48000, 16000), (44100, 16000), (16000, 24000), (16000, 8000), (8000, 8000)]


def whole(wave: np.ndarray, source: int, target: int) -> np.ndarray:
    return PolyphaseResampler(source, target).push(wave, final=True)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(RATES), st.lists(st.integers(0, 700), max_size=6), st.integers(0, 6))
def test_any_split_and_any_move_give_the_same_bits(rates, sizes, moved):
    wave = synthetic_speech(sum(sizes), seed=1)
    resampler, parts, at = PolyphaseResampler(*rates), [], 0
    for number, size in enumerate(sizes):
        parts.append(resampler.push(wave[at : at + size]))
        at += size
        if number == moved:
            state = resampler.export_state()
            resampler.push(np.ones(50, np.float32))  # a copy: what follows here is not in it
            resampler = PolyphaseResampler(*rates)
            resampler.import_state(state)
    parts.append(resampler.push(wave[at:], final=True))
    out = np.concatenate(parts)
    assert out.tobytes() == whole(wave, *rates).tobytes()
    assert len(out) == ceil(len(wave) * rates[1] / rates[0])


@pytest.mark.parametrize(("source", "target"), RATES)
def test_an_output_needs_latency_more_samples(source, target):
    resampler = PolyphaseResampler(source, target)
    assert resampler.push(np.zeros(resampler.latency, np.float32)).size == 0
    assert resampler.push(np.zeros(1, np.float32)).size >= 1
    assert resampler.latency <= 48 * max(1, ceil(source / target))


@pytest.mark.parametrize(("source", "target"), RATES)
@pytest.mark.parametrize("part", [0.01, 0.2, 0.43])
def test_tones_below_the_band_edge_pass_unchanged(source, target, part):
    """To 90 dB below full scale, in time with the input."""
    frequency = part * min(source, target)
    seconds = np.arange(source) / source
    out = whole(np.sin(2 * np.pi * frequency * seconds).astype(np.float32), source, target)
    expected = np.sin(2 * np.pi * frequency * np.arange(target) / target)
    inner = slice(target // 10, -target // 10)
    assert np.abs(out[inner] - expected[inner]).max() < 10 ** (-90 / 20)


@pytest.mark.parametrize("frequency", [8100, 10_000, 15_900, 16_100, 23_000])
def test_tones_that_would_alias_are_gone(frequency):
    tone = np.sin(2 * np.pi * frequency * np.arange(48000) / 48000).astype(np.float32)
    assert np.abs(whole(tone, 48000, 16000)[2000:-2000]).max() < 10 ** (-88 / 20)


@pytest.mark.parametrize(("source", "target"), RATES[:4])
def test_speech_is_that_of_soxr(source, target):
    """Beneath the edges of both filters, where they differ."""
    wave = resample(resample(synthetic_speech(8000), 8000, 6000), 6000, source)
    ours, theirs = whole(wave, source, target), resample(wave, source, target)
    size = min(len(ours), len(theirs)) - 500
    assert np.abs(ours[500:size] - theirs[500:size]).max() < 2e-4
    assert np.abs(theirs).max() > 0.1


def test_constants_stay():
    out = whole(np.full(5000, 0.75, np.float32), 44100, 16000)
    assert np.abs(out[200:-200] - 0.75).max() < 1e-7


@pytest.mark.parametrize("rates", [(0, 16000), (16000, -1), (16000.0, 8000), (True, 8000)])
def test_rates_are_whole_numbers(rates):
    with pytest.raises(WaveError, match="positive whole numbers"):
        PolyphaseResampler(*rates)


def test_a_ratio_without_end_is_refused():
    with pytest.raises(WaveError, match="more than 1920 filters"):
        PolyphaseResampler(47_999, 16_000)
    with pytest.raises(WaveError, match="more than 64 times"):
        PolyphaseResampler(48_000, 100)


@pytest.mark.parametrize(
    "state",
    [
        PolyphaseState(np.zeros(95, np.float32)),
        PolyphaseState(np.zeros(96, np.float64)),
        PolyphaseState(np.zeros(96, np.float32), taken=-1),
        PolyphaseState(np.zeros(96, np.float32), taken=100, given=3),
        PolyphaseState(np.zeros(96, np.float32), taken=100, given=104, ended=True),
    ],
)
def test_states_that_can_not_be_are_refused(state):
    resampler = PolyphaseResampler(8000, 16000)
    before = resampler.export_state()
    with pytest.raises(StateError):
        resampler.import_state(state)
    assert resampler.export_state().given == before.given == 0


def test_nothing_follows_the_end():
    resampler = PolyphaseResampler(8000, 16000)
    assert resampler.push(np.zeros(10, np.float32), final=True).size == 20
    assert resampler.push(np.zeros(0, np.float32), final=True).size == 0
    with pytest.raises(WaveError, match="has ended"):
        resampler.push(np.zeros(1, np.float32))
