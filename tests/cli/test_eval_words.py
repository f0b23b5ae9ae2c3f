"""`syllabary eval --asr`: who hears the words is in the results, and different ones never mix."""

import json
import os

import numpy as np
import pytest

from syllabary.audio.files import read, write
from syllabary.eval.leaderboard.board import collect
from syllabary.eval.leaderboard.build import write_site
from syllabary.eval.leaderboard.tables import quality
from syllabary.eval.recogniser_folders import find_model
from syllabary.eval.recognition import ASR, in_a_loop, open_recognizer
from syllabary.eval.results.check import load
from syllabary.eval.results.files import ResultError

from ..tiny_whisper import write_tiny_ctranslate2

pytest.importorskip("faster_whisper")
jiwer = pytest.importorskip("jiwer")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return [
        write_tiny_ctranslate2(folder / f"tiny{n}", multilingual=n == 0, seed=n) for n in range(2)
    ]


@pytest.fixture
def evaluate(run, tmp_path, monkeypatch, demo_clip):
    """Runs the command on three items: English, Arabic, and one of nobody knows which."""
    monkeypatch.delenv(ASR, raising=False)
    monkeypatch.chdir(tmp_path)
    wave = read(demo_clip)[0]
    lines = []
    for n, told in enumerate(({"lang": "en-GB"}, {"language": "ar"}, {})):
        write(tmp_path / f"{n}.wav", wave[n * 16000 : n * 16000 + 32000], 16000)
        lines.append({"path": f"{n}.wav", "text": "one two three", **told})
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, lines)))

    def call(*options, output="results", codecs="original,original-8k,noise", metrics="dwer,cer"):
        arguments = ["eval", "--codecs", codecs, "--data", "data.jsonl", "--metrics", metrics]
        arguments += ["--studies", "none", "--probes", "none", "--workers", "1", "-o", output]
        code, out, err = run(*arguments, *options)
        return code, out + err

    return call


def test_the_recogniser_is_in_the_results(evaluate, models, tmp_path):
    code, said = evaluate("--asr", str(models[0]))
    assert code == 0, said
    assert ASR not in os.environ
    digest = find_model(str(models[0])).digest[:12]
    results = {p.parent.name: load(p) for p in tmp_path.glob("results/*/result.json")}
    words = open_recognizer(str(models[0]))
    for result in results.values():
        assert f"--asr {models[0]}" in result.command
        assert {m.variant for m in result.metrics} == {f"{words.name}, errors capped"}
        assert all(f"tiny0 {digest}, faster-whisper" in m.variant for m in result.metrics)
        assert result.environment.packages["faster-whisper"]
    said = {item.name: item for item in results["original"].items}
    for name, language in (("0.wav", "en"), ("1.wav", "ar"), ("2.wav", None)):
        heard = words.words(read(tmp_path / name)[0], 16000, language)
        text = jiwer.process_characters("one two three", " ".join(heard))
        edits = text.substitutions + text.insertions + text.deletions
        assert said[name].capped["cer"] == edits
        # So little does a random model know that it falls into loops on originals too.
        if in_a_loop(heard):
            assert "falls into a loop on the original" in said[name].failures["dwer"]
        else:
            assert said[name].scores["dwer"] == (0, len(heard))
    # A random model writes more than the three words of the text, which is capped and told.
    (cer,) = (m for m in results["original"].metrics if m.name == "cer")
    assert cer.domains["all"].value == 1 and cer.domains["all"].capped == 3
    assert all(item.scores["cer"] == (13, 13) for item in said.values())
    assert all(item.capped["cer"] > 13 for item in said.values())

    # The page tells it, and where it was heard by something else it stands in another column.
    (section,) = collect([tmp_path / "results"]).sections
    table = quality(section)
    place = [column.heading for column in table.columns].index("CER")
    assert {row.entry.name: row.cells[place].capped for row in table.rows}["original"] == 3
    for path in write_site(collect([tmp_path / "results"]), tmp_path / "site"):
        text = path.read_text()
        assert "3 capped" in text and f"tiny0 {digest}" in text and "errors than words" in text

    code, said = evaluate("--asr", str(models[1]))
    assert code == 2 and "variants.dwer was 'tiny0 " in said, said
    code, said = evaluate("--asr", str(models[1]), output="other", codecs="original-8k")
    assert code == 0, said
    with pytest.raises(ResultError, match=r"dwer is by tiny0 .*, and in .*original-8k by tiny1 "):
        collect([tmp_path / "results", tmp_path / "other"])
    foreign = json.loads((tmp_path / "other" / "original-8k" / "result.json").read_text())
    reasons = {item["name"]: item["failures"].get("cer", "") for item in foreign["items"]}
    assert "knows en; this is ar" in reasons["1.wav"] and not reasons["0.wav"]
    (tmp_path / "results" / "original-8k" / "result.json").unlink()
    (section,) = collect([tmp_path / "results", tmp_path / "other"]).sections
    headings = [column.heading for column in section.metrics]
    assert len(headings) == 4 and all(f"tiny{n} " in "".join(headings) for n in range(2)), headings


def test_the_variable_stands_for_the_option(evaluate, models, monkeypatch, tmp_path):
    monkeypatch.setenv(ASR, str(models[1]))
    code, said = evaluate(codecs="original-8k")
    assert code == 0, said
    fields = json.loads((tmp_path / "results" / "original-8k" / "result.json").read_text())
    assert f"--asr {models[1]}" in fields["command"]
    assert "tiny1 " in fields["metrics"][0]["variant"]


def test_a_recogniser_that_is_not_there_ends_it_before_it_begins(evaluate, tmp_path, monkeypatch):
    for given, message in (
        ("./no-such", "recogniser ./no-such: no such folder"),
        ("huge", "recogniser huge: no such folder; expected one, or owner/name on the hub, or"),
        ("data.jsonl", "recogniser data.jsonl: a file; expected the folder of a model"),
        (".", "no config.json in it"),
    ):
        code, said = evaluate("--asr", given)
        assert code == 2 and message in said, said
        assert "Traceback" not in said and not (tmp_path / "results").exists()
        code, said = evaluate("--asr", given, "--studies", "damage", metrics="none")
        assert code == 2 and message in said, said
        assert not (tmp_path / "results").exists()
    # Nobody listens to these.
    monkeypatch.setenv(ASR, "./no-such")
    code, said = evaluate(codecs="original", metrics="mel")
    assert code == 0, said


def test_silence_is_not_heard(evaluate, models, tmp_path):
    """An item in whose original nothing is heard fails with its reason, and counts nowhere."""
    write(tmp_path / "0.wav", np.zeros(100, np.float32), 16000)
    code, said = evaluate("--asr", str(models[1]), codecs="noise")
    assert code in (0, 1), said
    fields = json.loads((tmp_path / "results" / "noise" / "result.json").read_text())
    first = fields["items"][0]
    assert "dwer" not in first["scores"] and (
        "silent" in (first["error"] or first["failures"]["dwer"])
    )
