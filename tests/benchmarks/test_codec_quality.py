"""The plumbing of the quality benchmark, with a codec that only turns the volume down."""

import dataclasses
import json
import sys

import numpy as np
import pytest

import syllabary
from syllabary.audio.files import write
from syllabary.eval.metrics.catalogue import BUNDLED
from syllabary.eval.metrics.interface import MetricError
from syllabary.eval.systems import catalogue
from syllabary.eval.systems.interface import Reconstruction
from syllabary.eval.systems.references import Original

from ..conftest import ROOT, synthetic_speech

sys.path.insert(0, str(ROOT / "benchmarks"))
import codec_quality
import lost_words
import peers


class Quieter:
    """Takes 6.02 dB off; knows nothing to do with very short files."""

    name, setting, digest, delay = "quieter:1", "half the volume", "d" * 64, 0
    sample_rate = 16000

    def __init__(self):
        self.calls = 0

    def reconstruct(self, wave):
        self.calls += 1
        if len(wave) < 1000:
            raise RuntimeError("too short")
        return Reconstruction(wave / 2, 16.0 * len(wave))


@pytest.fixture
def corpus(tmp_path):
    """Six test sentences, the last one very short, among lines that are none."""
    folder = tmp_path / "speech"
    folder.mkdir()
    lines = []
    for index in range(6):
        path = folder / f"{index}.wav"
        write(path, synthetic_speech(16000 if index < 5 else 500, index), 16000)
        source = codec_quality.SOURCES[index % 3]
        lines.append({"path": path.name, "split": "test", "source": source})
    lines.append({"path": "no.wav", "split": "train", "source": codec_quality.SOURCES[0]})
    lines.append({"path": "no.wav", "split": "test", "source": "fsdd"})
    (folder / "manifest.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder


def run(folder, codec, corpus, scores, fresh=False):
    cache = codec_quality.Cache(folder, codec, fresh)
    return list(codec_quality.measure(codec, codec_quality.sentences(corpus), scores, cache))


def test_sentences(corpus):
    names = [str(item.name) for item in codec_quality.sentences(corpus)]
    assert names == [f"{index}.wav" for index in range(6)]
    assert [str(i.name) for i in codec_quality.sentences(corpus, 3)] == ["0.wav", "2.wav", "4.wav"]
    assert len(codec_quality.sentences(corpus, 99)) == 6


def test_rows_failures_and_cache(corpus, tmp_path):
    codec = Quieter()
    *rows, failure = run(tmp_path / "cache", codec, corpus, ["mel"])
    assert failure == ("5.wav", "RuntimeError: too short")
    assert codec.calls == 6 and [row.file for row in rows] == [f"{n}.wav" for n in range(5)]
    for row in rows:
        # 6.02 dB, less in the pauses, which lie on the floor both before and after.
        assert 3 < row.scores["mel"] <= 6.03
        assert row.lag == 0 and row.seconds == 1 and row.bits == 256000
    assert run(tmp_path / "cache", codec, corpus, ["mel"])[:5] == rows
    assert codec.calls == 7  # the failure only, which is tried again

    more = run(tmp_path / "cache", codec, corpus, ["mel", "stoi"])[:5]
    assert codec.calls == 8  # scored from the reconstructions that were kept
    assert [row.scores["mel"] for row in more] == [row.scores["mel"] for row in rows]
    pytest.importorskip("pystoi")
    assert all(row.scores["stoi"] == pytest.approx(1, abs=0.01) for row in more)

    run(tmp_path / "cache", codec, corpus, ["mel"], fresh=True)
    assert codec.calls == 14
    assert [r.scores.keys() for r in run(tmp_path / "cache", codec, corpus, ["mel"])[:5]] == [
        {"mel"}
    ] * 5


def test_what_is_scored_is_what_is_kept(tmp_path):
    wave = synthetic_speech(16000)
    wave *= 3 / np.abs(wave).max()  # so that half of it is beyond what files can hold
    cache = codec_quality.Cache(tmp_path, Quieter())
    decoded, _ = codec_quality.sixteen_bit_reconstruction(Quieter(), wave)
    assert np.abs(decoded).max() >= 32767 / 32768
    assert np.abs(decoded - np.clip(wave / 2, -1, 1)).max() <= 2**-15
    cache.keep("a", codec_quality.Row("quieter:1", "a.wav", 1, 1, 0), decoded)
    assert np.array_equal(cache.wave("a"), decoded)
    with pytest.raises(ValueError, match="or NaN"):
        codec_quality.sixteen_bit_reconstruction(Quieter(), wave * np.nan)


def test_missing_scores_are_counted_and_named(corpus, tmp_path, monkeypatch):
    def fussy(clip):
        if clip.reference[5000] > 0:
            raise MetricError("I don't like it")
        return 2.0

    metric = dataclasses.replace(BUNDLED["stoi"], compute=fussy)
    monkeypatch.setitem(BUNDLED, "stoi", metric)
    codec = Quieter()
    rows = run(tmp_path / "cache", codec, corpus, ["stoi"])[:5]
    left = sum("stoi" in row.scores for row in rows)
    assert 0 < left < 5
    line = codec_quality.table_line(codec, rows, ["stoi"])
    assert line == f"| quieter:1 | 256.00 | 5 | 2.000 ({left}) |"
    remarks = list(codec_quality.notes(codec, rows))
    assert f"quieter:1: STOI missing for {5 - left} of 5: I don't like it" in remarks


def test_the_whole_run(corpus, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SYLLABARY_SPEECH", str(corpus))
    monkeypatch.setenv("PATH", str(tmp_path))
    arguments = ["--codec", "dmel-40ch", "--peer", "codec2-1300", "--scores", "mel", "--limit", "2"]
    output = tmp_path / "out.json"
    folders = ["--cache", str(tmp_path / "cache"), "--output", str(output)]
    codec_quality.main(arguments + folders)
    out = capsys.readouterr().out
    assert "| codec | kbit/s | files | mel dB |" in out and "| dmel-40ch | 6.40 | 2 |" in out
    assert "skipped codec2-1300: no c2enc and c2dec in the PATH; install codec2" in out
    report = json.loads(output.read_text())
    assert [row["file"] for row in report["rows"]] == ["0.wav", "3.wav"]
    assert report["codecs"][0]["name"] == "dmel-40ch" and not report["failures"]
    for wrong in (["--peer", "mp3"], ["--scores", "mos"], ["--limit", "0"]):
        with pytest.raises(SystemExit) as ended:
            codec_quality.main(wrong)
        assert ended.value.code == 2
    with pytest.raises(SystemExit, match="nonsense"):
        codec_quality.main(["--codec", "nonsense", "--no-peers"])


def test_latents_stand_beside_the_codes(corpus, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SYLLABARY_SPEECH", str(corpus))
    monkeypatch.chdir(tmp_path)
    report = tmp_path / "report.json"
    arguments = ["--codec", "ts3-16k", "units-16k", "--latents", "--no-peers", "--limit", "2"]
    codec_quality.main([*arguments, "--scores", "mel", "--output", str(report)])
    out = capsys.readouterr().out
    assert "skipped the latents of units-16k: units-16k can't decode latents" in out
    rows = json.loads(report.read_text())["rows"]
    means = {
        name: np.mean([row["scores"]["mel"] for row in rows if row["codec"] == name])
        for name in ("ts3-16k", "ts3-16k latents", "units-16k")
    }
    assert means["ts3-16k latents"] < means["ts3-16k"] < means["units-16k"]
    (bits,) = {row["bits"] for row in rows if row["codec"] == "ts3-16k latents"}
    assert bits == 32 * 128 * 50


def test_other_rates_are_resampled():
    class Halved(Quieter):
        sample_rate = 8000

    wave = synthetic_speech(16001)
    decoded, bits = peers.reconstruct(Halved(), wave)
    assert decoded.shape == wave.shape and 8000 * 16 <= bits <= 8001 * 16
    expected = catalogue.find("original-8k").reconstruct(wave).wave / 2
    assert np.abs(decoded - expected).max() < 1e-3
    assert peers.reconstruct(Original(), wave)[1] == 16 * 16001


def test_lag():
    wave = synthetic_speech(16000)
    for shift in (-320, 0, 57, 320):
        assert abs(peers.lag(wave, np.roll(wave, shift) * 0.5) - shift) <= 1


class Speller:
    """Hears a word for each tenth of a second, and one fewer where it is quiet."""

    calls, name, languages = 0, "speller", None

    def language_of(self, wave, rate):
        return "en"

    def words(self, wave, rate, language=None):
        self.calls += 1
        count = len(wave) * 10 // rate
        return [f"w{n}" for n in range(count - (np.abs(wave).max() < 0.2))]


def test_words_are_compared_with_those_of_the_original(corpus, tmp_path):
    items, scores, speller = codec_quality.sentences(corpus), ["estoi"], Speller()
    caches = {}

    def rows(codec, recognizer):
        cache = caches[codec.name] = codec_quality.Cache(tmp_path / "cache", codec)
        return [
            row
            for row in codec_quality.measure(codec, items, scores, cache, recognizer)
            if isinstance(row, codec_quality.Row)
        ]

    originals, quieter = rows(Original(), speller), rows(Quieter(), speller)
    assert [len(row.words["speller"]) for row in originals] == [10] * 5 + [0]
    heard = lost_words.Originals("speller", originals)
    # Nothing is heard in the sixth.
    assert lost_words.words_cells(originals, heard) == ["0.000 [0.000–0.000] (5)", "50", "0"]
    assert len(list(lost_words.left_out(originals, heard))) == 1
    # One of ten words is missing in each; the sixth file failed.
    assert lost_words.words_cells(quieter, heard) == ["0.100 [0.100–0.100]", "50", "0"]
    calls = speller.calls
    assert rows(Quieter(), speller)[0].words == quieter[0].words and speller.calls == calls
    silent = [dataclasses.replace(row, words={}) for row in quieter[:2]]
    assert lost_words.words_cells(silent, heard) == ["–", "–", "–"]
    some = lost_words.words_cells([*silent, *quieter[2:]], heard)
    assert some == ["0.100 [0.100–0.100] (3)", "30", "0"]
    # What another recognizer hears is kept beside it, and never compared with it.
    other = Speller()
    other.name = "another"
    assert set(rows(Quieter(), other)[0].words) == {"speller", "another"} and other.calls == 5
    assert lost_words.words_cells(quieter, lost_words.Originals("another", originals))[0] == "–"
    looping = [
        dataclasses.replace(
            row, words={"speller": ["w0", "w1"] * 40 if n == 2 else row.words["speller"]}
        )
        for n, row in enumerate(quieter)
    ]
    cell, total, capped = lost_words.words_cells(looping, heard)
    assert (cell[:5], total, capped) == ("0.280", "50", "1")
    loops = lost_words.Originals("speller", [*originals[:2], looping[2], *originals[3:]])
    assert lost_words.words_cells(quieter, loops)[1] == "40"
    assert any("a loop in the original" in line for line in lost_words.left_out(loops.rows, loops))


def test_hard_sentences_are_every_second_one_with_a_text(tmp_path):
    lines = [
        {"path": f"{n}.wav", "split": "test", "source": source, "text": text}
        for n, (source, text) in enumerate(
            [
                ("librispeech_tc100", None),
                ("librispeech_test_other", "one"),
                ("librispeech_test_other", "two"),
                ("speechocean762", "three"),
                ("librispeech_tc100", "four"),
                ("librispeech_test_other", ""),
                ("librispeech_test_other", "five"),
                ("librispeech_test_other", "six"),
            ]
        )
    ]
    lines.append(lines[1] | {"path": "8.wav", "split": "train"})
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = [item.text for item in codec_quality.sentences(tmp_path, which="hard")]
    assert found == ["one", "four", "six"]
    assert len(codec_quality.sentences(tmp_path)) == 8


def test_words_of_folders_of_runs(corpus, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SYLLABARY_SPEECH", str(corpus))
    monkeypatch.setattr(codec_quality, "open_recognizer", lambda model: Speller())
    run_folder = tmp_path / "runs" / "x" / "best"
    syllabary.load("dmel-40ch").save_pretrained(run_folder)
    arguments = ["--no-peers", "--scores", "none", "--words", "--limit", "2"]
    folders = ["--cache", str(tmp_path / "cache"), "--codec", str(run_folder), "dmel-40ch"]
    codec_quality.main(arguments + folders)
    out = capsys.readouterr().out
    assert "| codec | kbit/s | files | dWER | words | capped |" in out
    assert f"| {run_folder} | 6.40 | 2 | 0." in out and "| dmel-40ch | 6.40 | 2 | 0." in out
    assert "- dWER: speller" in out
    monkeypatch.undo()
    monkeypatch.setenv("SYLLABARY_SPEECH", str(corpus))
    with pytest.raises(SystemExit, match="--words: recogniser /no/such: no such folder"):
        codec_quality.main([*arguments, *folders, "--asr", "/no/such"])
