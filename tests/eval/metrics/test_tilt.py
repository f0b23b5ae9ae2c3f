"""Spectra that tilt as steeply as they are told to."""

import numpy as np
import pytest

from syllabary.audio.files import read
from syllabary.eval.metrics.interface import Clip, MetricError
from syllabary.eval.metrics.tilt import CENTRES, band_levels, middle_level, spectral_tilt

NOISE = (0.05 * np.random.default_rng(0).standard_normal(64000)).astype(np.float32)
TIMES = np.arange(64000) / 16000


def shaped(wave, decibels):
    """A signal through a filter whose gain in dB is a function of Hz."""
    hertz = np.fft.rfftfreq(wave.size, 1 / 16000)
    gain = 10 ** (decibels(np.maximum(hertz, 20)) / 20)
    return np.fft.irfft(np.fft.rfft(wave) * gain, wave.size).astype(np.float32)


@pytest.mark.parametrize("slope", [-6, -2, 1, 3])
def test_so_many_db_per_octave(slope):
    tilted = shaped(NOISE, lambda hertz: slope * np.log2(hertz / 1000))
    clip = Clip(NOISE, tilted, 16000)
    thirds = slope * (np.arange(18) - 8.5) / 3
    # A filter this steep leaves less in a band of low frequencies than its middle says.
    assert np.abs(band_levels(clip).differences - thirds).max() < 0.15 * abs(slope) + 0.1
    assert spectral_tilt(clip) == pytest.approx(np.sqrt((thirds**2).mean()), rel=0.03)
    assert middle_level(clip) == pytest.approx(slope, rel=0.05)
    assert spectral_tilt(Clip(tilted, NOISE, 16000)) == pytest.approx(spectral_tilt(clip), rel=1e-6)


def test_one_step():
    """4 dB less from 0.9 to 4.5 kHz: seven bands of eighteen."""
    dull = shaped(NOISE, lambda hertz: -4.0 * ((hertz > 890) & (hertz < 4490)))
    clip = Clip(NOISE, dull, 16000)
    assert middle_level(clip) == pytest.approx(-4, abs=0.1)
    assert spectral_tilt(clip) == pytest.approx(4 * np.sqrt(7 / 18), abs=0.05)


def test_laws():
    other = shaped(NOISE, lambda hertz: 2 * np.sin(hertz / 500))
    assert spectral_tilt(Clip(NOISE, NOISE, 16000)) == 0 == middle_level(Clip(NOISE, NOISE, 16000))
    for gain in (0.003, 7):
        louder = Clip(NOISE, np.float32(gain) * NOISE, 16000)
        assert spectral_tilt(louder) < 1e-4 and abs(middle_level(louder)) < 1e-4
        one, two = (spectral_tilt(Clip(NOISE, g * other, 16000)) for g in np.float32([1, gain]))
        assert two == pytest.approx(one, abs=1e-4) and one > 0.5
    assert band_levels(Clip(NOISE, other, 16000)).centres is CENTRES
    assert CENTRES[[0, 9, 17]] == pytest.approx([125, 1000, 6350], rel=1e-3)


def test_a_lost_band_moves_no_other():
    narrow = shaped(NOISE, lambda hertz: -200.0 * (hertz > 4500))
    differences = band_levels(Clip(NOISE, narrow, 16000)).differences
    assert np.abs(differences[:16]).max() < 0.05
    assert abs(middle_level(Clip(NOISE, narrow, 16000))) < 0.05
    # The edge of 16 is at 4490 Hz; 17 had -7.4 dB of the whole, and has -60 dB at least.
    assert differences[16] < -15
    assert differences[17] == pytest.approx(-60 + 7.36 + _power_lost(narrow), abs=0.2)


def _power_lost(wave):
    return 10 * np.log10((wave.astype(np.float64) ** 2).mean() / (NOISE**2).mean())


def test_what_can_not_be_computed():
    for metric in (spectral_tilt, middle_level):
        with pytest.raises(MetricError, match="reference is silent"):
            metric(Clip(0 * NOISE, NOISE, 16000))
        with pytest.raises(MetricError, match="reconstruction is silent"):
            metric(Clip(NOISE, 0 * NOISE, 16000))
        with pytest.raises(MetricError, match="511 samples; expected at least 512"):
            metric(Clip(NOISE[:511], NOISE[:511], 16000))
        with pytest.raises(MetricError, match="8000 Hz; expected 16000"):
            metric(Clip(NOISE, NOISE, 8000))
        assert metric(Clip(NOISE[:512], NOISE[:512], 16000)) == 0


def test_speech(demo_clip):
    wave, rate = read(demo_clip)[:2]
    assert spectral_tilt(Clip(wave, wave, rate)) == 0
    noise = NOISE[np.arange(wave.size) % NOISE.size]
    tilts = [spectral_tilt(Clip(wave, wave + np.float32(k) * noise, rate)) for k in (0.01, 0.1)]
    assert 0 < tilts[0] < tilts[1]
    dull = shaped(wave, lambda hertz: -3.0 * ((hertz > 890) & (hertz < 4490)))
    assert middle_level(Clip(wave, dull, rate)) == pytest.approx(-3, abs=0.3)
