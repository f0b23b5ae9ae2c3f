import json

import numpy as np
import pytest

from syllabary.audio.files import write
from syllabary.errors import SyllabaryError
from syllabary.eval.metrics.catalogue import BUNDLED
from syllabary.eval.metrics.interface import MetricError, Ratio
from syllabary.eval.round_trip import round_trip

from ..conftest import synthetic_speech


@pytest.fixture
def call(capsys):
    from syllabary.cli.main import main

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main(["roundtrip", "--codec", "dmel-40ch", *map(str, arguments)])
        return ended.value.code, *capsys.readouterr()

    return run


@pytest.fixture
def files(tmp_path, monkeypatch):
    for name, wave in (("sound", synthetic_speech(16000)), ("silence", np.zeros(16000))):
        write(tmp_path / f"a-rather-long-name-of-{name}.wav", wave.astype(np.float32), 16000)
    monkeypatch.setenv("COLUMNS", "80")
    return sorted(tmp_path.glob("*.wav"))


def test_round_trip_with_chosen_scores(tmp_path):
    import syllabary

    write(tmp_path / "a.wav", synthetic_speech(8000), 16000)
    tokenizer = syllabary.load("dmel-40ch")
    result = round_trip(tokenizer, tmp_path / "a.wav", tmp_path / "b", scores=["mel", "wer"])
    assert list(result.scores) == ["mel"] and 0 < result.scores["mel"] < 15
    assert result.missing == {"wer": "no text to compare with"}
    with pytest.raises(SyllabaryError, match="takes 40 codebooks, got 2"):
        round_trip(tokenizer, tmp_path / "a.wav", tmp_path / "b", num_codebooks=2)


def test_scores_on_the_command_line(call, files):
    code, out, _ = call(*files, "--scores", "pesq,stoi,estoi,mel")
    assert code == 0 and max(map(len, out.splitlines())) <= 80
    heading = next(line for line in out.splitlines() if "kbit/s" in line).split()
    assert heading[0] == "file" and heading[-4:] == ["STOI", "ESTOI", "mel", "dB"]
    assert "not shown on 80 columns: encode ×" in out
    assert "mel dB missing for 1 of 2: the reference is silent" in out
    code, out, _ = call(files[1], "--scores", "mel", "--json", "--codebooks", "40")
    line = json.loads(out)
    assert list(line["scores"]) == ["mel"] and line["codebooks"] == 40
    code, _, err = call(files[1], "--codebooks", "3")
    assert code == 2 and "takes 40 codebooks, got 3" in err
    code, _, err = call(files[1], "--scores", "mos")
    assert code == 2 and "no metric 'mos'" in err


def test_scores_that_are_too_many_for_columns(call, files, monkeypatch):
    """Means come below: of ratios, total numerators over total denominators."""
    for name in BUNDLED:
        for_speech = (lambda clip: Ratio(1, 4)) if name == "dwer" else (lambda clip: 2.0)

        def compute(clip, for_speech=for_speech, name=name):
            if name == "lag":
                raise MetricError("I don't like it")
            return for_speech(clip) if clip.reference.any() else Ratio(2, 2)

        monkeypatch.setitem(BUNDLED, name, replaced(BUNDLED[name], compute))
    code, out, _ = call(*files, "--scores", "default")
    assert code == 0 and max(map(len, out.splitlines())) <= 80
    assert "encode ×" in out  # the files' table has room again
    rows = {line.split("  ")[0].strip(): line.split() for line in out.splitlines()}
    assert rows["dWER"][1:3] == ["0.500", "2"] and rows["mel dB"][2:4] == ["1.33", "2"]
    assert rows["lag"][1:3] == ["–", "0"]
    assert "lag missing for 2 of 2: I don't like it" in out


def replaced(metric, compute):
    import dataclasses

    return dataclasses.replace(metric, compute=compute)


def test_help_names_every_metric(capsys):
    from syllabary.cli.main import main

    with pytest.raises(SystemExit):
        main(["roundtrip", "--help"])
    text = capsys.readouterr().out.replace(",", " ").replace(";", " ").replace(".", " ").split()
    assert not [name for name in BUNDLED if name not in text]
