"""Fourier transforms of frames: together or one by one, to the same bit."""

import numpy as np
import pytest
import scipy.fft

from syllabary.kernels import fourier as transforms


@pytest.fixture
def frames():
    return np.random.default_rng(0).standard_normal((13, 3, 320)).astype(np.float32)


@pytest.mark.parametrize("together", [True, False])
def test_each_frame_is_as_if_alone(frames, monkeypatch, together):
    if not together:
        monkeypatch.setattr(transforms, "_alike", lambda *_: False)
    spectra = transforms.spectra(frames)
    assert spectra.shape == (13, 3, 161)
    samples = transforms.samples(spectra, 320)
    assert samples.shape == frames.shape
    for frame, bins, again in zip(frames, spectra, samples, strict=True):
        assert np.array_equal(bins, scipy.fft.rfft(frame))
        assert np.array_equal(again, scipy.fft.irfft(bins, 320))
    np.testing.assert_allclose(samples, frames, atol=1e-6)


def test_a_library_that_adds_differently_is_called_frame_by_frame(monkeypatch):
    real, calls = scipy.fft.rfft, []

    def fused(values, size=None):
        calls.append(values.ndim)
        return real(values, size) * (1 + 1e-7 * (values.ndim > 2 and len(values) > 8))

    monkeypatch.setattr(scipy.fft, "rfft", fused)
    transforms._alike.cache_clear()
    values = np.random.default_rng(1).standard_normal((20, 2, 64))
    spectra = transforms.spectra(values)
    transforms._alike.cache_clear()
    assert calls[-20:] == [2] * 20
    assert np.array_equal(spectra, np.stack([real(frame) for frame in values]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_without_the_short_way_into_scipy_results_are_the_same(monkeypatch, dtype):
    values = np.random.default_rng(2).standard_normal((3, 2, 320)).astype(dtype)
    spectra = transforms.spectra(values)
    samples = transforms.samples(spectra, 320)
    monkeypatch.setattr(transforms, "_direct", lambda name, size: None)
    transforms._alike.cache_clear()
    assert np.array_equal(transforms.spectra(values), spectra)
    assert np.array_equal(transforms.samples(spectra, 320), samples)
    transforms._alike.cache_clear()
