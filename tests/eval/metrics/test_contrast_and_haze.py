"""Voices of a known contrast, and noise that pulses as deep as it is told to."""

import numpy as np
import pytest

from syllabary.audio.files import read
from syllabary.eval.metrics.contrast import contrasts, harmonic_contrast, own_contrast
from syllabary.eval.metrics.haze import haze, pulsing
from syllabary.eval.metrics.interface import Clip, MetricError
from syllabary.eval.metrics.scoring import value
from syllabary.eval.metrics.voiced_frames import EVERY, PERIODS, voiced_pitch, warped_times

pytest.importorskip("pyworld")

METRICS = (harmonic_contrast, own_contrast, haze)
SIZE = 32000
AMPLITUDE = 0.02


def white(seed=0, size=SIZE):
    return np.random.default_rng(seed).standard_normal(size)


def voice(pitch, top=7900):
    """Harmonics of equal amplitude up to `top`, of a pitch given sample by sample."""
    phase = 2 * np.pi * np.cumsum(pitch) / 16000
    harmonics = range(1, int(top / pitch.max()) + 1)
    return AMPLITUDE * sum(np.cos(k * phase + k * k) for k in harmonics)


def noisy(pitch, noise, seed=0):
    return (voice(pitch) + noise * white(seed, pitch.size)).astype(np.float32)


STEADY = np.full(SIZE, 125.0)
GLIDING = np.linspace(100, 180, SIZE)
DEEP = np.linspace(64, 80, SIZE)


def track(pitch):
    """The pitch every 10 ms, and points to look at far from the ends."""
    every = pitch[::160]
    return every, np.arange(10, every.size - 10, EVERY)


