"""A list of trainings is worked through, stopped, and gone on with."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import syllabary
from syllabary.cli.main import main
from syllabary.errors import TrainingError
from syllabary.training import recipe_registry as recipes
from syllabary.training.queue import Queue, read_list, status_of

from .loop import tiny

# Stands for `syllabary train`: a step every 20 ms, a log, and a stop at SIGTERM.
FAKE = """
import fcntl, json, pathlib, signal, sys, time
words = sys.argv[1:]
output = pathlib.Path(words[words.index("-o") + 1])
steps = int(next(w for w in words if w.startswith("steps=")).partition("=")[2])
lock = (output / ".lock").open("w")
fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
if "seed=13" in words:
    sys.exit("what a pity")
stopped = []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
log = output / "log.jsonl"
step = len(log.read_text().splitlines()) if log.exists() else 0
with log.open("a") as file:
    while step < steps and not stopped:
        time.sleep(0.02)
        step += 1
        line = {"kind": "train", "step": step, "seconds": step / 50}
        print(json.dumps(line), file=file, flush=True)
    if step == steps:
        scores = {"mel": 1.5, "PESQ-wb": 2.5}
        line = {"kind": "validation", "step": step, "scores": scores, "best": True}
        print(json.dumps(line), file=file, flush=True)
sys.exit(143 if stopped and step < steps else 0)
"""


@pytest.fixture
def command(tmp_path):
    program = tmp_path / "fake.py"
    program.write_text(textwrap.dedent(FAKE))
    return (sys.executable, str(program))


def listed(tmp_path, *lines):
    path = tmp_path / "queue.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_runs_are_done_in_order_and_once(tmp_path, command):
    a, b = tmp_path / "a", tmp_path / "b"
    path = listed(
        tmp_path,
        "# two runs, the first from the second",
        f"rvq-16k steps=3 start_from={b} -o {a}",
        "",
        f"rvq-16k steps=2 -o {b}  # first",
    )
    runs = read_list(path)
    assert [status_of(run, runs).state for run in runs] == ["waiting", "new"]
    said = []
    assert Queue(path, said=said.append, command=command).work()
    assert [line.partition(":")[0] for line in said] == [str(b)] * 2 + [str(a)] * 2
    for run in runs:
        status = status_of(run, runs)
        assert (status.state, status.step, status.best) == ("done", run.steps, (2.5, run.steps))
    said.clear()
    assert Queue(path, said=said.append, command=command).work() and not said


def test_a_run_that_fails_is_named_and_the_rest_goes_on(tmp_path, command):
    path = listed(
        tmp_path,
        f"rvq-16k steps=2 seed=13 -o {tmp_path / 'a'}",
        f"rvq-16k steps=2 -o {tmp_path / 'b'}",
    )
    said = []
    assert not Queue(path, said=said.append, command=command).work()
    (failure,) = [line for line in said if "failed" in line]
    assert "exit code 1" in failure and "output.txt" in failure
    assert "what a pity" in (tmp_path / "a" / "output.txt").read_text()
    assert status_of(read_list(path)[1]).state == "done"


def test_a_run_without_a_validation_is_done_once(tmp_path):
    """What counts is the last line of the log, whatever `log_every` and the validations are."""
    corpus, folder = tiny.write_corpus(tmp_path / "corpus"), tmp_path / "a"
    path = listed(
        tmp_path,
        f"tiny steps=3 log_every=50 --data {corpus} --device cpu --cache={tmp_path} -o {folder}",
    )
    said = []
    assert Queue(path, said=said.append, command=(sys.executable, tiny.__file__)).work()
    assert [line.partition(": ")[2] for line in said] == ["begins at step 0 of 3", "done"]
    # One that stopped after its last step, before its validation, is not.
    log = folder / "log.jsonl"
    log.write_text('{"kind": "train", "step": 3, "seconds": 1.0}\n')
    assert status_of(read_list(path)[0]).state == "stopped"


def test_a_run_that_ends_too_early_is_not_begun_again(tmp_path):
    program = tmp_path / "nothing.py"
    program.write_text("")
    path = listed(tmp_path, f"rvq-16k steps=2 -o {tmp_path / 'a'}")
    said = []
    assert not Queue(path, said=said.append, command=(sys.executable, str(program))).work()
    assert len(said) == 2 and "ended before it was done" in said[1] and "output.txt" in said[1]


def test_lines_have_the_arguments_of_train(tmp_path):
    corpus = tmp_path / "my speech"
    plain, tuned, named = read_list(
        listed(
            tmp_path,
            f"rvq-16k steps=3 --data '{corpus}' --device cpu",
            "--from ts3-16k supervision.content_weight=10 --output x",
            "--recipe=rvq-small seed=4",
        )
    )
    assert plain.output == Path("runs/rvq-16k") and plain.recipe.data.manifest == str(corpus)
    assert plain.arguments[-6:] == ("--data", str(corpus), "--device", "cpu", "-o", "runs/rvq-16k")
    assert tuned.recipe.model == syllabary.load("ts3-16k").config and tuned.output == Path("x")
    assert tuned.recipe.supervision.content_weight == 10 and tuned.recipe.start_from == "ts3-16k"
    assert tuned.steps == 1000 and named.recipe.seed == 4
    for run in (plain, tuned, named):
        shown = subprocess.run(
            [sys.executable, "-m", "syllabary", "train", *run.arguments, "--show"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert json.loads(shown.stdout) == recipes.as_json(run.recipe)


@pytest.mark.parametrize("field", ["start_from", "distillation.encoder", "--from"])
def test_a_run_waits_for_what_it_needs(tmp_path, field):
    for part in ("", "/best", "/last", "/state.pt", "/../a"):
        value = f"{tmp_path}/a{part}"
        words = f"--from {value} rvq-16k" if field == "--from" else f"rvq-16k {field}={value}"
        path = listed(tmp_path, f"{words} -o {tmp_path / 'b'}", f"rvq-16k -o {tmp_path / 'a'}")
        runs = read_list(path)
        assert [status_of(run, runs).state for run in runs] == ["waiting", "new"], words
    path = listed(
        tmp_path,
        f"rvq-16k data.manifest={tmp_path / 'a' / 'speech'} -o {tmp_path / 'b'}",
        f"rvq-16k -o {tmp_path / 'a'}",
    )
    runs = read_list(path)
    assert [status_of(run, runs).state for run in runs] == ["new", "new"]


def test_lines_that_are_added_are_taken_up(tmp_path, command):
    path = listed(tmp_path, f"rvq-16k steps=2 -o {tmp_path / 'a'}")

    def said(text):
        if text.endswith("done"):
            listed(tmp_path, *(f"rvq-16k steps=2 -o {tmp_path / name}" for name in "ab"))

    assert Queue(path, said=said, command=command).work()
    assert status_of(read_list(path)[1]).state == "done"


def test_a_signal_lets_runs_save_and_the_queue_goes_on_later(tmp_path, command):
    path = listed(
        tmp_path,
        *(f"rvq-16k steps=300 -o {tmp_path / name}" for name in "abc"),
    )
    program = (
        "import sys; from syllabary.training.queue import Queue; from pathlib import Path; "
        f"sys.exit(not Queue(Path({str(path)!r}), 2, command={command!r}).work())"
    )
    process = subprocess.Popen([sys.executable, "-c", program])
    runs = read_list(path)
    deadline = time.monotonic() + 60
    while not all(status_of(run).step > 3 for run in runs[:2]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [status_of(run).state for run in runs] == ["running", "running", "new"]
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 1
    states = [status_of(run) for run in runs]
    assert [status.state for status in states] == ["stopped", "stopped", "new"]
    assert all(3 < status.step < 300 and status.seconds_left > 0 for status in states[:2])


@pytest.mark.skipif(not hasattr(os, "SCHED_IDLE"), reason="only Linux schedules idle processes")
def test_idle_runs_give_way_and_their_terminal_does_not(tmp_path):
    autogroup = Path("/proc/self/autogroup")
    before = autogroup.read_text() if autogroup.exists() else ""
    program = tmp_path / "look.py"
    program.write_text(
        "import json, os, pathlib, sys, time\n"
        "group = pathlib.Path('/proc/self/autogroup')\n"
        "for _ in range(1200):  # the queue sets it once this runs, and is itself idle\n"
        "    text = group.read_text() if group.exists() else ''\n"
        "    if not text or text.split()[-1] == '19':\n"
        "        break\n"
        "    time.sleep(0.1)\n"
        "seen = [os.sched_getscheduler(0) == os.SCHED_IDLE, os.nice(0), os.getsid(0), text]\n"
        "pathlib.Path(sys.argv[-1], 'seen.json').write_text(json.dumps(seen))\n"
        "sys.exit(1)\n"
    )
    path = listed(tmp_path, f"rvq-16k steps=2 -o {tmp_path / 'a'}")
    command = [sys.executable, str(program)]
    queue = (
        "from syllabary.training.queue import Queue; from pathlib import Path; "
        f"Queue(Path({str(path)!r}), command={command!r}, idle=True).work()"
    )
    subprocess.run([sys.executable, "-c", queue], check=True)
    idle, nice, session, group = json.loads((tmp_path / "a" / "seen.json").read_text())
    assert idle and nice == 19 and session != os.getsid(0)
    if before:
        assert autogroup.read_text() == before
        assert group.split()[0] != before.split()[0] and group.split()[-1] == "19"


def test_a_run_of_another_process_is_left_alone(tmp_path, command):
    folder = tmp_path / "a"
    folder.mkdir()
    path = listed(tmp_path, f"rvq-16k steps=2 -o {folder}")
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert status_of(read_list(path)[0]).state == "running"
        assert not Queue(path, command=command).work()
    assert not (folder / "log.jsonl").exists()


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("rvq-17k", "line 2: no recipe 'rvq-17k'"),
        ("rvq-16k stepz=3", "line 2: .*steps"),
        ("rvq-16k -o", "-o without a value"),
        ("--from mimi", "no recipe of 'mimi' is known"),
        ("rvq-16k --time-budget 9m", "can't take --time-budget"),
        ("rvq-16k --fresh", "can't take --fresh"),
        ("-o x", "no RECIPE was given"),
        ("rvq-16k 'steps=3", "line 2: No closing quotation"),
        ("rvq-16k steps=5 -o a", "two runs in a"),
    ],
)
def test_mistakes_in_a_list_are_named_by_line(tmp_path, line, match):
    with pytest.raises(TrainingError, match=match):
        read_list(listed(tmp_path, "rvq-16k -o a", line))


def test_status_on_the_command_line(tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    lines = [
        {"kind": "train", "step": 50, "seconds": 100.0},
        {
            "kind": "validation",
            "step": 50,
            "scores": {"mel": 1.5, "PESQ-wb": 2.25, "STOI": 0.9},
            "best": True,
        },
        {"kind": "train", "step": 100, "seconds": 200.0},
    ]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    path = listed(tmp_path, f"rvq-16k steps=1000 -o {folder}")
    result = subprocess.run(
        [sys.executable, "-m", "syllabary", "queue", str(path), "--status"],
        capture_output=True,
        text=True,
        env=os.environ,
    )
    assert result.returncode == 0, result.stderr
    expected = "stopped  100/1000  0:30:00 left  mel 1.5  PESQ-wb 2.25  STOI 0.9  best 2.25 at 50"
    assert result.stdout == f"{folder}  {expected}\n"
    missing = subprocess.run(
        [sys.executable, "-m", "syllabary", "queue", str(tmp_path / "none")],
        capture_output=True,
        text=True,
    )
    assert missing.returncode == 2 and "Traceback" not in missing.stderr


def test_the_command_line_runs_its_own_training(tmp_path, monkeypatch):
    """The queue does not know the command line: it is told what to run, and that trains."""
    commands = []

    class Recorder(Queue):
        def work(self) -> bool:
            commands.append(self.command)
            return True

    monkeypatch.setattr("syllabary.training.queue.Queue", Recorder)
    path = listed(tmp_path, "rvq-16k steps=5")
    with pytest.raises(SystemExit) as ended:
        main(["queue", str(path)])
    assert ended.value.code == 0
    shown = subprocess.run(
        [*commands[0], "rvq-16k", "steps=5", "--show"], capture_output=True, text=True, check=True
    )
    assert json.loads(shown.stdout)["recipe"]["steps"] == 5
