"""A queue of training runs: a list in a file, run one or several at a time, stoppable at any time.

A line of the list has the arguments of `syllabary train` that say what is trained, and where. Every
run is resumed where it stopped. The queue itself saves nothing: the state of each run is read from
its folder. The list is read again before each run begins, so lines may be added while the queue
runs.
"""

import contextlib
import fcntl
import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import TrainingError
from ..filesystem import printable
from .arguments import requested_recipe, usual_folder
from .loop.journal import DONE, LOG_FILE
from .recipe import Recipe
from .state import field_inside

LOCK_FILE = ".lock"
OUTPUT_FILE = "output.txt"
_CHECK_SECONDS = 0.5
_HELP = (
    "a line is a recipe, FIELD=VALUE overrides, -o FOLDER, and --from, --data, --device or --cache"
)
# Of `syllabary train`, each with a value.
_OPTIONS = {
    "-o": "--output",
    **{f"--{n}": f"--{n}" for n in ("output", "recipe", "from", "data", "device", "cache")},
}


@dataclass(frozen=True)
class QueuedRun:
    """A line of the list.

    Attributes:
        arguments: of `syllabary train`.
        output: the run's folder.
        recipe: what is trained.
    """

    arguments: tuple[str, ...]
    output: Path
    recipe: Recipe

    @property
    def steps(self) -> int:
        """Number of steps in its recipe."""
        return self.recipe.steps


@dataclass(frozen=True)
class RunStatus:
    """The progress of a run.

    Attributes:
        state: "done", "running" (in this queue or elsewhere), "waiting" for a run that it starts
            from or learns from, "stopped" before its end, or "new".
        step: steps done, according to the last line of its log.
        seconds_left: estimated from the speed in its log; None if unknown.
        scores: of the last validation.
        best: the best value of the score that selects `best/`, and its step.
    """

    state: Literal["done", "running", "waiting", "stopped", "new"]
    step: int
    seconds_left: float | None
    scores: dict[str, float]
    best: tuple[float, int] | None