@pytest.mark.parametrize("pitch", [STEADY, GLIDING, DEEP], ids=["steady", "gliding", "deep"])
@pytest.mark.parametrize("level", [12.0, 20.0, 30.0])
def test_a_known_contrast(pitch, level):
    """Harmonics over white noise in a Hann window's bins; noise's mean log power is -2.51 dB."""
    # |A|² = (a / 2)² (N / 2)², σ² Σ w² = σ² 3 N / 8, with N samples of four periods.
    samples = PERIODS * 16000 / pitch[SIZE // 2]
    sigma = np.sqrt(AMPLITUDE**2 * samples / (6 * 10 ** ((level - 2.51) / 10)))
    found = contrasts(noisy(pitch, sigma), *track(pitch))
    assert found.mean() == pytest.approx(level, abs=1)


def test_noise_has_none():
    assert abs(contrasts(white(), *track(STEADY)).mean()) < 0.15
    assert (contrasts(0 * white(), *track(STEADY)) == 0).all()


@pytest.mark.parametrize("pitch", [STEADY, GLIDING], ids=["steady", "gliding"])
def test_more_noise_is_less_contrast(pitch):
    """Twice the noise is 6 dB less; where it moves the pitch that is found, a little more."""
    said = noisy(pitch, 0.005)
    for metric, slack in ((harmonic_contrast, 0.6), (own_contrast, 1.5)):
        levels = [value(metric(Clip(said, noisy(pitch, s, 1), 16000))) for s in (0.01, 0.02, 0.04)]
        assert np.diff(levels) == pytest.approx([-6, -6], abs=slack)


def test_a_voice_that_is_elsewhere_is_as_clear():
    said, other = noisy(STEADY, 0.02), noisy(1.02 * STEADY, 0.02, 1)
    assert value(harmonic_contrast(Clip(said, other, 16000))) < -4
    assert abs(value(own_contrast(Clip(said, other, 16000)))) < 0.7


def modulated(depth, pitch=STEADY, seed=3):
    """A low voice, and above 5 kHz noise whose power pulses so deep."""
    phase = 2 * np.pi * np.cumsum(pitch) / 16000
    spectrum = np.fft.rfft(white(seed, pitch.size))
    spectrum[np.fft.rfftfreq(pitch.size, 1 / 16000) < 4500] = 0
    hiss = np.fft.irfft(spectrum, pitch.size) * np.sqrt(1 + depth * np.cos(phase))
    return (voice(pitch, 3000) + 0.02 * hiss).astype(np.float32)


@pytest.mark.parametrize("pitch", [STEADY, GLIDING, DEEP], ids=["steady", "gliding", "deep"])
def test_a_known_depth(pitch):
    for depth in (0.5, 0.8, 1.0):
        assert pulsing(modulated(depth, pitch), *track(pitch))[0].mean() == pytest.approx(
            depth, abs=0.08
        )
    assert pulsing(modulated(0, pitch), *track(pitch))[0].mean() < 0.25
    # In harmonics of equal phases it is all in one place.
    clicks = np.zeros(SIZE)
    clicks[::128] = 1
    assert pulsing(clicks, *track(STEADY))[0].mean() > 1.8


def test_haze():
    said, steady, half = (modulated(depth) for depth in (1.0, 0.0, 0.5))
    assert value(haze(Clip(said, steady, 16000))) == pytest.approx(0.8, abs=0.1)
    assert value(haze(Clip(said, half, 16000))) == pytest.approx(0.5, abs=0.1)
    assert value(haze(Clip(steady, said, 16000))) == pytest.approx(-0.8, abs=0.1)
    # How loud the band is does not matter, nor that its noise is another.
    low = (
        said
        - np.float32(0.02 * 0.7) * (modulated(1.0) - voice(STEADY, 3000)).astype(np.float32) / 0.02
    )
    assert abs(value(haze(Clip(said, low, 16000)))) < 0.02
    assert abs(value(haze(Clip(said, modulated(1.0, seed=4), 16000)))) < 0.05


def test_nothing_above_5_khz():
    said = modulated(1.0)
    narrow = voice(STEADY, 3000).astype(np.float32)
    with pytest.raises(MetricError, match="reconstruction has nothing above 5 kHz: -"):
        haze(Clip(said, narrow, 16000))
    with pytest.raises(MetricError, match=r"original has -\d+ dB of its energy above 5 kHz"):
        haze(Clip(narrow, said, 16000))


@pytest.mark.parametrize("metric", METRICS)
def test_laws(metric):
    said, other = noisy(GLIDING, 0.02), noisy(GLIDING, 0.05, 1)
    assert value(metric(Clip(said, said, 16000))) == 0
    there = value(metric(Clip(said, other, 16000)))
    for gain in (0.01, 5):
        assert value(metric(Clip(said, np.float32(gain) * other, 16000))) == pytest.approx(
            there, abs=1e-3
        )
    assert value(metric(Clip(np.float32(0.1) * said, other, 16000))) == pytest.approx(
        there, abs=0.02
    )


@pytest.mark.parametrize("metric", METRICS)
def test_what_can_not_be_computed(metric):
    said = noisy(STEADY, 0.02)
    hiss = 0.1 * white().astype(np.float32)
    for reference in (hiss, said[:1600], said[:100], said[:1]):
        with pytest.raises(
            MetricError, match=r"\d frames of four voiced periods in the original; exp"
        ):
            metric(Clip(reference, reference, 16000))
    with pytest.raises(MetricError, match="reconstruction is silent"):
        metric(Clip(said, 0 * said, 16000))
    with pytest.raises(MetricError, match="8000 Hz; expected 16000"):
        metric(Clip(said, said, 8000))


def test_frames_do_not_keep_time_with_codecs():
    """Frames of 20 and of 40 ms: as many in each place of theirs."""
    _, points = voiced_pitch(noisy(STEADY, 0.02), "this")
    for length in (2, 4):
        _, counts = np.unique(points % length, return_counts=True)
        assert counts.size == length and counts.max() - counts.min() <= 3


def test_warped_times():
    pitch, points = track(GLIDING)
    times = warped_times(pitch, points, 50)
    assert times.shape == (points.size, 4 * 50)
    turns = np.interp(times, np.arange(SIZE), np.cumsum(GLIDING) / 16000)
    assert np.allclose(np.diff(turns, axis=1), 1 / 50, rtol=0.02)
    assert np.allclose(times[:, 100], points * 160)


def test_speech(demo_clip):
    wave, rate = read(demo_clip)[:2]
    scores = []
    for sigma in (0, 0.001, 0.01):
        other = (wave + sigma * white(0, wave.size)).astype(np.float32)
        scores.append([value(metric(Clip(wave, other, rate))) for metric in METRICS])
    contrast, own, hazes = zip(*scores, strict=True)
    assert contrast[0] == own[0] == hazes[0] == 0
    assert contrast[2] < contrast[1] - 1 < -1 and own[2] < own[1] - 1 < -1
    assert hazes[2] > hazes[1] + 0.05 > 0.05
