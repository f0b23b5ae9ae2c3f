import dataclasses
import json
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from syllabary.audio.files import read, write
from syllabary.audio.manifests import collect
from syllabary.errors import ManifestError, TokenError
from syllabary.eval.metrics.interface import MetricError
from syllabary.eval.probes import probe as probing
from syllabary.eval.probes import references as known
from syllabary.eval.probes.encoding import encode
from syllabary.eval.probes.sampling import choose
from syllabary.eval.probes.task import ProbeTask, SplitBy
from syllabary.eval.probes.training import Budget
from syllabary.eval.studies.interface import Bench
from syllabary.eval.studies.probes import study

from ... import tiny_codecs
from ...conftest import synthetic_speech

TASK = ProbeTask("pitch", "classification", label="text", split_by=SplitBy(), max_seconds=0.5)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two words: speech, and the same with a tone."""
    folder = tmp_path_factory.mktemp("speech")
    lines = []
    for number in range(60):
        wave = synthetic_speech(7000 + 43 * number, number)
        if number % 2:
            wave += 0.3 * np.sin(np.arange(len(wave)) * 1.1).astype(np.float32)
        write(folder / f"{number}.wav", wave, 16000)
        lines.append({"path": f"{number}.wav", "text": ["plain", "toned"][number % 2]})
    (folder / "manifest.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder


def system(tokenizer, num_codebooks=None):
    return SimpleNamespace(
        name="tiny",
        tokenizer=tokenizer,
        digest=tokenizer.full_digest if tokenizer else "",
        sample_rate=16000,
        num_codebooks=num_codebooks,
    )


def wave_of(utterance):
    return read(utterance.path, 16000)[0]


@pytest.fixture(autouse=True)
def little(monkeypatch):
    monkeypatch.setitem(probing.BUDGETS, "classification", Budget(epochs=1, steps=30))


def bench(data, tmp_path, tokenizer, **changes):
    items = collect([data])
    return Bench(
        **{"system": system(tokenizer), "items": [], "everything": items, "wave": wave_of}
        | {"reconstruction": wave_of, "tokens": wave_of, "folder": tmp_path / "one"}
        | {"shared": tmp_path / "shared"}
        | changes
    )


@pytest.mark.slow
def test_a_study_says_what_it_found_and_what_stands_beside_it(data, tmp_path, monkeypatch):
    here = bench(data, tmp_path, tiny_codecs.dmel())
    found = study(TASK).run(here)
    values = {value.name: value for value in found.values}
    assert (
        list(values) == ["accuracy", "mean", "log-mel", "content", "random"] and not found.missing
    )
    assert values["accuracy"].value > 80 and values["log-mel"].value > 80
    assert values["accuracy"].higher_is_better and values["accuracy"].count == 12
    assert values["random"].value < 90
    assert "Learned from 48 utterances, 2 labels; tested on 12." in found.notes[0]
    assert any("most frequent label has 50.0 %" in note for note in found.notes)

    # References are there for the next system, and are not computed again.
    kept = sorted((tmp_path / "shared" / "probe-references").iterdir())
    assert len(kept) == 3
    monkeypatch.setattr(known, "_waves", None)
    again = study(TASK).run(bench(data, tmp_path, tiny_codecs.rvq(), folder=tmp_path / "two"))
    assert again.values[2:] == found.values[2:]
    monkeypatch.undo()
    # A torn one is.
    before = kept[0].read_text()
    kept[0].write_text(before[:50])
    monkeypatch.setitem(probing.BUDGETS, "classification", Budget(epochs=1, steps=30))
    assert study(TASK).run(here).values == found.values and kept[0].read_text() == before


def test_what_a_study_can_not_be_had_of(data, tmp_path):
    found = study(TASK)
    assert found.name == "probe:pitch" and found.unsuitable(system(tiny_codecs.rvq())) is None
    assert "no tokens" in found.unsuitable(system(None))
    with pytest.raises(MetricError, match="0 utterances to train on"):
        found.run(bench(data, tmp_path, tiny_codecs.rvq(), everything=[]))


def test_data_of_its_own(data, tmp_path):
    """What is not there is a failure; what has changed is another study."""
    gone = dataclasses.replace(TASK, data=str(tmp_path / "gone.jsonl"))
    with pytest.raises(ManifestError, match=r"gone\.jsonl"):
        study(gone).run(bench(data, tmp_path, tiny_codecs.rvq()))
    task = dataclasses.replace(TASK, kind="verification", trials=str(tmp_path / "gone.txt"))
    with pytest.raises(MetricError, match=r"trials: .*gone\.txt"):
        study(task).run(bench(data, tmp_path, tiny_codecs.rvq()))
    assert study(TASK).form == study(dataclasses.replace(TASK)).form
    manifest = tmp_path / "manifest.jsonl"
    for place in (tmp_path, manifest):
        task = dataclasses.replace(TASK, data=str(place))
        forms = set()
        for content in ("a", "b", "b"):
            manifest.write_text(content)
            forms.add(study(task).form)
        assert len(forms) == 2


@pytest.mark.parametrize("count", [None, 2])
def test_codes_are_those_of_the_tokenizer_and_are_kept(data, tmp_path, count, monkeypatch):
    tokenizer = tiny_codecs.rvq()
    parts = choose(TASK, collect([data]))
    examples = parts.train + parts.test
    codes = encode(system(tokenizer, count), wave_of, TASK, examples, tmp_path)
    assert codes.frame_rate == 50 and len(codes.rows) == 60
    for example in examples[:4]:
        alone = tokenizer.encode(wave_of(example.utterance)[:8000], 16000, num_codebooks=count)
        assert np.array_equal(codes.rows[example.name].T, alone.codes[0].numpy())
    monkeypatch.setattr(type(tokenizer), "start_encoder", None)
    again = encode(system(tokenizer, count), wave_of, TASK, examples, tmp_path)
    assert all(np.array_equal(codes.rows[name], row) for name, row in again.rows.items())
    monkeypatch.undo()
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-100])
    again = encode(system(tokenizer, count), wave_of, TASK, examples, tmp_path)
    assert all(np.array_equal(codes.rows[name], row) for name, row in again.rows.items())


def test_one_that_fails_says_why_and_spares_the_others(data, tmp_path, monkeypatch):
    tokenizer = tiny_codecs.rvq()
    parts = choose(TASK, collect([data]))
    examples = parts.train + parts.test
    whole = type(tokenizer).encode
    bad, unread = examples[3], examples[5]
    length = len(wave_of(bad.utterance)[:8000])

    def encode_or_fail(self, wave, sample_rate, lengths=None, num_codebooks=None):
        if length in lengths:
            raise TokenError("it broke")
        return whole(self, wave, sample_rate, lengths, num_codebooks)

    def wave_or_fail(utterance):
        return read("nowhere.wav")[0] if utterance == unread.utterance else wave_of(utterance)

    monkeypatch.setattr(type(tokenizer), "encode", encode_or_fail)
    codes = encode(system(tokenizer), wave_or_fail, TASK, examples, tmp_path)
    same = {e.name for e in examples if len(wave_of(e.utterance)[:8000]) == length}
    assert set(codes.failed) == same | {unread.name} and codes.failed[bad.name] == "it broke"
    assert "no such file" in codes.failed[unread.name]
    assert set(codes.rows) == {e.name for e in examples} - set(codes.failed)


def test_random_tokens_depend_on_the_name_and_the_length_only():
    waves = {"a": np.zeros(16000, np.float32), "b": np.zeros(401, np.float32)}
    codes = known._random(waves, 0)
    assert codes.rows["a"].shape == (50, 1) and codes.rows["b"].shape == (2, 1)
    again = known._random(dict(reversed(waves.items())), 0)
    assert all(np.array_equal(codes.rows[name], again.rows[name]) for name in waves)
    assert not np.array_equal(known._random(waves, 1).rows["a"], codes.rows["a"])
    many = known._random({str(n): np.zeros(160_000, np.float32) for n in range(20)}, 0)
    counts = np.bincount(np.concatenate(list(many.rows.values()))[:, 0], minlength=500)
    assert len(counts) == 500 and counts.max() < 50


def test_long_speech_is_left_out_of_recognition(tmp_path):
    task = ProbeTask("t", "ctc", split_by=SplitBy(), max_seconds=0.5)
    with pytest.raises(MetricError, match=r"longer than 0\.5 s"):
        known.probe_input(np.zeros(9000, np.float32), 16000, task)
    assert len(known.probe_input(np.zeros(9000, np.float32), 16000, TASK)) == 8000
    with pytest.raises(MetricError, match="no samples"):
        known.probe_input(np.zeros(0, np.float32), 16000, TASK)


def test_global_codes_are_codebooks_in_every_frame():
    from syllabary.codecs.spec import TokenSpec
    from syllabary.codecs.tokens import Tokens
    from syllabary.eval.probes.encoding import _row

    spec = TokenSpec("x", "0" * 64, 16000, Fraction(50), (4,), (9, 9))
    tokens = Tokens(
        torch.tensor([[[1, 2, 3]]]), torch.tensor([3]), torch.tensor([960]), spec, None,
        torch.tensor([[7, 8]]),
    )  # fmt: skip
    assert _row(tokens).tolist() == [[1, 2, 3], [7, 7, 7], [8, 8, 8]]
