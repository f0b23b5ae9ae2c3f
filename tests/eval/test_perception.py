import sys

import numpy as np
import pytest

from syllabary.eval.perception import dnsmos, dnsmos_overall, speaker_similarity
from syllabary.eval.reconstruction import MetricError


@pytest.fixture(scope="module")
def clip(demo_clip):
    from syllabary.audio.files import read

    return read(demo_clip)[0]


def noise(clip, level):
    return level * np.random.default_rng(0).standard_normal(len(clip)).astype(np.float32)


def test_speaker_similarity(clip):
    pytest.importorskip("resemblyzer")
    assert speaker_similarity(clip, clip, 16000) == pytest.approx(1, abs=1e-5)
    # What is softer than -30 dBFS is raised to it; what 16 bits would wrap around is clamped.
    assert speaker_similarity(clip / 50, clip / 100, 16000) > 0.999
    loud = speaker_similarity(clip, 9 * clip, 16000)
    assert loud == speaker_similarity(clip, np.clip(9 * clip, -1, 1), 16000)
    noisy = speaker_similarity(clip, clip + noise(clip, 0.05), 16000)
    # Read faster, everything lies higher: the voice of somebody else.
    higher = np.interp(np.arange(0, len(clip), 1.5), np.arange(len(clip)), clip)
    stretched = np.pad(higher, (0, len(clip) - len(higher)))
    assert 0.98 > noisy > speaker_similarity(clip, stretched, 16000) > 0


def test_speaker_similarity_refuses(clip):
    pytest.importorskip("resemblyzer")
    with pytest.raises(MetricError, match="16000 Hz"):
        speaker_similarity(clip, clip, 8000)
    with pytest.raises(MetricError, match="reference is silent"):
        speaker_similarity(0 * clip, clip, 16000)
    with pytest.raises(MetricError, match="no voice in the reconstruction"):
        speaker_similarity(clip, 0 * clip, 16000)
    with pytest.raises(MetricError, match="no voice in the reference"):
        speaker_similarity(clip[:100], clip[:100], 16000)
    with pytest.raises(MetricError, match="shapes"):
        speaker_similarity(clip, clip[1:], 16000)


def test_dnsmos(clip):
    pytest.importorskip("speechmos")
    pytest.importorskip("onnxruntime")
    clip = clip[:72100]  # repeated once, it fills one window of 9.01 s
    clean, noisy = dnsmos(clip, 16000), dnsmos(clip + noise(clip, 0.05), 16000)
    for name in ("overall", "signal", "background"):
        assert 1 < getattr(noisy, name) < getattr(clean, name) < 5
    loud = clip * (1.5 / np.abs(clip).max())
    assert dnsmos(loud, 16000) == dnsmos(np.clip(loud, -1, 1), 16000)
    assert dnsmos_overall(noise(clip, 1), clip, 16000) == clean.overall
    assert dnsmos(np.tile(clip, 2), 16000) == clean


def test_dnsmos_refuses(clip):
    with pytest.raises(MetricError, match="16000 Hz"):
        dnsmos(clip, 24000)
    for wrong in (clip[:0], clip[None]):
        with pytest.raises(MetricError, match=r"expected \(samples,\)"):
            dnsmos(wrong, 16000)
    with pytest.raises(MetricError, match="shapes"):
        dnsmos_overall(clip, clip[1:], 16000)


def test_a_package_that_is_not_there(clip, monkeypatch):
    monkeypatch.setitem(sys.modules, "resemblyzer", None)
    with pytest.raises(MetricError, match=r"no resemblyzer package; pip install .*eval"):
        speaker_similarity(clip, clip, 16000)
    monkeypatch.setitem(sys.modules, "speechmos.dnsmos", None)
    with pytest.raises(MetricError, match=r"no speechmos.* package; pip install .*eval"):
        dnsmos(clip, 16000)
