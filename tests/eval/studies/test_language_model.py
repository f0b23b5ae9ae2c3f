import math
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syllabary.audio.manifests import Utterance
from syllabary.eval.metrics.interface import MetricError
from syllabary.eval.studies import language_model
from syllabary.eval.studies.language_model import choose_speech, even_order, run
from syllabary.eval.token_lm import fitting

from ... import tiny_codecs
from ...conftest import synthetic_speech
from .benches import bench_of, curves_of, values_of


def utterance(name, split=None, speaker=None):
    return Utterance(Path(name), PurePosixPath(name), split=split, speaker=speaker)


@given(st.lists(st.sampled_from(["a", "b", "c", None]), max_size=20), st.integers(0, 9))
@settings(deadline=None)
def test_speakers_take_turns(speakers, seed):
    items = [utterance(str(n), speaker=speaker) for n, speaker in enumerate(speakers)]
    ordered = even_order(items, seed)
    assert sorted(map(str, (i.name for i in ordered))) == sorted(str(i.name) for i in items)
    assert even_order(items[::-1], seed) == ordered
    counts = {"a": 0, "b": 0, "c": 0}
    for item in ordered:
        if item.speaker is not None:
            counts[item.speaker] += 1
            left = {s for s in counts if counts[s] < speakers.count(s)}
            assert all(counts[s] >= counts[item.speaker] - 1 for s in left)


def test_what_is_trained_on():
    items = [utterance(f"test{n}", "test") for n in range(30)]
    valid = [utterance(f"valid{n}", "valid") for n in range(5)]
    train = [utterance(f"train{n}", "train") for n in range(5)]

    def sets(found):
        return {i.name for i in found.train}, {i.name for i in found.test}

    names = [{i.name for i in group} for group in (items, valid, train)]
    assert sets(choose_speech(items, items + valid + train, 0)) == (names[2], names[0])
    assert sets(choose_speech(items, items + valid, 0)) == (names[1], names[0])
    shown, asked = sets(choose_speech(items, items, 0))
    assert shown | asked == names[0] and not shown & asked and len(shown) > len(asked) > 2
    # What is scored is never trained on, whatever its split is called.
    assert sets(choose_speech(train, train + items, 0)) == (names[0], names[2])
    with pytest.raises(MetricError, match="too few"):
        choose_speech(items[:1], items[:1], 0)


@pytest.fixture
def quick(monkeypatch):
    budget = replace(fitting.Budget(), frames=2000, length=32, checks=2)
    monkeypatch.setattr(fitting, "Budget", lambda: budget)
    monkeypatch.setattr(language_model, "TRAIN_S", 40.0)


def test_bits(quick):
    waves = [synthetic_speech(12_000 + 500 * seed, seed) for seed in range(16)]
    splits = ["train"] * 12 + ["test"] * 4
    bench = bench_of(tiny_codecs.rvq(), waves, codebooks=3, split=splits)
    findings = run(bench)
    found = values_of(findings)
    frames = sum(int(bench.tokens(item).lengths[0]) for item in bench.items)
    seconds = sum(len(bench.wave(item)) for item in bench.items) / 16_000
    assert found["even"] == pytest.approx(frames * 15 / seconds)
    assert found["share"] == pytest.approx(100 * found["bits"] / found["even"])
    assert 0 < found["share"] < 100
    assert found["bits-token"] * 3 * frames / seconds == pytest.approx(found["bits"])
    assert found["perplexity"] == pytest.approx(2 ** found["bits-token"])
    value = findings.values[0]
    assert value.count == 4 and value.low < value.value < value.high
    assert len(curves_of(findings)["held-out"].x) == 3
    assert values_of(run(replace(bench, items=bench.items[::-1]))) == found


def test_utterances_without_tokens_are_counted(quick):
    waves = [synthetic_speech(16_000, seed) for seed in range(14)]
    bench = bench_of(tiny_codecs.fsq(), waves, split=["train"] * 11 + ["test"] * 3)

    def tokens(item):
        if item.name.name in ("03", "12"):
            raise MetricError("damaged")
        return bench.tokens(item)

    findings = run(replace(bench, tokens=tokens))
    assert findings.values[0].count == 2
    assert any("2 utterances" in note and "damaged" in note for note in findings.notes)
    with pytest.raises(MetricError, match="expected at least 10"):
        run(bench_of(tiny_codecs.fsq(), waves[:5], split=["train"] * 4 + ["test"]))


def test_real_speech_is_more_regular_than_even_guessing(speech_folder, quick):
    import syllabary
    from syllabary.audio.files import read
    from syllabary.audio.manifests import read_manifest

    items = [i for i in read_manifest(speech_folder / "manifest.jsonl") if i.split == "test"]
    items = [i for i in items if (i.duration_s or 0) > 2][:24]
    waves = [read(item.path, 16_000, "mix")[0][:64_000] for item in items]
    splits = ["train"] * 18 + ["test"] * 6
    found = values_of(run(bench_of(syllabary.load("dmel-40ch"), waves, split=splits)))
    assert found["even"] == pytest.approx(40 * 40 * math.log2(16), rel=0.02)
    assert found["share"] < 75  # neighbouring channels and frames are alike
    assert np.isfinite(list(found.values())).all()
