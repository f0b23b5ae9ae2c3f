"""Distances of spectra, against slow formulas in NumPy and against closed forms."""

import numpy as np
import pytest

from syllabary.eval.metrics.cepstral_distortion import cepstral_distortion
from syllabary.eval.metrics.interface import Clip, MetricError
from syllabary.eval.metrics.mel_distance import (
    SCALES,
    log_mel_distance,
    multi_scale_mel_distance,
)
from syllabary.eval.metrics.stft_distance import stft_distance

from ...conftest import synthetic_speech

# Two transforms of one signal may differ in their last bits: by where in memory it lies.
NOTHING = pytest.approx(0, abs=1e-9)
DISTANCES = (log_mel_distance, multi_scale_mel_distance, stft_distance, cepstral_distortion)


def noise(size=16000, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(size)).astype(np.float32)


def magnitudes(wave, size, length, hop, pad):
    """(bins, frames) of a centred STFT."""
    window = np.zeros(size)
    start = (size - length) // 2
    window[start : start + length] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    padded = np.pad(wave.astype(np.float64), size // 2, mode=pad)
    frames = [padded[at : at + size] for at in range(0, len(padded) - size + 1, hop)]
    return np.abs(np.fft.rfft(np.array(frames) * window)).T


@pytest.mark.parametrize("distance", DISTANCES)
def test_laws(distance):
    wave, other = synthetic_speech(16000), synthetic_speech(16000, 1)
    nearer = wave + 0.01 * noise()
    assert distance(Clip(wave, wave, 16000)) == NOTHING
    near, far = (distance(Clip(wave, wave + k * noise(), 16000)) for k in (0.01, 0.1))
    assert 1e-4 < near < far and distance(Clip(wave, other, 16000)) > 0
    assert distance(Clip(wave, nearer, 16000)) == pytest.approx(near, rel=1e-9)
    assert distance(Clip(wave, 0 * wave, 16000)) > 0  # silence is heard, and has a floor
    with pytest.raises(MetricError, match="reference is silent"):
        distance(Clip(0 * wave, wave, 16000))
    with pytest.raises(MetricError, match="shapes"):
        distance(Clip(wave, wave[1:], 16000))


@pytest.mark.parametrize("sample_rate", [8000, 16000, 22050, 24000])
def test_log_mel_distance_is_in_db(sample_rate):
    """White noise lies far above the floor, so that an attenuation is all the distance there is."""
    wave = 0.1 * np.random.default_rng(0).standard_normal(sample_rate)
    for db in (0.5, 6, 20):
        softer = wave * 10 ** (-db / 20)
        assert log_mel_distance(Clip(wave, softer, sample_rate)) == pytest.approx(db, abs=1e-6)
        assert log_mel_distance(Clip(softer, wave, sample_rate)) == pytest.approx(db, abs=1e-6)


def test_log_mel_distance_has_a_floor():
    """Nothing quieter than the noise of 16 bits counts, or silence would be infinitely far."""
    dither = (np.random.default_rng(0).random(16000) - 0.5) / 32768
    click = np.zeros(16000)
    click[8000] = 0.5
    assert log_mel_distance(Clip(click + dither, click, 16000)) < 6
    assert 0 < log_mel_distance(Clip(click, np.zeros(16000), 16000)) < 60


def test_multi_scale_mel_distance_by_librosa():
    librosa = pytest.importorskip("librosa")
    first, second = synthetic_speech(6001), synthetic_speech(6001, 1)
    expected = 0.0
    for length, channels in SCALES.items():
        filters = librosa.filters.mel(sr=16000, n_fft=length, n_mels=channels, dtype=np.float64)
        logs = [
            np.log10(
                np.maximum(filters @ magnitudes(w, length, length, length // 4, "reflect"), 1e-5)
            )
            for w in (first, second)
        ]
        expected += np.abs(logs[0] - logs[1]).mean()
    found = multi_scale_mel_distance(Clip(first, second, 16000))
    assert found == pytest.approx(expected, rel=1e-4)
    loud = noise(8000)
    tenth = multi_scale_mel_distance(Clip(loud, loud / 10, 16000))
    assert tenth == pytest.approx(len(SCALES), rel=1e-3)  # one decade at each scale


def test_stft_distance_by_hand():
    first, second = synthetic_speech(6001), synthetic_speech(6001, 1)
    expected = []
    for size, length, hop in ((512, 240, 50), (1024, 600, 120), (2048, 1200, 240)):
        r, e = (
            np.sqrt(np.maximum(magnitudes(w, size, length, hop, "reflect") ** 2, 1e-7))
            for w in (first, second)
        )
        expected.append(
            np.sqrt(((r - e) ** 2).sum() / (r**2).sum()) + np.abs(np.log(r) - np.log(e)).mean()
        )
    found = stft_distance(Clip(first, second, 16000))
    assert found == pytest.approx(np.mean(expected), rel=1e-4)
    loud = noise()
    half = stft_distance(Clip(loud, loud / 2, 16000))
    assert half == pytest.approx(0.5 + np.log(2), abs=1e-3)


@pytest.mark.parametrize("distance", [multi_scale_mel_distance, stft_distance])
def test_too_short_to_mirror(distance):
    with pytest.raises(MetricError, match="1024 samples; expected more than 1024"):
        distance(Clip(noise(1024), noise(1024), 16000))
    assert distance(Clip(noise(1025), noise(1025), 16000)) == NOTHING


def test_cepstral_distortion_by_hand():
    librosa = pytest.importorskip("librosa")
    first, second = synthetic_speech(8000), synthetic_speech(8000, 1)
    filters = librosa.filters.mel(sr=16000, n_fft=1024, n_mels=80, dtype=np.float64)
    mels = [filters @ magnitudes(w, 1024, 400, 160, "constant") for w in (first, second)]
    energy = (mels[0] ** 2).sum(0)
    total, count = 0.0, 0
    for frame in range(mels[0].shape[1]):
        if energy[frame] <= energy.max() / 10**4:
            continue
        squares = 0.0
        for order in range(1, 25):
            c = [0.0, 0.0]
            for which in (0, 1):
                for k in range(80):
                    log = np.log(max(mels[which][k, frame], 1e-5))
                    c[which] += 2 / 80 * log * np.cos(np.pi * order * (k + 0.5) / 80)
            squares += (c[0] - c[1]) ** 2
        total += 10 / np.log(10) * np.sqrt(2 * squares)
        count += 1
    assert 0 < count < mels[0].shape[1]
    found = cepstral_distortion(Clip(first, second, 16000))
    assert found == pytest.approx(total / count, rel=1e-6)


def test_cepstral_distortion_hears_no_volume():
    wave = noise()
    assert cepstral_distortion(Clip(wave, wave / 7, 16000)) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("order", [1, 3])
def test_cepstral_distortion_of_a_ripple(order):
    """A ripple of A dB over the mel scale is A / √2 dB of root mean square."""
    from syllabary.audio.mel import hz_to_mel

    wave = noise(32000)
    bins = np.fft.rfftfreq(len(wave), 1 / 16000)
    place = np.array([hz_to_mel(hz) for hz in bins]) / hz_to_mel(8000)
    gain = 10 ** (6 * np.cos(np.pi * order * place) / 20)
    rippled = np.fft.irfft(np.fft.rfft(wave) * gain, len(wave)).astype(np.float32)
    found = cepstral_distortion(Clip(wave, rippled, 16000))
    assert found == pytest.approx(6 / np.sqrt(2), rel=0.05)
