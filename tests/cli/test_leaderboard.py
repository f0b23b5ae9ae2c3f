"""`syllabary leaderboard`, both commands."""

import json
import subprocess
import sys

import click
import pytest

from syllabary.cli.leaderboard import leaderboard
from syllabary.cli.main import cli

from ..eval.leaderboard.imagined import SYSTEMS, write_results


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(cli.commands, "leaderboard", leaderboard)


@pytest.fixture
def results(tmp_path):
    return write_results(tmp_path / "results", SYSTEMS[:2] + SYSTEMS[-3:-2], clips=1, seconds=0.5)


def test_building(run, results, tmp_path):
    for words in (("leaderboard",), ("leaderboard", "build")):
        site = tmp_path / words[-1]
        code, out, err = run(*words, results, "-o", site, "--title", "Ours")
        assert code == 0, err
        assert out.count("MiB") == 2
        assert sorted(path.name for path in site.iterdir()) == ["index.html", "leaderboard.md"]
        assert "<h1>Ours</h1>" in (site / "index.html").read_text()
        assert (site / "leaderboard.md").read_text().startswith("# Ours\n")
    code, out, err = run("leaderboard", "-o", tmp_path / "third", results)
    assert code == 0 and (tmp_path / "third" / "index.html").exists()


def test_a_result_that_does_not_add_up_stops_the_build(run, results, tmp_path):
    path = next(results.rglob("result.json"))
    fields = json.loads(path.read_text())
    fields["metrics"][0]["domains"]["all"]["count"] += 1
    path.write_text(json.dumps(fields))
    code, out, err = run("leaderboard", results, "-o", tmp_path / "site")
    assert code == 2 and not out
    assert f"{path}: metrics[0].domains.all.count" in err and "Traceback" not in err
    assert not (tmp_path / "site").exists()


def test_checking(run, results):
    paths = sorted(results.rglob("result.json"))
    code, out, err = run("leaderboard", "check", *paths)
    assert code == 0 and out.count(": ok (") == 3 and not err
    assert run("leaderboard", "check", results)[0] == 0
    fields = json.loads(paths[1].read_text())
    fields["bitrate"] = 1.0
    fields["data"]["seconds"] = 1.0
    paths[1].write_text(json.dumps(fields))
    paths[2].write_bytes(b"\xff")
    code, out, err = run("leaderboard", "check", *paths)
    assert code == 2 and out.count(": ok (") == 1
    assert f"{paths[1]}: bitrate: 1, but" in err and f"{paths[1]}: data.seconds: 1, but" in err
    assert f"{paths[2]}: not JSON" in err
    next(results.rglob("00.flac")).unlink()
    code, _, err = run("leaderboard", "check", results)
    assert code == 2 and "clips[0].audio: clips/00.flac: No such file" in err


def test_bad_arguments(run, tmp_path):
    assert run("leaderboard", tmp_path / "nowhere")[0] == 2
    code, _, err = run("leaderboard", tmp_path)
    assert code == 2 and "no result.json there" in err
    code, _, err = run("leaderboard", "check", tmp_path)
    assert code == 2 and "no result.json there" in err
    code, out, _ = run("leaderboard", "--help")
    assert code == 0 and "check" in out and "build" in out
    assert isinstance(leaderboard, click.Group)


def test_checking_loads_no_torch(results):
    script = (
        "import sys; from syllabary.cli.leaderboard import leaderboard\n"
        "leaderboard(['check', sys.argv[1]], standalone_mode=False)\n"
        "assert not {'torch', 'matplotlib', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script, results], check=True, capture_output=True)
