import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from syllabary.codecs.streaming.concealment import silence_of
from syllabary.eval.studies import damage
from syllabary.eval.studies.clips import even_clips
from syllabary.eval.studies.damage import run
from syllabary.eval.studies.losses import flip_bits, frame_order, frames_hit
from syllabary.eval.systems.opus import Opus
from syllabary.eval.systems.references import Original

from ... import tiny_codecs
from ...conftest import synthetic_speech
from .benches import bench_of, curves_of, values_of


@given(st.integers(0, 60), st.integers(1, 8), st.integers(0, 99))
@settings(deadline=None)
def test_every_frame_has_its_turn(frames, length, seed):
    order = frame_order(frames, length, np.random.default_rng(seed))
    assert sorted(order.tolist()) == list(range(frames))
    whole = len(order) // length if frames >= 2 * length else 0
    for start in range(0, max(0, whole - 1) * length, length):
        run_of = order[start : start + length]
        assert np.array_equal(run_of, np.arange(run_of[0], run_of[0] + length))


@given(st.integers(1, 200), st.integers(0, 99))
@settings(deadline=None)
def test_larger_shares_hold_smaller_ones(frames, seed):
    order = np.random.default_rng(seed).permutation(frames)
    before = np.zeros(frames, bool)
    for share in (0.01, 0.1, 0.3, 1.0):
        hit = frames_hit(order, share)
        assert hit.sum() == min(max(1, round(share * frames)), frames - 1)
        assert (hit | ~before).all()
        before = hit


@given(
    st.lists(st.sampled_from([2, 5, 16, 1000, 1024]), min_size=1, max_size=3), st.integers(0, 99)
)
@settings(deadline=None)
def test_flipped_bits(sizes, seed):
    codes = np.random.default_rng(seed).integers(0, np.array(sizes)[:, None], (len(sizes), 40))
    before = np.zeros(codes.shape, np.int64)
    for rate in (0.0, 0.01, 0.1, 0.5):
        found = flip_bits(codes, sizes, rate, np.random.default_rng(seed))
        assert (found >= 0).all() and (found < np.array(sizes)[:, None]).all()
        for row, size in enumerate(sizes):
            changed = codes[row] ^ found[row]
            if size & (size - 1) == 0:  # nothing is out of range: those of a lower rate are there
                assert (changed & before[row] == before[row]).all()
                before[row] = changed
        if not rate:
            assert np.array_equal(found, codes)


def test_so_many_bits_are_flipped():
    codes = np.zeros((8, 20_000), np.int64)
    found = flip_bits(codes, [1024] * 8, 0.01, np.random.default_rng(0))
    flipped = np.unpackbits(found.astype(">u2").view(np.uint8)).sum()
    assert flipped == pytest.approx(0.01 * 10 * codes.size, rel=0.03)


def test_curves(monkeypatch):
    monkeypatch.setattr(damage, "CLIPS", 2)
    monkeypatch.setattr(damage, "METRICS", ("mel",))
    waves = [synthetic_speech(16_000 * seconds, seconds) for seconds in (1, 3, 3, 4)]
    bench = bench_of(tiny_codecs.rvq(), waves)
    findings = run(bench)
    found, curves = values_of(findings), curves_of(findings)
    assert not findings.missing
    names = {
        f"{how}-{pattern}" for how in ("concealed", "silenced") for pattern in ("random", "burst")
    }
    assert curves.keys() == {f"mel-{name}" for name in names} | {"mel-bits"}
    for name in names:
        curve = curves[f"mel-{name}"]
        assert curve.x == (0, 1, 3, 10, 30)
        assert curve.y[0] == found["mel-intact"]
        assert curve.y[3] == found[f"mel-{name}-10"]
        assert len(set(curve.y)) == 5
    assert curves["mel-bits"].x == pytest.approx((-4, -3, -2, -1))
    assert curves["mel-bits"].y[2] == found["mel-bits-1"]
    assert values_of(run(bench)) == pytest.approx(found, abs=1e-9)


def test_its_form_names_who_listens(monkeypatch):
    monkeypatch.delenv("SYLLABARY_ASR", raising=False)
    plain = damage.STUDY.whole_form
    monkeypatch.setattr(damage, "default_recognizer", lambda: SimpleNamespace(name="an ear"))
    monkeypatch.setenv("SYLLABARY_ASR", "ear")
    heard = damage.STUDY.whole_form
    assert heard == f"{plain}; an ear" and not damage.STUDY.is_done_by(plain)
    assert damage.STUDY.is_done_by(heard)
    monkeypatch.delenv("SYLLABARY_ASR")
    assert damage.STUDY.is_done_by(heard) and damage.STUDY.is_done_by(plain)


