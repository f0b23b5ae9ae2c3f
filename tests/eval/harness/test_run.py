"""An evaluation in this process, and the same in others that are killed."""

import json
import os
import re
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from syllabary import filesystem
from syllabary.errors import SyllabaryError
from syllabary.eval.harness import run, work
from syllabary.eval.harness.lines import ResultLines
from syllabary.eval.harness.plan import PlanError
from syllabary.eval.leaderboard.board import collect
from syllabary.eval.studies.interface import Findings, Study, Value
from syllabary.eval.systems.interface import Reconstruction
from syllabary.eval.systems.references import Original

from ... import tiny_codecs
from .outside import command, install, write_speech

LENGTHS = {"a/1": 8000, "a/2": 12000, "a/3": 9000, "b/1": 48000, "b/2": 4001}


class Loud(Original):
    """Twice as loud; one file is too much for it."""

    name, digest = "loud", "a" * 64
    calls = 0

    def reconstruct(self, wave):
        Loud.calls += 1
        if len(wave) == 4001:
            raise IndexError("4001 samples")
        return Reconstruction(wave * 2, 10.0 * len(wave))


def counting(bench):
    return Findings([Value("items", "items", len(bench.items)), Value("odd", "odd", float("nan"))])


STUDIES = {
    "count": Study("count", "Counting", counting, "Counts."),
    "never": Study("never", "Never", counting, "Never.", unsuitable=lambda system: "it can't"),
    "broken": Study("broken", "Broken", lambda bench: [][1], "Breaks."),
}


@pytest.fixture
def setting(tmp_path, monkeypatch):
    """A request, and the folder for its results."""
    manifest = write_speech(tmp_path / "data", LENGTHS, silent=("a/3",))
    monkeypatch.setattr(work.systems, "find", lambda name: {"loud": Loud}.get(name, Original)())
    monkeypatch.setattr(work.studies, "find", STUDIES.__getitem__)
    request = work.Request(
        (str(manifest),), "test", None, ("si-sdr", "stoi", "mel"), tuple(STUDIES), 0, "again"
    )
    return request, tmp_path / "results"


def evaluate(setting, names=("original", "loud"), **options):
    request, folder = setting
    found, _ = run.describe(names)
    paths = run.evaluate(request.plan(), request, found, folder, 1, **options)
    return [json.loads(path.read_text()) for path in paths]


def test_scores_failures_and_studies(setting):
    original, loud = evaluate(setting)
    metrics = {metric["name"]: metric for metric in original["metrics"]}
    everything = metrics["stoi"]["domains"]["all"]
    assert everything["value"] == pytest.approx(1.0, abs=1e-6)
    assert everything["count"] + everything["failed"] == 5
    assert set(metrics["mel"]["domains"]) == {"all", "a", "b"}
    assert metrics["mel"]["domains"]["a"]["failed"] == 1  # silence has no distance to anything
    items = {item["name"]: item for item in original["items"]}
    assert "silent" in items["a/3.wav"]["failures"]["mel"]
    assert original["bitrate"] is None
    (error,) = [item["error"] for item in loud["items"] if item["error"]]
    assert error.startswith("IndexError: 4001 samples (test_run.py, line ")
    assert {m["domains"]["all"]["failed"] for m in loud["metrics"]} >= {2}
    assert loud["bitrate"] == pytest.approx(160_000)
    studies = {study["name"]: study for study in loud["studies"]}
    assert [value["value"] for value in studies["count"]["values"]] == [5.0]
    assert "NaN" in studies["count"]["missing"]["odd"]
    assert studies["never"]["unsuitable"] == "it can't"
    assert studies["broken"]["error"].startswith("IndexError")
    assert loud["command"] == "again"


def test_clips_are_there(setting):
    original, loud = evaluate(setting)
    (clip,) = loud["clips"]  # one item is long enough
    folder = setting[1] / "loud"
    assert clip["item"] == "b/1.wav"
    assert (folder / clip["audio"]).exists() and (folder / clip["original"]).exists()
    assert original["clips"][0]["original"] == clip["original"]


