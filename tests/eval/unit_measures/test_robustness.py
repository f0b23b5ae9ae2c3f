from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syllabary.eval.metrics.interface import MetricError
from syllabary.eval.unit_measures.edit_distance import deduplicate, unit_error_rate
from syllabary.eval.unit_measures.perturbations import (
    PERTURBATIONS,
    Perturbation,
    add_noise,
    pitch_shift,
    reverberate,
    time_stretch,
)
from syllabary.eval.unit_measures.robustness import robustness

from ...conftest import synthetic_speech

units = st.lists(st.integers(0, 3), max_size=30).map(lambda codes: np.array(codes, np.int64))


def brute_edits(one, other):
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        above, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (a != b))
    return row[-1]


@given(st.lists(st.tuples(units, units), min_size=1, max_size=4))
@settings(deadline=None)
def test_unit_error_rate(pairs):
    found = unit_error_rate(pairs)
    runs = [tuple(deduplicate(codes).tolist() for codes in pair) for pair in pairs]
    for (reference, _), (short, _) in zip(pairs, runs, strict=True):
        assert all(a != b for a, b in pairwise(short))
        assert set(short) == set(reference.tolist()) and len(short) <= len(reference)
    assert found.edits == sum(brute_edits(*pair) for pair in runs)
    assert found.length == sum(len(reference) for reference, _ in runs)
    assert unit_error_rate([(a, np.repeat(a, 2)) for a, _ in pairs]).edits == 0


def test_rates_are_of_sums():
    short, long = np.array([1, 2]), np.arange(10)
    found = unit_error_rate([(short, np.array([1, 3])), (long, long)])
    assert found.rate == 1 / 12 and found.num_pairs == 2
    assert (found + found).rate == found.rate and (found + found).num_pairs == 4
    with pytest.raises(MetricError, match="no units"):
        _ = unit_error_rate([]).rate
    with pytest.raises(MetricError, match=r"shape \(2, 2\)"):
        deduplicate(np.zeros((2, 2), int))


def pitch_of(wave, rate=16000):
    """Hz of the strongest frequency, by a parabola through the peak of the spectrum."""
    levels = np.log(np.abs(np.fft.rfft(wave * np.hanning(len(wave)))) + 1e-12)
    peak = int(levels.argmax())
    a, b, c = levels[peak - 1 : peak + 2]
    return (peak + (a - c) / (a - 2 * b + c) / 2) * rate / len(wave)


@pytest.mark.parametrize("tempo", [0.5, 0.9, 1.1, 2])
def test_time_stretch_keeps_pitch_and_level(tempo):
    tone = 0.3 * np.sin(2 * np.pi * 210.7 * np.arange(16000) / 16000).astype(np.float32)
    found = time_stretch(tone, 16000, tempo)
    assert len(found) == round(16000 / tempo) and found.dtype == np.float32
    inner = found[1000:-1000]
    assert pitch_of(inner) == pytest.approx(210.7, rel=0.004)
    assert inner.std() == pytest.approx(tone.std(), rel=0.05)


def test_time_stretch_keeps_the_order_of_events():
    wave = np.zeros(32000, np.float32)
    noise = np.random.default_rng(0).standard_normal(1600).astype(np.float32)
    for start in (4000, 12000, 25000):
        wave[start : start + 1600] = noise
    for tempo in (0.9, 1.1):
        found = time_stretch(wave, 16000, tempo)
        for start in (4000, 12000, 25000):
            middle = int((start + 800) / tempo)
            assert np.abs(found[middle - 400 : middle + 400]).mean() > 0.3
            assert np.abs(found[middle - 2400 : middle - 1600]).mean() < 0.05
    unchanged = time_stretch(synthetic_speech(16000), 16000, 1.0)
    assert np.abs(unchanged - synthetic_speech(16000))[600:].max() < 1e-5


@pytest.mark.parametrize("semitones", [-2, 2, 5])
def test_pitch_shift(semitones):
    tone = 0.3 * np.sin(2 * np.pi * 210.7 * np.arange(24000) / 16000).astype(np.float32)
    found = pitch_shift(tone, 16000, semitones)
    assert found.shape == tone.shape and found.dtype == np.float32
    assert pitch_of(found[2000:-2000]) == pytest.approx(210.7 * 2 ** (semitones / 12), rel=0.004)


def test_room():
    click = np.zeros(16000, np.float32)
    click[2000] = 0.5
    found = reverberate(click, 16000, 0.5)
    assert found.argmax() == 2000 and (np.abs(found[:1999]) < 1e-6).all()
    assert (found**2).sum() == pytest.approx((click**2).sum(), rel=1e-4)
    # The energy that is still to come falls by 60 dB in the stated time, here by 30 in half of it.
    left = np.cumsum((found[2001:10001].astype(float) ** 2)[::-1])[::-1]
    fall = 10 * np.log10(left[4000] / left[40])
    assert fall == pytest.approx(-30 * 3960 / 4000, abs=1.5)
    direct = found[2000] ** 2
    assert 10 * np.log10(direct / left[0]) == pytest.approx(0, abs=0.5)


def test_noise():
    wave = synthetic_speech(32000)
    noise = add_noise(wave, 16000, 10) - wave
    assert 10 * np.log10((wave**2).mean() / (noise**2).mean()) == pytest.approx(10, abs=0.1)
    power = np.abs(np.fft.rfft(noise)) ** 2  # bins of 0.5 Hz
    octaves = [power[low:high].sum() for low, high in ((200, 400), (1600, 3200), (6400, 12800))]
    assert max(octaves) / min(octaves) < 1.3  # pink: equal in every octave


@pytest.mark.parametrize("change", PERTURBATIONS, ids=lambda change: change.name)
def test_perturbations_are_deterministic_and_finite(change):
    for wave in (synthetic_speech(16000), np.zeros(8000, np.float32), np.ones(1, np.float32)):
        found = change.apply(wave, 16000)
        assert found.dtype == np.float32 and np.isfinite(found).all()
        np.testing.assert_allclose(change.apply(wave.copy(), 16000), found, rtol=0, atol=1e-6)
    with pytest.raises(MetricError, match="finite"):
        change.apply(np.full(100, np.nan, np.float32), 16000)
    with pytest.raises(MetricError, match="expected finite"):
        change.apply(np.zeros((2, 100), np.float32), 16000)


def test_robustness():
    """Units of level change with level only, and not with polarity."""

    def encode(wave):
        frames = wave[: len(wave) // 320 * 320].reshape(-1, 320)
        return (10 * np.log10((frames**2).mean(1) + 1e-6)).astype(int)

    changes = [
        Perturbation("polarity", lambda wave, rate: -wave),
        Perturbation("silence", lambda wave, rate: 0 * wave),
        Perturbation("slow", lambda wave, rate: wave.reshape(-1, 320).repeat(2, 0).reshape(-1)),
    ]
    waves = [synthetic_speech(16000, seed) for seed in range(3)]
    found = robustness(encode, waves, 16000, changes)
    assert found["polarity"].rate == 0 and 0.9 < found["silence"].rate <= 1
    assert found["slow"].rate == 0  # every frame twice
    assert found["polarity"].num_pairs == 3
    assert found["silence"].length == sum(len(deduplicate(encode(wave))) for wave in waves)
