import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syllabary.eval.metrics.interface import Clip, MetricError
from syllabary.eval.metrics.si_sdr import si_sdr


def noise(seed, size=4000):
    return np.random.default_rng(seed).standard_normal(size).astype(np.float32)


def reference_si_sdr(target, preds):
    """As torchmetrics has it, with zero_mean=True."""
    target, preds = (
        wave.astype(np.float64) - wave.mean(dtype=np.float64) for wave in (target, preds)
    )
    alpha = (preds * target).sum() / (target**2).sum()
    scaled = alpha * target
    return 10 * np.log10((scaled**2).sum() / ((scaled - preds) ** 2).sum())


@given(st.integers(0, 99), st.floats(-2, 2), st.floats(0.01, 10))
def test_the_formula(seed, offset, level):
    first, second = (
        noise(seed),
        (noise(seed) + level * noise(seed + 100) + offset).astype(np.float32),
    )
    expected = reference_si_sdr(first, second)
    assert si_sdr(Clip(first, second, 16000)) == pytest.approx(expected, abs=1e-4)


def test_a_known_ratio():
    time = np.arange(16000) / 16000
    tone, other = np.sin(2 * np.pi * 440 * time), np.cos(2 * np.pi * 440 * time)
    for db in (-20, 0, 30):
        estimate = 0.3 * (tone + other * 10 ** (-db / 20))
        assert si_sdr(Clip(tone, estimate, 16000)) == pytest.approx(db, abs=1e-6)


def test_what_has_no_number():
    wave = noise(0)
    for gain in (1, -0.5, 0.1234567):
        with pytest.raises(MetricError, match="infinite, as the two are equal"):
            si_sdr(Clip(wave, (gain * wave).astype(np.float32), 16000))
    with pytest.raises(MetricError, match="reconstruction is silent"):
        si_sdr(Clip(wave, 0 * wave, 16000))
    with pytest.raises(MetricError, match="reference is constant"):
        si_sdr(Clip(0 * wave + 1, wave, 16000))
    half = np.concatenate([np.tile([1, -1], 1000), np.zeros(2000)])
    with pytest.raises(MetricError, match="minus infinity"):
        si_sdr(Clip(half, half[::-1].copy(), 16000))