def test_what_is_done_is_not_done_again(setting):
    first = evaluate(setting)
    Loud.calls = 0
    assert evaluate(setting) == first
    assert Loud.calls == 0
    request, folder = setting
    more = replace(request, metrics=("estoi", "si-sdr"))
    (loud,) = evaluate((more, folder), ["loud"])
    assert Loud.calls == 0  # reconstructions are kept, and the one that failed has failed
    # What was asked for adds up, for the systems that it was asked of.
    assert [metric["name"] for metric in loud["metrics"]] == ["si-sdr", "stoi", "mel", "estoi"]
    again, loud_again = evaluate(setting)
    assert again == first[0]
    assert loud_again == loud
    Loud.calls = 0
    evaluate(setting, ["loud"], retry=True)
    assert Loud.calls == 1  # the one that failed; what lacks scores only is there
    for path in (folder / "loud" / "audio").iterdir():
        path.unlink()
    (loud,) = evaluate((replace(request, metrics=("lag",)), folder), ["loud"])
    assert loud["metrics"][-1]["name"] == "lag"
    assert loud["metrics"][-1]["domains"]["all"]["count"] >= 3  # made again where it is gone


def test_progress_is_over_what_there_is_to_do(setting):
    request, folder = setting
    found, _ = run.describe(["original"], tuple(STUDIES))
    assert found[0].unsuitable == {"never"}
    told = []
    run.evaluate(
        request.plan(),
        request,
        found,
        folder,
        1,
        tell=lambda progress: told.append(replace(progress)),
    )
    seconds = sum(LENGTHS.values()) / 16000
    assert {progress.total for progress in told} == {seconds + 2 * run._STUDY_SECONDS}
    assert [told[0].done, told[-1].done] == [0, told[0].total]
    assert told[-1].failures == 1  # the broken study
    scores = json.loads((folder / "original" / "result.json").read_text())["metrics"]
    assert told[-1].missing == sum(metric["domains"]["all"]["failed"] for metric in scores) > 0


def test_what_a_killed_process_was_writing_is_gone(setting):
    evaluate(setting)
    audio = setting[1] / "loud" / "audio"
    whole = sorted(path.name for path in audio.iterdir())
    gone = subprocess.Popen(["true"])
    gone.wait()
    stem = filesystem._temporary_stem(audio / whole[0])
    left = [audio / f"{stem}{pid}.tmp.flac" for pid in (gone.pid, os.getppid())]
    for path in left:
        path.write_bytes(b"half")
    evaluate(setting)
    assert not left[0].exists() and left[1].exists()  # another process may be at work on that
    left[1].unlink()
    assert sorted(path.name for path in audio.iterdir()) == whole


def test_stopped_anywhere_it_goes_on_to_the_same_results(setting, tmp_path):
    whole = evaluate(setting)
    request, _ = setting
    folder = tmp_path / "again"
    for stop_after in (1, 2, 3):
        tasks = 0

        def tell(progress, stop_after=stop_after):
            nonlocal tasks
            tasks += 1
            if tasks > stop_after:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            evaluate((request, folder), tell=tell)
    lines = folder / "loud" / "lines.jsonl"
    if lines.exists() and lines.stat().st_size:
        lines.write_bytes(lines.read_bytes()[:-9])
    assert evaluate((request, folder)) == whole


def test_another_version_of_a_system_is_measured_anew(setting, monkeypatch):
    (first,) = evaluate(setting, ["loud"])
    monkeypatch.setattr(Loud, "digest", "b" * 64)
    monkeypatch.setattr(Loud, "reconstruct", lambda self, wave: Reconstruction(wave, 1.0))
    (second,) = evaluate(setting, ["loud"])
    assert second["system"]["digest"] == "b" * 64
    assert not [item for item in second["items"] if item["error"]]
    assert second["bitrate"] != first["bitrate"]
    # The results of the other one are kept aside, and both are on the board, by their digests.
    (aside,) = setting[1].glob("loud-aaaaaaaa")
    assert json.loads((aside / "result.json").read_text()) == first
    names = [entry.name for entry in collect([setting[1]]).sections[0].entries]
    assert sorted(names) == ["loud@aaaaaaaa", "loud@bbbbbbbb"]


