import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syllabary.codecs.tokens import Tokens
from syllabary.eval.metrics.interface import MetricError
from syllabary.eval.studies import idempotence
from syllabary.eval.studies.clips import decode, encode, even_clips, frame_codes
from syllabary.eval.studies.idempotence import equal_codes, run

from ... import tiny_codecs
from ...conftest import synthetic_speech
from .benches import bench_of, curves_of, values_of


@given(st.integers(1, 3), st.integers(0, 12), st.integers(-2, 2), st.integers(0, 99))
@settings(deadline=None)
def test_a_shift_is_found(codebooks, frames, shift, seed):
    codes = np.random.default_rng(seed).integers(0, 1000, (codebooks, frames))
    moved = np.full_like(codes, -1)
    for t in range(frames):
        if 0 <= t + shift < frames:
            moved[:, t + shift] = codes[:, t]
    counts = equal_codes(codes, moved, shift)
    compared = max(0, frames - abs(shift))
    assert counts.tolist() == [compared] * codebooks + [compared]
    assert equal_codes(codes, codes).tolist() == [frames] * (codebooks + 1)
    assert equal_codes(codes, codes + 1)[:-1].sum() == 0


def test_generations(monkeypatch):
    monkeypatch.setattr(idempotence, "CLIPS", 2)
    monkeypatch.setattr(idempotence, "GENERATIONS", 3)
    waves = [synthetic_speech(16_000 * seconds, seconds) for seconds in (1, 2, 3, 4)]
    bench = bench_of(tiny_codecs.rvq(), waves)
    findings = run(bench)
    found, curves = values_of(findings), curves_of(findings)
    assert all(0 <= found[name] <= 100 for name in ("consistency", "same-3"))
    assert found["consistency-shifted"] >= found["consistency"]
    assert curves["drift"].y[0] == found["consistency"]
    assert np.mean(curves["consistency"].y) == pytest.approx(found["consistency"])
    assert curves["consistency"].y[0] == found["consistency-first"]
    assert curves["stoi"].x == (1, 2, 3)
    assert curves["stoi"].y[0] == found["stoi-1"] and curves["mel"].y[-1] == found["mel-3"]
    assert all(value.count == 2 for value in findings.values)
    assert values_of(run(bench)) == pytest.approx(found, abs=1e-9)

    # Generation 2 is what codes the plain reconstruction.
    counts = 0
    for clip in even_clips(bench, 2, 2.0, 3.0):
        first = encode(bench, clip.wave)
        again = encode(bench, decode(bench, first))
        counts = counts + equal_codes(frame_codes(first), frame_codes(again))
    assert found["consistency"] == pytest.approx(100 * counts[:-1].sum() / (4 * counts[-1]))


def test_a_delay_is_said(monkeypatch):
    """A codec whose sound comes a frame late has the same codes, a frame later each time."""
    encode, generations = idempotence.encode, []

    def late(bench, wave):
        tokens = encode(bench, wave)
        generations.append(tokens.codes)
        codes = generations[0].roll(len(generations) - 1, -1)
        return Tokens(codes, tokens.lengths, tokens.num_samples, tokens.spec)

    monkeypatch.setattr(idempotence, "encode", late)
    monkeypatch.setattr(idempotence, "CLIPS", 1)
    monkeypatch.setattr(idempotence, "GENERATIONS", 3)
    findings = run(bench_of(tiny_codecs.rvq(), [synthetic_speech(40_000, 1)]))
    found = values_of(findings)
    assert found["consistency-shifted"] == 100 > found["consistency"]
    assert any("read 1 frame later" in note for note in findings.notes)


def test_too_short():
    with pytest.raises(MetricError, match="at least 2 s"):
        run(bench_of(tiny_codecs.rvq(), [synthetic_speech(16_000)]))
