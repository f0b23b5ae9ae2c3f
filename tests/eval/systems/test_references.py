import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syllabary.eval.systems import catalogue
from syllabary.eval.systems.references import Noise

from ...conftest import synthetic_speech


@given(length=st.integers(0, 3000), seed=st.integers(0, 9))
@settings(max_examples=30, deadline=None)
@pytest.mark.parametrize("name", catalogue.REFERENCES)
def test_references_keep_the_length_and_spend_nothing(name, length, seed):
    wave = synthetic_speech(length, seed)
    system = catalogue.find(name)
    found = system.reconstruct(wave)
    assert found.wave.shape == wave.shape and found.wave.dtype == np.float32
    assert found.bits is None and found.tokens is None
    assert np.array_equal(system.reconstruct(wave).wave, found.wave)


def test_what_the_references_are():
    wave = synthetic_speech(16000)
    original, narrow, noise = (catalogue.find(name) for name in catalogue.REFERENCES)
    assert np.array_equal(original.reconstruct(wave).wave, wave)

    found = narrow.reconstruct(wave).wave
    difference = np.abs(np.fft.rfft(found) - np.fft.rfft(wave))
    size = np.abs(np.fft.rfft(wave))
    assert difference[100:3500].sum() < 0.02 * size[100:3500].sum()
    assert np.abs(np.fft.rfft(found))[4200:].sum() < 0.02 * size[4200:].sum()

    found = noise.reconstruct(wave).wave
    assert np.sqrt(np.mean(found**2)) == pytest.approx(np.sqrt(np.mean(wave**2)), rel=1e-4)
    assert abs(np.corrcoef(found, wave)[0, 1]) < 0.05
    spectrum = np.abs(np.fft.rfft(found)).reshape(-1)[: 8000 // 16 * 16].reshape(16, -1).mean(1)
    assert spectrum.max() < 1.2 * spectrum.min()  # white


def test_noise_depends_on_the_clip_only():
    one, other = synthetic_speech(4000, 1), synthetic_speech(4000, 2)
    first = Noise()
    before = first.reconstruct(one).wave
    first.reconstruct(other)
    assert np.array_equal(Noise().reconstruct(one).wave, before)
    assert abs(np.corrcoef(before, first.reconstruct(other).wave)[0, 1]) < 0.1
    assert not first.reconstruct(np.zeros(10, np.float32)).wave.any()