def test_earlier_weights_come_back_with_their_results(setting, monkeypatch):
    folder = setting[1]
    (first,) = evaluate(setting, ["loud"])
    for digest in "bc":
        monkeypatch.setattr(Loud, "digest", digest * 64)
        evaluate(setting, ["loud"])
    for digest in "ab":  # and their scores are not computed again
        monkeypatch.setattr(Loud, "digest", digest * 64)
        Loud.calls = 0
        (again,) = evaluate(setting, ["loud"])
        assert again["system"]["digest"] == digest * 64 and Loud.calls == 0
    names = [entry.name for entry in collect([folder]).sections[0].entries]
    assert sorted(names) == ["loud@aaaaaaaa", "loud@bbbbbbbb", "loud@cccccccc"]
    aside = json.loads((folder / "loud-aaaaaaaa" / "result.json").read_text())
    assert aside == first
    # Results of an aside folder that is there for another reason stay, too.
    monkeypatch.setattr(Loud, "digest", "a" * 64)
    (folder / "loud-bbbbbbbb").mkdir()
    (folder / "loud-bbbbbbbb" / "mine.txt").write_text("mine")
    evaluate(setting, ["loud"])
    assert json.loads((folder / "loud-bbbbbbbb-2" / "result.json").read_text())
    assert (folder / "loud-bbbbbbbb" / "mine.txt").exists()


def test_a_metric_that_was_stopped_is_not_in_the_results_until_it_ends(setting):
    request, folder = setting
    evaluate((replace(request, metrics=("mel",)), folder), ["loud"])
    more = replace(request, metrics=("stoi",), command="more")
    evaluate((more, folder), ["loud"])
    path = folder / "loud" / "lines.jsonl"
    lines = path.read_text().splitlines()
    last = max(n for n, line in enumerate(lines) if '"stoi"' in line)
    path.write_text("".join(line + "\n" for n, line in enumerate(lines) if n != last))
    warnings = []
    other = replace(request, metrics=("si-sdr",), command="other")
    (loud,) = evaluate((other, folder), ["loud"], warn=warnings.append)
    assert [metric["name"] for metric in loud["metrics"]] == ["mel", "si-sdr"]
    assert warnings == [
        "loud: stoi is unfinished, 1 items are left; it is not in the results until a run with it "
        "ends"
    ]
    assert not [item for item in loud["items"] if {"stoi"} & {*item["scores"], *item["failures"]}]
    assert collect([folder])
    warnings.clear()
    (loud,) = evaluate((more, folder), ["loud"], warn=warnings.append)
    assert [m["name"] for m in loud["metrics"]] == ["mel", "stoi", "si-sdr"] and not warnings
    # All that computed something are in the command, each once.
    assert loud["command"] == "again; more; other"


def test_what_did_not_apply_is_tried_again_on_request(setting, monkeypatch):
    evaluate(setting, ["loud"])
    monkeypatch.setitem(STUDIES, "never", replace(STUDIES["never"], unsuitable=lambda system: None))
    evaluate(setting, ["loud"])
    (same,) = evaluate(setting, ["loud"])
    assert same["studies"][1]["unsuitable"] == "it can't"
    (found,) = evaluate(setting, ["loud"], retry=True)
    assert found["studies"][1]["unsuitable"] is None and found["studies"][1]["values"]


def test_a_study_that_nobody_knows_any_more_keeps_its_results(setting, monkeypatch):
    request, folder = setting
    (first,) = evaluate(setting, ["loud"])

    def find(name):
        if name == "count":
            raise SyllabaryError("count.json: not a task that can be read")
        return STUDIES[name]

    monkeypatch.setattr(work.studies, "find", find)
    (loud,) = evaluate((replace(request, studies=("never",)), folder), ["loud"])
    assert loud["studies"] == first["studies"]


