import json

import numpy as np
import pytest

from syllabary.audio.files import write
from syllabary.errors import SyllabaryError
from syllabary.eval.round_trip import round_trip
from syllabary.eval.scores import DEFAULT_SCORES, SCORES, parse_scores, score

from ..conftest import synthetic_speech


def test_names():
    assert parse_scores("all") == tuple(SCORES) and parse_scores("stoi, pesq,stoi") == (
        "stoi",
        "pesq",
    )
    assert set(DEFAULT_SCORES) < set(SCORES)
    assert len({metric.heading for metric in SCORES.values()}) == len(SCORES)
    for wrong in ("pesk", "", ",", "pesq,all"):
        with pytest.raises(SyllabaryError, match="expected all, or some of pesq,stoi"):
            parse_scores(wrong)


def test_what_fails_is_named():
    wave = synthetic_speech(16000)
    scores, missing = score(wave, wave, 16000, ["mel"])
    assert scores == {"mel dB": 0} and not missing
    scores, missing = score(wave * 0, wave, 16000, SCORES)
    assert not scores
    assert missing == {metric.heading: "the reference is silent" for metric in SCORES.values()}


def test_round_trip_with_chosen_scores(tmp_path):
    import syllabary

    write(tmp_path / "a.wav", synthetic_speech(8000), 16000)
    tokenizer = syllabary.load("dmel-40ch")
    result = round_trip(tokenizer, tmp_path / "a.wav", tmp_path / "b", scores=["mel"])
    assert list(result.scores) == ["mel dB"] and 0 < result.scores["mel dB"] < 15
    with pytest.raises(SyllabaryError, match="takes 40 codebooks, got 2"):
        round_trip(tokenizer, tmp_path / "a.wav", tmp_path / "b", num_codebooks=2)


def test_the_command_line(tmp_path, monkeypatch, capsys):
    from syllabary.cli.main import main

    def call(*arguments):
        with pytest.raises(SystemExit) as ended:
            main(["roundtrip", "--codec", "dmel-40ch", *map(str, arguments)])
        return ended.value.code, *capsys.readouterr()

    for name, wave in (("sound", synthetic_speech(16000)), ("silence", np.zeros(16000))):
        write(tmp_path / f"a-rather-long-name-of-{name}.wav", wave.astype(np.float32), 16000)
    monkeypatch.setenv("COLUMNS", "80")
    files = sorted(tmp_path.glob("*.wav"))
    code, out, _ = call(*files, "--scores", "all")
    assert code == 0 and max(map(len, out.splitlines())) <= 80
    heading = next(line for line in out.splitlines() if "kbit/s" in line).split()
    assert heading[0] == "file" and heading[-5:] == ["ESTOI", "mel", "dB", "DNSMOS", "speaker"]
    assert "not shown on 80 columns: encode ×, decode ×" in out
    assert "mel dB missing for 1 of 2: the reference is silent" in out
    code, out, _ = call(files[1], "--scores", "mel", "--json", "--codebooks", "40")
    line = json.loads(out)
    assert list(line["scores"]) == ["mel dB"] and line["codebooks"] == 40
    code, _, err = call(files[1], "--codebooks", "3")
    assert code == 2 and "takes 40 codebooks, got 3" in err
    code, _, err = call(files[1], "--scores", "mos")
    assert code == 2 and "no score 'mos'" in err
