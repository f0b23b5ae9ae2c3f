"""What `syllabary eval` tells before it begins, while it runs, and of what does not apply."""

import json
import time

import pytest

from syllabary.audio.files import write
from syllabary.cli import eval as command
from syllabary.errors import SyllabaryError
from syllabary.eval.harness import plan
from syllabary.eval.harness.run import Progress

from ..conftest import synthetic_speech


@pytest.fixture
def corpus(tmp_path):
    for index in range(3):
        (tmp_path / "corpus").mkdir(exist_ok=True)
        write(tmp_path / "corpus" / f"{index}.wav", synthetic_speech(8000, index), 16_000)
    return tmp_path / "corpus"


def test_no_metrics_and_probes_without_data(run, corpus, tmp_path):
    more = ("--data", corpus, "-o", tmp_path / "results", "--workers", "1")
    more += ("--metrics", "none", "--studies", "tokens", "--probes", "digits")
    code, out, err = run("eval", "--codecs", "dmel", *more)
    assert code == 0, err
    assert "not applicable: probe:digits: task digits: 0 utterances to train on" in err
    result = json.loads((tmp_path / "results" / "dmel" / "result.json").read_text())
    assert result["metrics"] == [] and len(result["items"]) == 3
    study = next(study for study in result["studies"] if study["name"] == "probe:digits")
    assert study["error"] is None and "0 utterances" in study["unsuitable"]
    assert "12.8" in out
    code, out, err = run("leaderboard", tmp_path / "results", "-o", tmp_path / "site")
    assert code == 0 and "index.html" in out


def test_missing_packages_are_told_before_anything_runs(run, corpus, tmp_path, monkeypatch):
    there = plan.version_of
    monkeypatch.setattr(plan, "version_of", lambda p: None if p == "pesq" else there(p))
    found, lacking = command._installed("default")
    assert "stoi" in found and "pesq-wb" not in found
    assert lacking == {"metric pesq-wb": 'no package pesq: pip install "syllabary[eval]"'}
    with pytest.raises(SyllabaryError, match=r"metric pesq-wb: no package pesq"):
        command._installed("stoi,pesq")
    results = tmp_path / "results"
    more = ("--data", corpus, "-o", results)
    code, _, err = run("eval", "--codecs", "dmel", *more, "--metrics", "pesq-wb,stoi")
    assert code == 2 and "no package pesq" in err and not results.exists()


def test_a_log_gets_a_line_while_nothing_is_finished(monkeypatch, capsys):
    monkeypatch.setattr(command, "_BEAT", 0.05)
    with command._telling() as tell:
        tell(Progress(done=1.0, total=4.0, system="dmel", what="cost"))
        for _ in range(200):
            time.sleep(0.02)
            said = capsys.readouterr().err
            if "running for" in said:
                break
    assert " 25 %" in said and "dmel cost" in said and "running for 0:0" in said