def read_list(path: Path) -> list[QueuedRun]:
    """Read the runs of a list, ignoring empty lines and comments after a #.

    Raises:
        TrainingError: the file can't be read, or a line (whose number is given) is invalid.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(f"{printable(path)}: {error}") from None
    runs: list[QueuedRun] = []
    for number, line in enumerate(lines, 1):
        try:
            words = shlex.split(line, comments=True)
            if words:
                runs.append(_parsed(words))
        except (ValueError, TrainingError) as error:
            raise TrainingError(f"{printable(path)}, line {number}: {error}; {_HELP}") from None
        folders = [run.output for run in runs]
        if words and folders.count(folders[-1]) > 1:
            raise TrainingError(
                f"{printable(path)}, line {number}: two runs in {printable(folders[-1])}; give "
                "each a folder of its own by -o"
            )
    return runs


def _parsed(words: Sequence[str]) -> QueuedRun:
    options: dict[str, str] = {}
    plain: list[str] = []
    left = iter(words)
    for word in left:
        if not word.startswith("-"):
            plain.append(word)
            continue
        given, equals, value = word.partition("=")
        if given not in _OPTIONS:
            raise TrainingError(f"can't take {given}")
        found = value if equals else next(left, None)
        if found is None:
            raise TrainingError(f"{given} without a value")
        options[_OPTIONS[given]] = found
    start = options.get("--from")
    recipe = requested_recipe(plain, options.get("--recipe"), start, options.get("--data"))
    folder = options.pop("--output", None) or str(usual_folder(recipe, start))
    rest = [part for option in options.items() for part in option]
    return QueuedRun((*plain, *rest, "-o", folder), Path(folder), recipe)


def status_of(run: QueuedRun, others: Sequence[QueuedRun] = ()) -> RunStatus:
    """Read the progress of a run from its folder.

    Args:
        run: of the list.
        others: the whole list, which may contain the run that it starts from.
    """
    step, rate, scores, ended = 0, None, {}, -1
    best: tuple[float, int] | None = None
    for fields in _log(run.output / LOG_FILE):
        step = max(step, fields.get("step", 0))
        if fields.get("kind") == "train" and fields.get("seconds") and fields.get("step"):
            rate = fields["seconds"] / fields["step"]
        elif fields.get("kind") == "validation":
            scores = fields.get("scores", {})
            chosen = scores.get(run.recipe.validation.best_by)
            if fields.get("best") and chosen is not None:
                best = chosen, fields["step"]
        if fields.get("kind") in (DONE, "validation"):  # the last of which comes after the steps
            ended = fields["step"]
    left = None if rate is None else max(0, run.steps - step) * rate
    if is_locked(run.output):
        return RunStatus("running", step, left, scores, best)
    if ended >= run.steps:
        return RunStatus("done", step, 0.0, scores, best)
    if any(
        other is not run
        and field_inside(run.recipe, other.output)
        and status_of(other).state != "done"
        for other in others
    ):
        return RunStatus("waiting", step, left, scores, best)
    return RunStatus("stopped" if step else "new", step, left, scores, best)


def _log(path: Path) -> list[dict]:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            fields = json.loads(line)
        except ValueError:  # the line is being written
            continue
        if isinstance(fields, dict):
            found.append(fields)
    return found


def is_locked(output: Path) -> bool:
    """Whether a process trains in this folder."""
    try:
        with (output / LOCK_FILE).open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


class Queue:
    """Runs the trainings of a list.

    Args:
        path: of the list.
        workers: number of runs in parallel.
        said: called with messages about runs that start and end.
        command: started for each run, followed by the run's arguments.
        idle: have the system run them only when nothing else wants the processor (Linux).

    Raises:
        OSError: there is no idle scheduling here.
    """

    def __init__(
        self,
        path: Path,
        workers: int = 1,
        said: Callable[[str], None] = print,
        *,
        command: Sequence[str],
        idle: bool = False,
    ) -> None:
        if idle:
            _only_idle_time()
        self.idle = idle
        self.path, self.workers, self.said, self.command = path, workers, said, tuple(command)
        self.failed: dict[Path, int] = {}
        self._running: dict[Path, subprocess.Popen[bytes]] = {}
        self._known: dict[Path, QueuedRun] = {}
        self._stop = False

    def work(self) -> bool:
        """Run until all runs are done or have failed, or until a signal, on which runs save and
        stop.

        Returns:
            Whether all are done.

        Raises:
            TrainingError: the list has an error at the start. Later errors are reported, and the
                queue
                continues with the runs that it knows.
        """
        runs = read_list(self.path)
        before = {n: signal.signal(n, self._note) for n in (signal.SIGTERM, signal.SIGINT)}
        try:
            while not self._stop:
                try:
                    runs = read_list(self.path)
                except TrainingError as error:
                    self.said(str(error))
                if not self._begin(runs) and not self._running:
                    break
                self._wait()
        finally:
            self._end()
            for number, handler in before.items():
                signal.signal(number, handler)
        return all(status_of(run, runs).state == "done" for run in runs)

    def _note(self, number: int, frame: object) -> None:
        self._stop = True

    def _begin(self, runs: Sequence[QueuedRun]) -> bool:
        """Start as many runs as there are free places; return whether any was started."""
        began = False
        for run in runs:
            if len(self._running) >= self.workers:
                break
            if run.output in self._running or run.output in self.failed:
                continue
            status = status_of(run, runs)
            if status.state not in ("new", "stopped"):
                continue
            run.output.mkdir(parents=True, exist_ok=True)
            with (run.output / OUTPUT_FILE).open("ab") as output:
                started = subprocess.Popen(
                    [*self.command, *run.arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,  # Ctrl-C in a terminal is passed on by the queue
                )
            self._running[run.output], self._known[run.output] = started, run
            if self.idle:
                _give_way(started.pid)
            self.said(f"{printable(run.output)}: begins at step {status.step} of {run.steps}")
            began = True
        return began

    def _wait(self) -> None:
        """Wait until a run ends or a stop is requested."""
        while self._running and not self._stop:
            for output, process in list(self._running.items()):
                code = process.poll()
                if code is None:
                    continue
                del self._running[output]
                if code:
                    self.failed[output] = code
                    self.said(
                        f"{printable(output)}: failed with exit code {code}; why is in "
                        f"{printable(output / OUTPUT_FILE)}"
                    )
                elif status_of(self._known[output]).state != "done":
                    self.failed[output] = code
                    self.said(
                        f"{printable(output)}: ended before it was done; what it said is in "
                        f"{printable(output / OUTPUT_FILE)}"
                    )
                else:
                    self.said(f"{printable(output)}: done")
                return
            time.sleep(_CHECK_SECONDS)

    def _end(self) -> None:
        """Make the running trainings save and stop."""
        for process in self._running.values():
            process.send_signal(signal.SIGTERM)
        for output, process in self._running.items():
            process.wait()
            self.said(f"{printable(output)}: stopped; the queue goes on with it")


def _only_idle_time() -> None:
    """Set the lowest priority for this process and those that it starts."""
    try:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    except AttributeError:
        raise OSError("only Linux has it") from None
    os.nice(19)


def _give_way(pid: int) -> None:
    """Set the lowest priority for the session that a process leads.

    Linux shares the processor among sessions first, and only then by the priority of processes.
    """
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text("19")
