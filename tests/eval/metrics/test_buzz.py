"""A fricative that repeats itself: pulses of a known share of its energy, and what is none."""

import dataclasses

import numpy as np
import pytest
from scipy.signal import butter, sosfilt

from syllabary.audio.files import read
from syllabary.eval.metrics.buzz import BUZZ, buzz
from syllabary.eval.metrics.interface import Clip, MetricError
from syllabary.eval.metrics.scoring import score, value

from .test_pitch import voice

pytest.importorskip("pyworld")


def hiss(seed=0, size=16000, band=(2000, 7500)):
    """Noise as of an s, of unit power."""
    noise = np.random.default_rng(seed).standard_normal(size)
    filtered = sosfilt(butter(4, band, "band", fs=16000, output="sos"), noise)
    return filtered / filtered.std()


def pulses(hertz, size=16000, band=(2000, 7500)):
    """Pulses in the band, of unit power, between samples where they must be."""
    filtered = np.zeros(size)
    at = np.arange(0, size, 16000 / hertz)
    filtered[at.astype(int)] = 1 - at % 1
    filtered[np.minimum(at.astype(int) + 1, size - 1)] += at % 1
    filtered = sosfilt(butter(4, band, "band", fs=16000, output="sos"), filtered)
    return filtered / filtered.std()


def sentence(fricative):
    """Half a second of voice, and then a fricative."""
    vowel = voice(np.full(8000, 125.0))
    return np.concatenate([vowel, 0.03 * fricative]).astype(np.float32)


SAID = sentence(hiss())


@pytest.mark.parametrize("hertz", [60.4, 110, 250, 400])
@pytest.mark.parametrize("share", [0.3, 0.6])
def test_pulses_of_a_known_share(hertz, share):
    """What pulses add to the autocorrelation is their share; 0.1 of it drowns in the noise's."""
    other = np.sqrt(1 - share) * hiss(1) + np.sqrt(share) * pulses(hertz)
    found = value(buzz(Clip(SAID, sentence(other), 16000)))
    assert share - 0.18 < found < share - 0.02


def test_laws():
    buzzing = sentence(np.sqrt(0.5) * (hiss(1) + pulses(61)))
    assert value(buzz(Clip(SAID, SAID, 16000))) == 0
    there = value(buzz(Clip(SAID, buzzing, 16000)))
    assert value(buzz(Clip(buzzing, SAID, 16000))) == pytest.approx(-there, abs=1e-6)
    for gain in (0.003, 5):
        louder = buzz(Clip(SAID, np.float32(gain) * buzzing, 16000))
        assert value(louder) == pytest.approx(there, abs=1e-4)
    # Frames of 50 ms with their lags, every 10 ms, in a second; DIO hears the voice's last out.
    assert 85 <= buzz(Clip(SAID, SAID, 16000)).denominator <= 95


@pytest.mark.parametrize(
    "other",
    [
        hiss(2),
        hiss(3, band=(1000, 4000)),
        hiss(4, band=(4000, 7900)),
        np.random.default_rng(5).standard_normal(16000),
        np.sin(2 * np.pi * 3123 * np.arange(16000) / 16000),  # a whistle
        hiss(6) + 10 * np.sin(2 * np.pi * 60 * np.arange(16000) / 16000),  # hum
    ],
    ids=["hiss", "narrow", "sharp", "white", "whistle", "hum"],
)
def test_what_is_no_buzz(other):
    assert abs(value(buzz(Clip(SAID, sentence(other), 16000)))) < 0.025


def test_pulses_in_voice_do_not_count():
    other = SAID.copy()
    other[:7500] = voice(np.full(7500, 62.0))
    assert value(buzz(Clip(SAID, other, 16000))) == pytest.approx(0, abs=0.01)


def test_what_has_no_fricative():
    vowel = voice(np.full(24000, 125.0))
    for reference in (vowel, np.float32(0.001) * SAID + vowel, SAID[:300], SAID[:1]):
        with pytest.raises(MetricError, match=r"\d loud frames of the original are without a v"):
            buzz(Clip(reference, reference, 16000))
    faint = SAID.copy()
    faint[8000:] *= 0.02
    with pytest.raises(MetricError, match="0 loud frames"):
        buzz(Clip(faint, SAID, 16000))
    with pytest.raises(MetricError, match="reconstruction is silent"):
        buzz(Clip(SAID, 0 * SAID, 16000))
    with pytest.raises(MetricError, match="buzz: 8000 Hz; expected 16000"):
        buzz(dataclasses.replace(Clip(SAID, SAID, 16000), sample_rate=8000))


def test_speech(demo_clip):
    wave, rate = read(demo_clip)[:2]
    noisy = wave + 0.003 * np.random.default_rng(0).standard_normal(wave.size)
    scores, missing = score(Clip(wave, wave, rate), ["buzz"])
    assert scores["buzz"].numerator == 0 and not missing
    assert abs(value(buzz(Clip(wave, noisy.astype(np.float32), rate)))) < 0.02
    pulse = pulses(61, wave.size).astype(np.float32)  # its fricatives have amplitudes of 0.02
    faint, plain = (
        value(buzz(Clip(wave, wave + g * pulse, rate))) for g in np.float32([0.02, 0.04])
    )
    assert 0.1 < faint < plain - 0.2
    assert BUZZ.bounds == (-1, 1)
