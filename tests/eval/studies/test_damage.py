import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syllabary.eval.studies import damage
from syllabary.eval.studies.clips import even_clips
from syllabary.eval.studies.damage import conceal, frame_order, frames_hit, other_codes, run

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


def test_the_last_frame_is_repeated():
    codes = np.array([[1, 2, 3, 4, 5], [6, 7, 8, 9, 0]])
    lost = np.array([True, False, True, True, False])
    assert conceal(codes, lost).tolist() == [[2, 2, 2, 2, 5], [7, 7, 7, 7, 0]]


@given(st.lists(st.integers(2, 5), min_size=1, max_size=3), st.integers(0, 99))
@settings(deadline=None)
def test_other_codes_are_others(sizes, seed):
    random = np.random.default_rng(seed)
    codes = random.integers(0, np.array(sizes)[:, None], (len(sizes), 30))
    others = other_codes(codes, sizes, random)
    assert (others != codes).all()
    assert (others >= 0).all() and (others < np.array(sizes)[:, None]).all()


def test_other_codes_are_drawn_evenly():
    others = other_codes(np.full((1, 30_000), 2), [4], np.random.default_rng(0))
    counts = np.bincount(others[0], minlength=4)
    assert counts[2] == 0 and (abs(counts[[0, 1, 3]] - 10_000) < 400).all()


def test_curves(monkeypatch):
    monkeypatch.setattr(damage, "CLIPS", 2)
    monkeypatch.setattr(damage, "METRICS", ("mel",))
    waves = [synthetic_speech(16_000 * seconds, seconds) for seconds in (1, 3, 3, 4)]
    bench = bench_of(tiny_codecs.rvq(), waves)
    findings = run(bench)
    found, curves = values_of(findings), curves_of(findings)
    assert not findings.missing
    for metric in damage.METRICS:
        for kind, pattern in damage.DAMAGES:
            curve = curves[f"{metric}-{kind}-{pattern}"]
            assert curve.x == (0, 1, 3, 10, 30)
            assert curve.y[0] == found[f"{metric}-intact"]
            assert curve.y[3] == found[f"{metric}-{kind}-{pattern}-10"]
            assert len(set(curve.y)) == 5
    assert values_of(run(bench)) == pytest.approx(found, abs=1e-9)


def test_what_is_damaged(monkeypatch):
    """Every damage at every share, seen where it goes into the decoder."""
    bench = bench_of(tiny_codecs.rvq(), [synthetic_speech(48_000, 1)])
    (clip,) = even_clips(bench, 8, 2.5, 3.0)
    tokens = bench.tokens(clip.item)
    codes = tokens.codes[0].numpy()
    frames = codes.shape[1]
    shares = []
    for changed in damage._damaged(clip, tokens, 0):
        changed.check()
        differs = (changed.codes[0].numpy() != codes).any(0)
        shares.append(differs.sum())
    lost, lost_burst, flipped, flipped_burst = np.reshape(shares, (4, 4))
    wanted = [max(1, round(share / 100 * frames)) for share in damage.SHARES]
    assert flipped.tolist() == flipped_burst.tolist() == wanted
    assert (lost <= wanted).all() and (lost_burst <= wanted).all() and lost[-1] > 0


def test_clips_do_not_depend_on_each_other():
    waves = [synthetic_speech(48_000, seed) for seed in range(2)]
    bench = bench_of(tiny_codecs.rvq(), waves)
    clips = even_clips(bench, 2, 2.5, 3.0)
    draws = [clip.random(0, "burst").random() for clip in clips]
    assert len({*draws, clips[0].random(1, "burst").random()}) == 3
    alone = bench_of(tiny_codecs.rvq(), waves[:1])
    assert even_clips(alone, 2, 2.5, 3.0)[0].random(0, "burst").random() == draws[0]


def test_damage_hurts_real_speech(speech_folder, monkeypatch):
    """With speech, and a codec that works, damage hurts: every metric says so."""
    import syllabary
    from syllabary.audio.files import read
    from syllabary.audio.manifests import read_manifest

    items = [
        item
        for item in read_manifest(speech_folder / "manifest.jsonl")
        if item.split == "test" and item.extra["source"] == "librispeech_tc100"
    ][:2]
    monkeypatch.setattr(damage, "SHARES", (10,))
    waves = [read(item.path, 16_000, "mix")[0] for item in items]
    found = values_of(run(bench_of(syllabary.load("rvq-16k"), waves)))
    for metric, better in (("stoi", 1), ("mel", -1), ("pesq-wb", 1)):
        intact = better * found[f"{metric}-intact"]
        for kind, pattern in damage.DAMAGES:
            assert better * found[f"{metric}-{kind}-{pattern}-10"] < intact
        # A repeated frame is nearer to what was than one drawn at random.
        lost, flipped = (f"{metric}-{kind}-random-10" for kind in ("lost", "flipped"))
        assert better * found[flipped] < better * found[lost]
    assert found["stoi-intact"] > 0.9 and found["pesq-wb-intact"] > 1.7