def test_what_is_damaged(monkeypatch):
    """Every damage at every share, seen where it goes into the decoder."""
    tokenizer = tiny_codecs.rvq()
    bench = bench_of(tokenizer, [synthetic_speech(48_000, 1)])
    (clip,) = even_clips(bench, 8, 2.5, 3.0)
    codes, silence = bench.tokens(clip.item).codes[0].numpy(), silence_of(tokenizer).numpy()
    given = []

    def decode(tokens, lost=None):
        given.append((tokens.codes[0].numpy(), lost))
        tokens.check()
        return torch.zeros(1, 48_000)

    monkeypatch.setattr(tokenizer, "decode", decode)
    kinds = damage.damages(bench.system)
    assert len(list(damage._damaged_tokens(bench, clip, kinds))) == len(given)
    intact, *others = given
    concealed, silenced, flipped = others[:8], others[8:16], others[16:]
    assert np.array_equal(intact[0], codes) and intact[1] is None
    frames = codes.shape[1]
    wanted = [max(1, round(share / 100 * frames)) for share in damage.SHARES]
    assert [int(lost.sum()) for _, lost in concealed] == wanted * 2
    for (changed, lost), (silent, none) in zip(concealed, silenced, strict=True):
        assert np.array_equal(changed, codes) and none is None
        assert np.array_equal(silent, np.where(lost[0], silence[:, None], codes))
    bursts = concealed[6][1][0]  # 10 % in bursts of 60 ms, 3 frames
    starts = np.flatnonzero(np.diff(bursts.astype(int), prepend=0) == 1)
    assert all(bursts[start : start + 3].all() for start in starts)
    shares = [(changed != codes).mean() for changed, _ in flipped]
    assert len(flipped) == 4 and shares == sorted(shares) and shares[-1] > 0.2


def test_opus_loses_its_own_packets(monkeypatch):
    if not shutil.which("opusenc"):
        pytest.skip("no opus-tools")
    monkeypatch.setattr(damage, "METRICS", ("mel",))
    monkeypatch.setattr(damage, "SHARES", (10, 30))
    bench = bench_of(tiny_codecs.rvq(), [synthetic_speech(48_000, 1)])
    bench = replace(bench, system=Opus("12"))
    assert damage.STUDY.unsuitable(bench.system) is None
    findings = run(bench)
    curves = curves_of(findings)
    assert curves.keys() == {"mel-concealed-random", "mel-concealed-burst"}
    for curve in curves.values():
        assert curve.y[0] < curve.y[-1]
    assert curves["mel-concealed-random"].y != curves["mel-concealed-burst"].y
    assert damage.STUDY.unsuitable(Original()) == "it gives no tokens"


def test_clips_do_not_depend_on_each_other():
    waves = [synthetic_speech(48_000, seed) for seed in range(2)]
    bench = bench_of(tiny_codecs.rvq(), waves)
    clips = even_clips(bench, 2, 2.5, 3.0)
    draws = [clip.random(0, "burst").random() for clip in clips]
    assert len({*draws, clips[0].random(1, "burst").random()}) == 3
    alone = bench_of(tiny_codecs.rvq(), waves[:1])
    assert even_clips(alone, 2, 2.5, 3.0)[0].random(0, "burst").random() == draws[0]


@pytest.mark.slow
def test_damage_hurts_real_speech(speech_folder, monkeypatch):
    """With speech, and a codec that works, damage hurts: every metric says so."""
    import syllabary
    from syllabary.audio.files import read
    from syllabary.audio.manifests import read_manifest

    items = [
        item
        for item in read_manifest(speech_folder / "manifest.jsonl")
        if item.split == "test" and item.extra["source"] == "librispeech_tc100"
    ][:8]
    monkeypatch.setattr(damage, "SHARES", (10,))
    waves = [read(item.path, 16_000, "mix")[0] for item in items]
    found = values_of(run(bench_of(syllabary.load("rvq-16k"), waves)))
    for metric, better in (("stoi", 1), ("mel", -1), ("pesq-wb", 1)):
        intact = better * found[f"{metric}-intact"]
        for pattern in damage.PATTERNS:
            concealed = better * found[f"{metric}-concealed-{pattern}-10"]
            assert better * found[f"{metric}-silenced-{pattern}-10"] < concealed < intact
        assert better * found[f"{metric}-bits-1"] < intact
    assert found["stoi-intact"] > 0.9 and found["pesq-wb-intact"] > 1.7
