"""The packages' own figures, known points, and reasons where there is no score."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syllabary.audio.files import read
from syllabary.audio.resampling import resample
from syllabary.eval.metrics.intelligibility import estoi, stoi
from syllabary.eval.metrics.interface import Clip, MetricError
from syllabary.eval.metrics.pesq import pesq_nb, pesq_wb

from ...conftest import synthetic_speech

pesq = pytest.importorskip("pesq")
pystoi = pytest.importorskip("pystoi")


@pytest.fixture(scope="module")
def wave(demo_clip):
    return read(demo_clip)[0][:64000]


@pytest.fixture(scope="module")
def noisy(wave):
    return wave + 0.02 * np.random.default_rng(0).standard_normal(len(wave)).astype(np.float32)


def test_known_points(wave, noisy):
    same = Clip(wave, wave, 16000)
    # What the mappings of P.862.2 and P.862.1 give for the highest raw score, 4.5.
    assert pesq_wb(same) == pytest.approx(
        0.999 + 4 / (1 + np.exp(-1.3669 * 4.5 + 3.8224)), abs=1e-3
    )
    assert pesq_nb(same) == pytest.approx(
        0.999 + 4 / (1 + np.exp(-1.4945 * 4.5 + 4.6607)), abs=1e-3
    )
    assert stoi(same) == pytest.approx(1, abs=1e-6) and estoi(same) == pytest.approx(1, abs=1e-6)
    better, worse = Clip(wave, noisy, 16000), Clip(wave, wave + 5 * (noisy - wave), 16000)
    for metric in (pesq_wb, pesq_nb, stoi, estoi):
        assert metric(same) > metric(better) > metric(worse) > 0


def test_the_packages_own_figures(wave, noisy):
    clip = Clip(wave, noisy, 16000)
    assert pesq_wb(clip) == pesq.pesq(16000, wave, noisy, "wb")
    assert pesq_nb(clip) == pesq.pesq(16000, wave, noisy, "nb")
    narrow = [resample(signal, 16000, 8000) for signal in (wave, noisy)]
    assert pesq_nb(Clip(*narrow, 8000)) == pesq.pesq(8000, *narrow, "nb")


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([8000, 10000, 16000, 24000]),
    st.integers(0, 64000),
    st.integers(1, 64000),
    st.floats(1e-4, 3),
)
def test_intelligibility_is_the_packages(rate, start, length, noise):
    reference = synthetic_speech(64000, seed=1)[start : start + length]
    rng = np.random.default_rng(length)
    estimate = reference + noise * 0.1 * rng.standard_normal(len(reference)).astype(np.float32)
    clip = Clip(reference, estimate, rate)
    for ours, extended in ((stoi, False), (estoi, True)):
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            try:
                expected = pystoi.stoi(reference, estimate, rate, extended=extended)
            except (RuntimeWarning, ValueError, IndexError):  # silent, or no frames at all
                with pytest.raises(MetricError, match=r"less than 0\.4 s of speech|silent|shapes"):
                    ours(clip)
                continue
        assert ours(clip) == pytest.approx(expected, abs=1e-9)
        assert ours(Clip(estimate, reference, rate)) <= 1  # another clip than the last one


def test_a_reconstruction_that_falls_silent_has_no_chance_to_correlate(wave):
    estimate = wave * (np.arange(len(wave)) < len(wave) // 2)
    for metric in (stoi, estoi):
        found = metric(Clip(wave, estimate, 16000))
        assert found < 0.6  # and has no random part:
        assert metric(Clip(wave, estimate, 16000)) == pytest.approx(found, abs=1e-9)
        assert metric(Clip(wave, wave * 0, 16000)) == 0


def test_nothing_is_imputed(wave):
    for metric in (pesq_wb, pesq_nb, stoi, estoi):
        with pytest.raises(MetricError, match="the reference is silent"):
            metric(Clip(wave * 0, wave, 16000))
        with pytest.raises(MetricError, match="shapes"):
            metric(Clip(wave, wave[1:], 16000))
        with pytest.raises(MetricError, match="the reconstruction has NaN"):
            metric(Clip(wave, wave * np.nan, 16000))
    with pytest.raises(MetricError, match="PESQ-wb needs 16000 Hz, got 8000"):
        pesq_wb(Clip(wave, wave, 8000))
    with pytest.raises(MetricError, match="PESQ-nb needs 16000 or 8000 Hz, got 24000"):
        pesq_nb(Clip(wave, wave, 24000))
    with pytest.raises(MetricError, match=r"PESQ: .*1/4"):
        pesq_wb(Clip(wave[:100], wave[:100], 16000))
    long = np.tile(wave, 11)
    with pytest.raises(MetricError, match=r"PESQ: 44\.0 s; expected a sentence of at most 40 s"):
        pesq_wb(Clip(long, long, 16000))
    short = synthetic_speech(2000)
    with pytest.raises(MetricError, match=r"^STOI: less than 0\.4 s of speech"):
        stoi(Clip(short, short, 16000))
    with pytest.raises(MetricError, match=r"^ESTOI: less than 0\.4 s of speech"):
        estoi(Clip(short, short, 16000))
