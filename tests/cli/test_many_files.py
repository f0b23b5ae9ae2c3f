"""What `encode`, `info` and `stats` do with many files, several codecs and what a manifest says."""

import json

import numpy as np
import pytest
import soundfile

from syllabary.audio.files import write
from syllabary.codecs.container import SylReader, read_tokens
from syllabary.jobs import one_file

from ..conftest import synthetic_speech

DMEL = ("--codec", "dmel")


def metadata(path):
    with path.open("rb") as file:
        return SylReader(file).metadata


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def corpus(tmp_path):
    """Three files in two folders, and a manifest that says something of two."""
    folder = tmp_path / "corpus"
    for index, name in enumerate(("a/x.wav", "a/y.wav", "b/x.wav")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write(folder / name, synthetic_speech(4000 + 400 * index, index), 16_000)
    known = [
        {"path": "a/x.wav", "speaker": 7, "text": "Grüße", "split": "train", "lang": "de"},
        {"path": "b/x.wav", "split": "test"},
    ]
    (tmp_path / "corpus.jsonl").write_text("")
    (folder / "some.jsonl").write_text("\n".join(map(json.dumps, known)))
    return folder


def test_what_the_manifest_says_travels(run, corpus, tmp_path):
    out = tmp_path / "out"
    command = ("encode", corpus / "some.jsonl", "-o", out, *DMEL)
    assert run(*command)[0] == 0
    said = {"speaker": "7", "text": "Grüße", "split": "train", "lang": "de"}
    assert metadata(out / "a" / "x.syl")["utterance"] == said
    assert metadata(out / "b" / "x.syl")["utterance"] == {"split": "test"}
    first, second = lines_of(out / "tokens.jsonl")
    assert (
        first
        == {
            "path": "a/x.syl",
            "audio": str(corpus / "a" / "x.wav"),
            "duration_s": 0.25,
            "frames": 10,
            "codebooks": 80,
            "bytes": (out / "a" / "x.syl").stat().st_size,
        }
        | said
    )
    assert second["path"] == "b/x.syl" and second["split"] == "test" and "text" not in second
    before = (out / "tokens.jsonl").read_text()
    code, text, _ = run(*command, "--resume")
    assert code == 0 and "2 of 2 were whole already" in text
    assert (out / "tokens.jsonl").read_text() == before
    # Files of another run in the same folder stay in the manifest; lost ones leave it.
    (out / "b" / "x.syl").unlink()
    assert run("encode", corpus / "a", "-o", out / "a", *DMEL, "--force")[0] == 0
    assert run("encode", corpus, "-o", out, *DMEL, "--exclude", "b/*", "--force")[0] == 0
    assert [line["path"] for line in lines_of(out / "tokens.jsonl")] == ["a/x.syl", "a/y.syl"]
    # A line that changed makes the output anew.
    text = (corpus / "some.jsonl").read_text().replace("test", "dev")
    (corpus / "some.jsonl").write_text(text)
    assert "encoded 2 of 2" in run(*command, "--resume")[1]  # also the one without its words
    assert metadata(out / "b" / "x.syl")["utterance"] == {"split": "dev"}


def test_a_damaged_manifest_ends_a_run_before_it_begins(run, corpus, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "tokens.jsonl").write_text("my notes")
    code, _, err = run("encode", corpus, "-o", out, *DMEL)
    assert code == 2 and "tokens.jsonl, line 1: not a manifest of tokens" in err
    assert not list(out.rglob("*.syl")) and (out / "tokens.jsonl").read_text() == "my notes"


def test_a_stopped_run_has_a_manifest_of_what_it_did(run, corpus, tmp_path, monkeypatch):
    out, real, seen = tmp_path / "out", one_file.encode_file, []

    def encode_file(*given, **more):
        if len(seen) == 4:  # it calls itself with the file that it has opened
            raise KeyboardInterrupt
        seen.append(given)
        return real(*given, **more)

    monkeypatch.setattr(one_file, "encode_file", encode_file)
    assert run("encode", corpus, "-o", out, *DMEL, "--workers", 1)[0] == 130
    made = sorted(str(path.relative_to(out)) for path in out.rglob("*.syl"))
    assert len(made) == 2 and [line["path"] for line in lines_of(out / "tokens.jsonl")] == made


def test_kept_pieces_of_several_codebooks_are_measured_as_made_ones(run, corpus, tmp_path):
    out, bpe = tmp_path / "out", tmp_path / "bpe"
    assert run("encode", corpus, "-o", tmp_path / "plain", "--codec", "rvq-16k")[0] == 0
    code, _, err = run(
        "fit", "bpe", tmp_path / "plain", "--codebooks", 2, "--vocab-size", 2060, "-o", bpe
    )
    assert code == 0, err
    command = ("encode", corpus, "-o", out, "--codec", "rvq-16k", "--bpe", bpe)
    assert run(*command)[0] == 0
    first = (out / "tokens.jsonl").read_text()
    assert "whole already" in run(*command, "--resume")[1]
    assert (out / "tokens.jsonl").read_text() == first
    (out / "tokens.jsonl").unlink()  # measured from the files
    assert run(*command, "--resume")[0] == 0
    assert (out / "tokens.jsonl").read_text() == first


def test_clashing_names_are_listed_and_the_rest_goes_on(run, corpus, tmp_path):
    soundfile.write(corpus / "a" / "x.flac", synthetic_speech(3000, 9), 16_000)
    out = tmp_path / "out"
    code, text, err = run("encode", corpus, "-o", out, *DMEL)
    assert code == 1 and "encoded 3 of 4" in text and "1 of 4 failed" in err
    (failed,) = lines_of(out / "errors.jsonl")
    assert failed["input"].endswith("a/x.wav") and "like" in failed["error"]
    assert len(lines_of(out / "tokens.jsonl")) == 3
    assert metadata(out / "a" / "x.syl")["source"]["name"] == "a/x.flac"


def test_lists_of_paths_and_exclusions(run, corpus, tmp_path, monkeypatch):
    (corpus / "list.txt").write_text("a/y.wav\n\nb/x.wav\n")
    out = tmp_path / "out"
    assert run("encode", corpus / "list.txt", "-o", out, *DMEL)[0] == 0
    assert sorted(p.name for p in out.rglob("*.syl")) == ["x.syl", "y.syl"]
    code, _, err = run("encode", corpus, "-o", out, *DMEL, "--exclude", "*.mp3")
    assert code == 2 and "matches none" in err
    code, _, err = run("encode", corpus, "-o", out, *DMEL, "--exclude", "*")
    assert code == 2 and "nothing is left" in err
    code, _, err = run("encode", tmp_path / "corpus.jsonl", "-o", out, *DMEL)
    assert code == 2 and "empty" in err
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "list.txt").write_text("a/y.wav\n")
    monkeypatch.chdir(corpus)
    code, _, err = run("encode", tmp_path / "elsewhere" / "list.txt", "-o", out, *DMEL)
    assert code == 2 and "relative to the list's folder" in err


