"""MFCC and log-mel: against librosa, and frame by frame."""

import librosa
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from syllabary.semantic.encoders.log_mel import LogMel, LogMelConfig
from syllabary.semantic.encoders.mfcc import MFCC, MFCCConfig

from ...conftest import synthetic_speech

ENCODERS = {"mfcc": MFCC().eval(), "log-mel": LogMel().eval()}


def speech(num_samples: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(synthetic_speech(num_samples, seed))


def test_mfcc_equals_librosas():
    config = MFCCConfig()
    wave = speech(16000)
    own = MFCC(config).features([wave])[0].numpy()
    # An analysis frame is centred on sample 160 × n of the padded wave: on the middle of each hop.
    padded = np.pad(wave.numpy().astype(np.float64), (160, 160))
    amplitudes = librosa.feature.melspectrogram(
        y=padded, sr=16000, n_fft=512, win_length=400, hop_length=160, window="hann",
        center=True, pad_mode="constant", power=1.0, n_mels=40, fmin=20.0, fmax=8000.0,
    )  # fmt: skip
    log = 2 * np.log(np.maximum(amplitudes, 1e-5))
    cepstra = librosa.feature.mfcc(S=log, n_mfcc=13, lifter=0)
    order = np.arange(13)[:, None]
    cepstra = cepstra * (1 + 11 * np.sin(np.pi * order / 22))
    slope = librosa.feature.delta(cepstra, width=5, order=1, mode="interp")
    curve = librosa.feature.delta(slope, width=5, order=1, mode="interp")
    expected = np.concatenate([cepstra, slope, curve])[:, 2::2].T[: len(own)]
    inner = slice(5, 44)  # derivatives at the ends hear zeros here, a fitted line there
    np.testing.assert_allclose(own[inner], expected[inner], rtol=1e-4, atol=2e-3)


def test_log_mel_is_the_mel_spectrogram_in_the_middle_of_each_hop():
    wave = speech(16000)
    own = ENCODERS["log-mel"].features([wave])[0]
    amplitudes = librosa.feature.melspectrogram(
        y=np.pad(wave.numpy().astype(np.float64), (160, 160)), sr=16000, n_fft=1024,
        win_length=800, hop_length=320, window="hann", center=True, pad_mode="constant",
        power=1.0, n_mels=80, fmin=80.0, fmax=7600.0,
    )  # fmt: skip
    expected = np.log10(np.maximum(amplitudes, 1e-5))[:, 1 : 1 + len(own)].T
    np.testing.assert_allclose(own.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("name", ENCODERS)
@given(lengths=st.lists(st.integers(0, 9000), min_size=1, max_size=4), cut=st.floats(0, 1))
@settings(max_examples=15, deadline=None)
def test_features_depend_on_nothing_but_the_row(name, lengths, cut):
    encoder = ENCODERS[name]
    rows = [speech(length, seed) for seed, length in enumerate(lengths)]
    together = encoder.features(rows)
    stream = encoder.start(len(rows))
    parts = [
        stream.push([row[: int(cut * len(row))] for row in rows], False),
        stream.push([row[int(cut * len(row)) :] for row in rows], True),
    ]
    for index, row in enumerate(rows):
        assert together[index].shape == (-(-len(row) // 320), encoder.dim)
        assert torch.equal(together[index], encoder.features([row])[0])
        assert torch.equal(together[index], torch.cat([part[index] for part in parts]))


@pytest.mark.parametrize("name", ENCODERS)
def test_the_latency_is_what_a_frame_depends_on(name):
    encoder = ENCODERS[name]
    wave = speech(16000)
    features = encoder.features([wave])[0]
    for frame in (0, 7, 20):
        end = frame * 320 + encoder.latency
        changed = wave.clone()
        changed[end:] = 0.5
        assert torch.equal(encoder.features([changed])[0][: frame + 1], features[: frame + 1])
        changed[end - 40 :] = 0.5  # not the very last sample: a window ends in zeros
        assert not torch.equal(encoder.features([changed])[0][frame], features[frame])


def test_silence_and_loudness_stay_finite():
    for encoder in ENCODERS.values():
        for wave in (torch.zeros(1000), torch.full((1000,), 1e4), torch.full((1000,), 1e-30)):
            assert bool(encoder.features([wave])[0].isfinite().all())


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="even number"):
        LogMelConfig(hop=321)
    with pytest.raises(ValueError, match="num_coefficients"):
        MFCCConfig(num_coefficients=50)