def test_a_study_has_the_model_that_it_used(setting, monkeypatch):
    model = ""
    monkeypatch.setitem(STUDIES, "count", replace(STUDIES["count"], variant=lambda: model))
    ran = []
    monkeypatch.setitem(
        STUDIES,
        "count",
        replace(STUDIES["count"], run=lambda bench: ran.append(model) or counting(bench)),
    )
    for model in ("", "a", "a", ""):  # noqa: B007 (the study reads it)
        evaluate(setting, ["loud"])
    assert ran == ["", "a"]  # what has more is not lost to a run that asks for less
    model = "b"
    with pytest.raises(PlanError, match=r"variants\.study count was 'a', now 'b'"):
        evaluate(setting, ["loud"])


def test_systems_that_spoil_their_output_fail(setting, monkeypatch):
    for spoilt, reason in (
        (lambda self, wave: Reconstruction(wave[:-1], 1.0), "samples came back"),
        (lambda self, wave: Reconstruction(wave * np.nan, 1.0), "NaN"),
    ):
        monkeypatch.setattr(Loud, "reconstruct", spoilt)
        monkeypatch.setattr(Loud, "digest", reason.ljust(64, "0"))
        (result,) = evaluate(setting, ["loud"])
        assert {reason in item["error"] for item in result["items"]} == {True}
        assert all(metric["domains"]["all"]["value"] is None for metric in result["metrics"])


def test_folders_of_systems():
    names = ["a:1", "a_1", "a/1", "ö", "ü", "originals", "shared", "a.b-c"]
    folders = [run.folder_name(name) for name in names]
    assert len(set(folders)) == len(names)
    assert folders[1] == "a_1" and folders[-1] == "a.b-c"
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", folder) for folder in folders)
    assert not {"originals", "shared"} & set(folders)


def test_half_of_a_deleted_folder_is_nobodys(setting):
    evaluate(setting, ["loud"])
    (setting[1] / "loud" / "system.json").unlink()
    with pytest.raises(PlanError, match="nobody knows what"):
        evaluate(setting, ["loud"])


def test_two_evaluations_do_not_write_to_one_file(setting):
    evaluate(setting, ["loud"])
    path = setting[1] / "loud" / "lines.jsonl"
    with ResultLines(path), pytest.raises(SyllabaryError, match="another evaluation"):
        evaluate(setting, ["loud"])


def test_a_study_of_another_form_is_made_again(setting, monkeypatch):
    first = evaluate(setting, ["loud"])
    monkeypatch.setitem(STUDIES, "count", replace(STUDIES["count"], form="b", heading="Again"))
    (loud,) = evaluate(setting, ["loud"])
    assert loud["studies"][0]["heading"] == "Again" != first[0]["studies"][0]["heading"]
    lines = (setting[1] / "loud" / "lines.jsonl").read_text()
    assert lines.count('"study": "count"') == 2 and lines.count('"study": "never"') == 1


def test_an_empty_file_has_the_same_results_after_a_stop(setting, tmp_path):
    request, folder = setting
    manifest = write_speech(tmp_path / "empty", {"a/none": 0, "a/some": 9000})
    request = replace(request, inputs=(str(manifest),), studies=())
    whole = evaluate((replace(request, metrics=("mel", "lag")), folder))
    for name in ("mel", "lag"):
        parts = evaluate((replace(request, metrics=(name,)), tmp_path / "parts"))
    assert parts == whole
    (none,) = [item for item in whole[0]["items"] if item["name"] == "a/none.wav"]
    assert none["error"] is None and set(none["failures"]) == {"mel", "lag"}


def test_what_is_missing_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "two").mkdir()
    folder = tmp_path / "two" / "fsq-16k"
    tiny_codecs.fsq().save_pretrained(folder)
    wanted = ["original", "opus-6", "no-such", "fsq-16k", str(folder), f"{folder}/"]
    systems, reasons = run.describe(wanted)
    assert [system.name for system in systems] == ["original", "fsq-16k", str(folder)]
    assert list(reasons) == ["opus-6", "no-such", wanted[-1]]
    assert "install opus-tools" in reasons["opus-6"] and "no-such" in reasons["no-such"]
    assert reasons[wanted[-1]] == f"another system is called {folder} already"
    with pytest.raises(SyllabaryError, match="nothing to measure: opus-6"):
        run.describe(["opus-6"])