def test_several_codecs(run, corpus, tmp_path):
    out = tmp_path / "out"
    code, text, _ = run("encode", corpus, "-o", out, *DMEL, "--codec", "dmel-3bit")
    assert code == 0 and text.count("encoded 3 of 3") == 2
    for name in ("dmel", "dmel-3bit"):
        assert read_tokens(out / name / "b" / "x.syl").spec.tokenizer == name
        assert len(lines_of(out / name / "tokens.jsonl")) == 3
    one = corpus / "a" / "x.wav"
    assert run("encode", one, "-o", tmp_path / "one", *DMEL, "--codec", "dmel-3bit")[0] == 0
    assert (tmp_path / "one" / "dmel-3bit" / "x.syl").exists()
    code, _, err = run("encode", one, *DMEL, "--codec", "dmel-3bit")
    assert code == 2 and "say -o FOLDER" in err
    code, _, err = run("encode", one, "-o", out, *DMEL, "--codec", "dmel")
    assert code == 2 and "same folder" in err


def test_info_takes_folders_and_globs(run, corpus, tmp_path):
    out = tmp_path / "out"
    assert run("encode", corpus, "-o", out, *DMEL)[0] == 0
    for given in (out, f"{out}/**/*.syl"):
        code, text, _ = run("info", given, "--json")
        assert code == 0
        names = [json.loads(line)["file"] for line in text.splitlines()]
        assert names == [str(out / name) for name in ("a/x.syl", "a/y.syl", "b/x.syl")]
    code, _, err = run("info", corpus)
    assert code == 2 and "no file in it that ends in .syl" in err


def test_stats_count_what_the_codes_are(run, corpus, tmp_path):
    out = tmp_path / "out"
    assert run("encode", corpus, "-o", out, *DMEL)[0] == 0
    picture = tmp_path / "use.png"
    code, text, _ = run("stats", out, "--json", "--plot", picture)
    assert code == 0 and picture.read_bytes().startswith(b"\x89PNG")
    found = json.loads(text)
    codes = [read_tokens(path).codes[0].numpy() for path in sorted(out.rglob("*.syl"))]
    assert found["files"] == 3 and found["frames"] == sum(c.shape[1] for c in codes)
    for number in (0, 40):
        rows = [c[number] for c in codes]
        shares = np.unique(np.concatenate(rows), return_counts=True)[1] / found["frames"]
        book = found["codebooks"][number]
        assert book["used"] == len(shares) and book["size"] == 16
        assert book["entropy_bits"] == pytest.approx(-(shares * np.log2(shares)).sum(), abs=1e-3)
        runs = sum(1 + np.count_nonzero(np.diff(row)) for row in rows)
        assert sum(book["runs"]) == runs
        assert book["mean_run_frames"] == pytest.approx(found["frames"] / runs, abs=1e-2)
    assert found["bits_per_second"]["nominal"] == 12_800
    assert found["bits_per_second"]["entropy"] < found["bits_per_second"]["codes"]
    code, text, _ = run("stats", out)
    assert code == 0 and "3 files" in text and "perplexity" in text and "█" in text


def test_stats_of_several_tokenizers_and_damaged_files(run, corpus, tmp_path):
    out = tmp_path / "out"
    assert run("encode", corpus, "-o", out, *DMEL, "--codec", "dmel-3bit")[0] == 0
    (out / "dmel" / "a" / "x.syl").write_bytes(b"no tokens")
    code, text, err = run("stats", out, "--json")
    assert code == 1 and "x.syl" in err
    files = {json.loads(line)["tokenizer"]: json.loads(line)["files"] for line in text.splitlines()}
    assert files == {"dmel": 2, "dmel-3bit": 3}
