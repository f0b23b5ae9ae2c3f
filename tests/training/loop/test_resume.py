"""A run that is killed and goes on is the run that was never killed, bit for bit."""

import json
import os
import signal
import subprocess
import sys

import pytest
import torch

from syllabary.errors import ManifestError, TrainingError
from syllabary.training.loop import Observer, train

from . import tiny


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return tiny.write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture
def cache(tmp_path_factory):
    return tmp_path_factory.getbasetemp() / "stores"


def lines(folder):
    """The log without what a clock says."""
    found = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    for line in found:
        assert line.pop("seconds") >= 0
        # The command line scores by what is installed.
        for name in ("scores", "counts", "missing"):
            line[name] = {k: v for k, v in line.get(name, {}).items() if k == "mel"}
    return found


def same(first, second):
    """Whether two states hold the same bits."""
    if isinstance(first, torch.Tensor):
        return first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    if isinstance(first, list):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second


def state(folder):
    found = torch.load(folder / "state.pt", weights_only=True)
    assert found.pop("seconds") >= 0
    return found


def command(corpus, cache, output, *arguments, **environment):
    done = subprocess.run(
        [
            *(sys.executable, tiny.__file__, "tiny", f"data.manifest={corpus}"),
            *("-o", str(output), "--device", "cpu", "--cache", str(cache), *arguments),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done


@pytest.fixture(scope="module")
def uninterrupted(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    torch.set_num_threads(1)
    cache = tmp_path_factory.getbasetemp() / "stores"
    outcome = train(tiny.recipe(corpus), folder, device="cpu", cache=cache)
    assert (outcome.step, outcome.reason) == (14, "done")
    return folder


@pytest.mark.parametrize("kill_at", [pytest.param(8, marks=pytest.mark.slow), 2])
def test_killed_at_a_step_and_gone_on(kill_at, uninterrupted, corpus, cache, tmp_path):
    """8: after a state and lines of the log that are newer; 2: before any state."""
    run = tmp_path / "run"
    killed = command(corpus, cache, run, TINY_KILL_AT=str(kill_at))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (run / "state.pt").exists() == (kill_at == 8)
    if kill_at == 8:
        # A line that was cut short, as a full disk leaves it.
        with (run / "log.jsonl").open("a") as file:
            file.write('{"kind": "train", "st')
    if kill_at == 8:
        done = command(corpus, cache, run)
        assert done.returncode == 0, done.stderr
        assert "going on from step 6" in done.stderr
    else:
        assert train(tiny.recipe(corpus), run, device="cpu", cache=cache).step == 14
    assert lines(run) == lines(uninterrupted)
    assert same(state(run), state(uninterrupted))


def test_the_comparison_sees_a_bit(uninterrupted):
    changed = state(uninterrupted)
    assert same(changed, state(uninterrupted))
    changed["generator"]["encoder.0.weight"].view(torch.int32)[0, 0] += 1
    assert not same(changed, state(uninterrupted))


def test_stopped_by_the_clock_again_and_again(uninterrupted, corpus, cache, tmp_path):
    run = tmp_path / "run"
    steps = []
    for _ in range(20):
        outcome = train(tiny.recipe(corpus), run, device="cpu", cache=cache, time_budget=1e-3)
        steps.append(outcome.step)
        if outcome.reason == "done":
            break
        assert outcome.reason == "time"
    # No sitting does nothing, or more than the step that it was in; the last may only validate.
    assert steps == [*range(1, 15), 14]
    assert lines(run) == lines(uninterrupted)
    assert same(state(run), state(uninterrupted))


def test_a_signal_stops_after_the_step(uninterrupted, corpus, cache, tmp_path):
    class Signals(Observer):
        def stepped(self, step, figures):
            if step == 5:
                os.kill(os.getpid(), signal.SIGTERM)

    run = tmp_path / "run"
    before = signal.getsignal(signal.SIGTERM)
    outcome = train(tiny.recipe(corpus), run, device="cpu", cache=cache, observer=Signals())
    assert (outcome.step, outcome.reason, outcome.signal) == (6, "signal", signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before
    assert train(tiny.recipe(corpus), run, device="cpu", cache=cache).reason == "done"
    assert lines(run) == lines(uninterrupted)
    assert same(state(run), state(uninterrupted))


def test_more_steps_go_on_where_the_schedule_does_not_change(corpus, cache, tmp_path):
    schedule = tiny.ScheduleConfig(warmup_steps=2, decay_steps=8)
    short, long = (tiny.recipe(corpus, steps=n, schedule=schedule) for n in (4, 8))
    train(short, tmp_path / "a", device="cpu", cache=cache)
    assert train(long, tmp_path / "a", device="cpu", cache=cache).step == 8
    train(long, tmp_path / "b", device="cpu", cache=cache)
    last = [[x for x in lines(tmp_path / run) if x["kind"] == "train"] for run in "ab"]
    assert last[0] == last[1]
    with pytest.raises(TrainingError, match=r"schedule.decay_steps: 14 there, 20 now"):
        folder = tmp_path / "c"
        train(tiny.recipe(corpus), folder, device="cpu", cache=cache, time_budget=0.0)
        train(tiny.recipe(corpus, steps=20), folder, device="cpu", cache=cache)


def test_another_recipe_needs_a_fresh_start(corpus, cache, tmp_path):
    one, other = tiny.recipe(corpus, steps=2), tiny.recipe(corpus, steps=2, mel_weight=2.0)
    train(one, tmp_path, device="cpu", cache=cache)
    kept = (tmp_path / "state.pt").read_bytes()
    with pytest.raises(TrainingError, match=r"mel_weight: 1.0 there, 2.0 now.*--fresh"):
        train(other, tmp_path, device="cpu", cache=cache)
    assert (tmp_path / "state.pt").read_bytes() == kept
    assert train(other, tmp_path, device="cpu", cache=cache, fresh=True).step == 2
    assert state(tmp_path)["recipe"]["recipe"]["mel_weight"] == 2.0
    assert [line["step"] for line in lines(tmp_path)] == [2, 2, 2]


def test_a_fresh_start_deletes_a_run_only_when_the_new_one_can_begin(corpus, cache, tmp_path):
    run, given = tmp_path / "run", {"device": "cpu", "cache": cache, "fresh": True}
    train(tiny.recipe(corpus, steps=2), run, device="cpu", cache=cache)
    kept = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(ManifestError, match="no such file or folder"):
        train(tiny.recipe(tmp_path / "corpuz", steps=2), run, **given)
    with pytest.raises(TrainingError, match="can't be read"):
        train(tiny.recipe(corpus, steps=2, start_from=str(tmp_path / "none")), run, **given)
    for part in ("", "best", "last", "state.pt"):
        start = os.path.relpath(run / part)
        with pytest.raises(TrainingError, match=r"start_from is in .*run, which would be deleted"):
            train(tiny.recipe(corpus, steps=2, start_from=start), run, **given)
    assert {path: path.read_bytes() for path in kept} == kept
    other = tiny.recipe(corpus, steps=1, start_from=str(run / "last"))
    with pytest.raises(TrainingError, match="do not fit"):  # a tokenizer's, not the generator's
        train(other, run / "inside", **given)
    assert train(tiny.recipe(corpus, steps=1), run, **given).step == 1
    assert [line["kind"] for line in lines(run)] == ["validation", "done"]


def test_the_log_says_once_that_a_run_is_done(corpus, cache, tmp_path):
    schedule = tiny.ScheduleConfig(warmup_steps=2, decay_steps=8)
    for steps in (3, 3, 5, 5):
        train(tiny.recipe(corpus, steps=steps, schedule=schedule), tmp_path, cache=cache)
        ends = [line["step"] for line in lines(tmp_path) if line["kind"] == "done"]
        assert ends == [steps] and lines(tmp_path)[-1]["kind"] == "done"
    longer = tiny.recipe(corpus, steps=8, schedule=schedule)
    train(longer, tmp_path, cache=cache, time_budget=0.0)
    assert "done" not in [line["kind"] for line in lines(tmp_path)]


@pytest.mark.parametrize("name", ["foo", "cuda:99"])
def test_devices_that_are_not_there(corpus, cache, tmp_path, name):
    with pytest.raises(TrainingError, match=f"device '{name}': "):
        train(tiny.recipe(corpus, steps=1), tmp_path / "run", device=name, cache=cache)
    assert not (tmp_path / "run").exists()


def test_other_data_is_refused_and_the_same_elsewhere_is_not(corpus, cache, tmp_path):
    run = tmp_path / "run"
    train(tiny.recipe(corpus, steps=2), run, device="cpu", cache=cache, time_budget=0.0)
    other = tiny.write_corpus(tmp_path / "other", seconds=0.6)
    with pytest.raises(TrainingError, match=r"other data \(train differ\)"):
        train(tiny.recipe(other, steps=2), run, device="cpu", cache=cache)
    moved = tiny.write_corpus(tmp_path / "moved")
    assert train(tiny.recipe(moved, steps=2), run, device="cpu", cache=cache).step == 2


def test_a_damaged_state_is_named(corpus, cache, tmp_path):
    (tmp_path / "state.pt").write_bytes(b"not a state")
    with pytest.raises(TrainingError, match=r"state.pt: can't be read"):
        train(tiny.recipe(corpus), tmp_path, device="cpu", cache=cache)
    torch.save({"format": "another"}, tmp_path / "state.pt")
    with pytest.raises(TrainingError, match="not a training state"):
        train(tiny.recipe(corpus), tmp_path, device="cpu", cache=cache)