# --- in processes of their own, with what another package adds ----------------------------------


def results(folder: Path) -> dict[str, dict]:
    found = {}
    for path in sorted(folder.glob("*/result.json")):
        result = json.loads(path.read_text())
        found[result["system"]["name"]] = result
    return found


@pytest.mark.slow
def test_another_package_is_on_every_table(tmp_path):
    environment = install(tmp_path)
    lengths = {f"a/{n}": 8000 + n for n in range(24)} | {"b/bad": 4001, "b/worse": 4002}
    manifest = write_speech(tmp_path / "data", lengths)
    words = ["eval", "--codecs", "outside-dmel,halved", "--data", str(manifest)]
    words += ["--metrics", "peak", "--studies", "count", "--probes", "outside"]
    done = subprocess.run(
        command(*words, "-o", str(tmp_path / "results"), "--workers", "2"),
        env=environment, capture_output=True, text=True, cwd=tmp_path, timeout=300,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "2 items or studies failed" in done.stderr
    found = results(tmp_path / "results")
    assert set(found) == {"outside-dmel", "halved"}
    halved = found["halved"]
    (peak,) = halved["metrics"]
    assert peak["domains"]["all"]["value"] == pytest.approx(0.5, abs=1e-3)
    assert (peak["domains"]["all"]["count"], peak["domains"]["b"]["failed"]) == (24, 2)
    errors = {item["name"]: item["error"] for item in halved["items"] if item["error"]}
    assert errors["b/bad.wav"].startswith("RuntimeError: I don't like this one")
    assert "process died" in errors["b/worse.wav"]
    assert set(errors) == {"b/bad.wav", "b/worse.wav"}
    studies = {study["name"]: study for study in found["outside-dmel"]["studies"]}
    assert studies["count"]["values"][0]["value"] == 26.0
    assert studies["probe:outside"]["error"] is None, studies["probe:outside"]
    assert studies["probe:outside"]["values"]
    assert "halved" in done.stdout and "outside-dmel" in done.stdout


def test_an_interrupt_ends_it_at_once_and_workers_clean_up(tmp_path):
    manifest = write_speech(tmp_path / "data", {f"a/{n}": 4003 for n in range(800)})
    at_work = tmp_path / "at-work"
    at_work.mkdir()
    words = ["eval", "--codecs", "halved", "--data", str(manifest), "--metrics", "peak"]
    words += ["--studies", "none", "--probes", "none", "--workers", "2"]
    process = subprocess.Popen(
        command(*words, "-o", str(tmp_path / "results")), env=install(tmp_path), cwd=tmp_path,
        stderr=subprocess.PIPE, text=True,
        # As at a terminal, whatever started these tests.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    limit = time.monotonic() + 120
    while len(list(at_work.iterdir())) < 2 and time.monotonic() < limit:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    try:
        _, err = process.communicate(timeout=60)  # all items would take hours
    finally:
        process.kill()
    assert process.returncode == 130 and "stopped; the same command goes on" in err, err
    assert not list(at_work.iterdir())


@pytest.mark.slow
def test_killed_twice_and_gone_on_with_it_is_equal(tmp_path):
    """Only times may differ, so cost is left out."""
    manifest = write_speech(tmp_path / "data", {f"a/{n}": 24000 + 7 * n for n in range(90)})
    words = ["eval", "--codecs", "rvq-16k:2,original-8k", "--data", str(manifest)]
    words += ["--metrics", "stoi,mel,mcd", "--studies", "tokens,promises", "--probes", "none"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def start(name: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command(*words, "-o", str(tmp_path / name), "--workers", "2"),
            env=environment, cwd=tmp_path, start_new_session=True,
        )  # fmt: skip

    assert start("whole").wait(600) == 0
    for lines in (10, 60):
        process = start("killed")
        path = tmp_path / "killed" / run.folder_name("rvq-16k:2") / "lines.jsonl"
        while process.poll() is None and not (
            path.exists() and path.read_bytes().count(b"\n") >= lines
        ):
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert start("killed").wait(600) == 0
    assert results(tmp_path / "killed") == results(tmp_path / "whole")
