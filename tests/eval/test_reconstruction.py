import numpy as np
import pytest

from syllabary.eval.reconstruction import MetricError, estoi, log_mel_distance, pesq_wb, stoi

from ..conftest import synthetic_speech

pytest.importorskip("pesq")
pytest.importorskip("pystoi")


@pytest.fixture(scope="module")
def clip(demo_clip):
    from syllabary.audio.files import read

    return read(demo_clip)[0]


def test_known_points(clip):
    assert pesq_wb(clip, clip, 16000) == pytest.approx(4.644, abs=0.001)
    assert stoi(clip, clip, 16000) == pytest.approx(1, abs=1e-6)
    noisy = clip + 0.02 * np.random.default_rng(0).standard_normal(len(clip)).astype(np.float32)
    noisier = clip + 0.1 * np.random.default_rng(0).standard_normal(len(clip)).astype(np.float32)
    assert 4.6 > pesq_wb(clip, noisy, 16000) > pesq_wb(clip, noisier, 16000) > 1
    assert 1 > stoi(clip, noisy, 16000) > stoi(clip, noisier, 16000) > 0
    assert estoi(clip, clip, 16000) == pytest.approx(1, abs=1e-6)
    assert stoi(clip, noisy, 16000) > estoi(clip, noisy, 16000) > estoi(clip, noisier, 16000) > 0
    assert 0 < log_mel_distance(clip, noisy, 16000) < log_mel_distance(clip, noisier, 16000)


@pytest.mark.parametrize("sample_rate", [8000, 16000, 22050, 24000])
def test_log_mel_distance_is_in_db(sample_rate):
    """White noise lies far above the floor, so that an attenuation is all the distance there is."""
    noise = 0.1 * np.random.default_rng(0).standard_normal(sample_rate)
    assert log_mel_distance(noise, noise, sample_rate) == 0
    for db in (0.5, 6, 20):
        attenuated = noise * 10 ** (-db / 20)
        assert log_mel_distance(noise, attenuated, sample_rate) == pytest.approx(db, abs=1e-6)
        assert log_mel_distance(attenuated, noise, sample_rate) == pytest.approx(db, abs=1e-6)


def test_log_mel_distance_has_a_floor():
    """Nothing quieter than the noise of 16 bits counts, or silence would be infinitely far."""
    rng = np.random.default_rng(0)
    dither = (rng.random(16000) - 0.5) / 32768
    click = np.zeros(16000)
    click[8000] = 0.5
    assert log_mel_distance(click + dither, click, 16000) < 6
    assert 0 < log_mel_distance(click, np.zeros(16000), 16000) < 60


def test_estoi_does_not_depend_on_the_global_random_state(clip):
    noisy = clip + 0.05 * np.random.default_rng(0).standard_normal(len(clip)).astype(np.float32)
    np.random.seed(1)  # noqa: NPY002
    first = estoi(clip, noisy, 16000)
    drawn = np.random.random()  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    assert np.random.random() == drawn  # noqa: NPY002
    assert estoi(clip, noisy, 16000) == first


def test_nothing_is_imputed(clip):
    with pytest.raises(MetricError, match="silent"):
        pesq_wb(clip * 0, clip, 16000)
    with pytest.raises(MetricError, match="silent"):
        stoi(clip * 0, clip, 16000)
    with pytest.raises(MetricError, match="shapes"):
        pesq_wb(clip, clip[1:], 16000)
    with pytest.raises(MetricError, match="16000 Hz"):
        pesq_wb(clip, clip, 8000)
    with pytest.raises(MetricError, match="PESQ"):
        pesq_wb(clip[:100], clip[:100], 16000)
    with pytest.raises(MetricError, match="STOI: Not enough"):
        stoi(synthetic_speech(2000), synthetic_speech(2000), 16000)
    with pytest.raises(MetricError, match="ESTOI: Not enough"):
        estoi(synthetic_speech(2000), synthetic_speech(2000), 16000)
    with pytest.raises(MetricError, match="silent"):
        log_mel_distance(clip * 0, clip, 16000)
    with pytest.raises(MetricError, match="shapes"):
        log_mel_distance(clip, clip[1:], 16000)
