import librosa
import numpy as np
import pytest
import torch

from syllabary.audio.mel import MelSpectrogram, log_mel, mel_filterbank

from ..conftest import synthetic_speech

CASES = [
    (16000, 1024, 80, 80.0, 7600.0),
    (16000, 512, 40, 0.0, 8000.0),
    (24000, 2048, 128, 20.0, 12000.0),
    (44100, 4096, 100, 0.0, 22050.0),
]


@pytest.mark.parametrize(("rate", "n_fft", "num_mels", "fmin", "fmax"), CASES)
def test_filterbank_equals_librosa(rate, n_fft, num_mels, fmin, fmax):
    expected = librosa.filters.mel(
        sr=rate, n_fft=n_fft, n_mels=num_mels, fmin=fmin, fmax=fmax, dtype=np.float64
    )
    ours = mel_filterbank(rate, n_fft, num_mels, fmin, fmax)
    assert np.abs(ours - expected).max() < 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("window", "hop"), [(800, 400), (800, 200), (1024, 256), (400, 160)])
def test_log_mel_equals_librosa(window, hop, dtype):
    wave = synthetic_speech(20_011)
    if dtype == torch.float32:
        # The noise of any recording: below 1e-7 of a frame's peak, float32 holds rounding only.
        wave += 1e-4 * np.random.default_rng(0).standard_normal(len(wave)).astype(np.float32)
    expected = librosa.feature.melspectrogram(
        y=wave.astype(np.float64),
        sr=16000,
        n_fft=1024,
        win_length=window,
        hop_length=hop,
        n_mels=80,
        fmin=80,
        fmax=7600,
        power=1,
        pad_mode="constant",
    )
    expected = np.log10(np.maximum(expected, 1e-10))
    ours = log_mel(
        MelSpectrogram(window_length=window, hop_length=hop, dtype=dtype)(
            torch.from_numpy(wave)[None]
        )
    )[0]
    assert ours.shape == expected.shape
    assert np.abs(ours.numpy() - expected).max() < 1e-4


def test_gradients_stay_finite_in_silence():
    wave = torch.zeros(2000, requires_grad=True)
    log_mel(MelSpectrogram()(wave)).sum().backward()
    assert bool(wave.grad.isfinite().all())


def test_bad_settings():
    with pytest.raises(ValueError, match="fmin < fmax"):
        mel_filterbank(16000, 1024, 80, 80, 9000)
    with pytest.raises(ValueError, match="holds no FFT bin"):
        mel_filterbank(16000, 256, 128, 80, 7600)
    with pytest.raises(ValueError, match="exceeds n_fft"):
        MelSpectrogram(n_fft=512)
