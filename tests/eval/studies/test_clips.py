import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syllabary.eval.metrics.interface import MetricError
from syllabary.eval.studies.clips import decode, encode, even_clips, frame_codes
from syllabary.eval.studies.interface import Findings
from syllabary.eval.studies.quality_table import QualityTable

from ... import tiny_codecs
from ...conftest import synthetic_speech
from .benches import bench_of, values_of

CODEC = tiny_codecs.rvq()


@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=20),
    st.integers(1, 6),
    st.booleans(),
)
@settings(deadline=None, max_examples=50)
def test_an_even_choice(lengths, count, known):
    waves = [np.ones(100 * length, np.float32) for length in lengths]
    fields = {} if known else {"duration_s": [None] * len(lengths)}
    bench = bench_of(CODEC, waves, **fields)
    long = [number for number, length in enumerate(lengths) if length >= 10]
    least, most = 1000 / 16_000, 2000 / 16_000
    if not long:
        with pytest.raises(MetricError):
            even_clips(bench, count, least, most)
        return
    clips = even_clips(bench, count, least, most)
    chosen = [int(clip.name) for clip in clips]
    assert set(chosen) <= set(long) and chosen == sorted(set(chosen))
    assert all(len(clip.wave) == min(2000, 100 * lengths[int(clip.name)]) for clip in clips)
    if known:
        assert len(clips) == min(count, len(long))


def test_silence_is_passed_over():
    waves = [np.zeros(16_000, np.float32), synthetic_speech(16_000)]
    (clip,) = even_clips(bench_of(CODEC, waves), 1, 0.5, 1.0)
    assert clip.name == "01"


def test_some_codebooks():
    bench = bench_of(CODEC, [synthetic_speech(8000)], codebooks=2)
    tokens = encode(bench, bench.wave(bench.items[0]))
    assert frame_codes(tokens).shape == (2, 25)
    assert decode(bench, tokens).shape == (8000,)


def test_a_clip_without_a_score_is_left_out_of_every_condition():
    waves = [synthetic_speech(32_000, seed) for seed in range(3)]
    bench = bench_of(CODEC, waves)
    clips = even_clips(bench, 3, 1.0, 2.0)
    table = QualityTable(("stoi", "mel"), 16_000)
    half = np.zeros(32_000, np.float32)
    table.add(clips[0], [waves[0], 0.5 * waves[0]])
    table.add(clips[1], [waves[1], half[:100]])  # lengths differ
    table.add(clips[2], [waves[2], 0.5 * waves[2]])
    findings = Findings()
    for metric in table.metrics:
        table.put_value(findings, metric, 1, "half", "halved")
        table.put_curve(findings, metric, (0, 1), "gain", "by gain", "gain", (1, 0.5))
    found = values_of(findings)
    assert 1 < found["mel-half"] <= 6.03  # less than 6.02 dB where the floor is reached
    assert found["stoi-half"] == pytest.approx(1, abs=1e-6)
    assert all(value.count == 2 for value in findings.values)
    assert findings.curves[1].y[0] == pytest.approx(0, abs=1e-9)
    assert len(table.notes()) == 2 and "1 of 3 clips" in table.notes()[0]


def test_no_scores_at_all():
    bench = bench_of(CODEC, [synthetic_speech(32_000)])
    (clip,) = even_clips(bench, 1, 1.0, 2.0)
    table = QualityTable(("stoi",), 16_000)
    table.add(clip, [np.zeros(5, np.float32)])
    findings = Findings()
    table.put_value(findings, table.metrics[0], 0, "x", "x")
    table.put_curve(findings, table.metrics[0], (0,), "x", "x", "x", (0,))
    assert not findings.values and not findings.curves and "stoi-x" in findings.missing
