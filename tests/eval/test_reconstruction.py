import numpy as np
import pytest

from syllabary.eval.reconstruction import MetricError, pesq_wb, stoi

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
