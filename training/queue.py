"""A queue of runs: a list in a file, worked through a run at a time or several, stopped at will.

A line of the list is what `syllabary train` takes: a recipe, overrides, ``-o FOLDER``. Every run
goes on where it stopped, so the queue itself keeps nothing: what is done is read from the runs'
folders. The list is read again before each run begins; lines may be added while the queue works.
"""

import fcntl
import json
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
from . import recipe_registry as recipes
from .loop.journal import LOG_FILE

LOCK_FILE = ".lock"
OUTPUT_FILE = "output.txt"
_CHECK_SECONDS = 0.5
_HELP = "a line is a recipe, FIELD=VALUE overrides, and -o FOLDER"


@dataclass(frozen=True)
class QueuedRun:
    """A line of the list.

    Attributes:
        arguments: of `syllabary train`.
        output: the run's folder.
        steps: of its recipe.
        start_from: the recipe's, "" for none.
    """

    arguments: tuple[str, ...]
    output: Path
    steps: int
    start_from: str


@dataclass(frozen=True)
class RunStatus:
    """How far a run has come.

    Attributes:
        state: "done", "running" (in this queue or elsewhere), "waiting" for the run that it starts
            from, "stopped" in the middle, or "new".
        step: steps done, as of the last line of its log.
        seconds_left: at the speed of its log; None where that is not known.
        scores: of the last validation.
        best: the best score of the one that chooses `best/`, and its step.
    """

    state: Literal["done", "running", "waiting", "stopped", "new"]
    step: int
    seconds_left: float | None
    scores: dict[str, float]
    best: tuple[float, int] | None


def read_list(path: Path) -> list[QueuedRun]:
    """The runs of a list; empty lines and what follows a # do not count.

    Raises:
        TrainingError: the file can't be read, or a line is no run: its number is named.
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
    rest, output = list(words), None
    while "-o" in rest:
        at = rest.index("-o")
        if at + 1 == len(rest):
            raise TrainingError("-o without a folder")
        output = rest[at + 1]
        del rest[at : at + 2]
    options = [word for word in rest if word.startswith("-")]
    if options or not rest:
        raise TrainingError(f"can't take {options[0]}" if options else "no recipe")
    recipe = recipes.override(recipes.find(rest[0]), rest[1:])
    folder = Path(output) if output else Path("runs", recipe.name)
    return QueuedRun((*rest, "-o", str(folder)), folder, recipe.steps, recipe.start_from)


def status_of(run: QueuedRun, others: Sequence[QueuedRun] = ()) -> RunStatus:
    """What a run's folder says.

    Args:
        run: of the list.
        others: the whole list, in which the run that it starts from may be.
    """
    step, rate, scores, judged = 0, None, {}, -1
    best: tuple[float, int] | None = None
    for fields in _log(run.output / LOG_FILE):
        step = max(step, fields.get("step", 0))
        if fields.get("kind") == "train" and fields.get("seconds") and fields.get("step"):
            rate = fields["seconds"] / fields["step"]
        elif fields.get("kind") == "validation":
            scores, judged = fields.get("scores", {}), fields["step"]
            chosen = next(iter(scores.values()), None)
            if fields.get("best") and chosen is not None:
                best = chosen, judged
    left = None if rate is None else max(0, run.steps - step) * rate
    done = judged >= run.steps or (step >= run.steps and (run.output / "last").is_dir())
    if done:
        return RunStatus("done", step, 0.0, scores, best)
    if is_locked(run.output):
        return RunStatus("running", step, left, scores, best)
    if any(
        other.output.resolve() == Path(run.start_from).resolve()
        and other is not run
        and status_of(other).state != "done"
        for other in others
        if run.start_from
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
        except ValueError:  # being written
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
    """Works through a list.

    Args:
        path: of the list.
        workers: runs at a time.
        said: hears what begins and ends.
        command: what is run for each, before the run's arguments.
    """

    def __init__(
        self,
        path: Path,
        workers: int = 1,
        said: Callable[[str], None] = print,
        *,
        command: Sequence[str],
    ) -> None:
        self.path, self.workers, self.said, self.command = path, workers, said, tuple(command)
        self.failed: dict[Path, int] = {}
        self._running: dict[Path, subprocess.Popen[bytes]] = {}
        self._stop = False

    def work(self) -> bool:
        """Until all runs are done, have failed, or a signal comes; runs then save and stop.

        Returns:
            Whether all are done.

        Raises:
            TrainingError: the list has a mistake when the queue begins. Later ones are said, and
                the queue goes on with the runs that it knows.
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
        """Begin what there is room for; whether anything was."""
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
                self._running[run.output] = subprocess.Popen(
                    [*self.command, *run.arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    process_group=0,  # a terminal's Ctrl-C is ours to pass on
                )
            self.said(f"{printable(run.output)}: begins at step {status.step} of {run.steps}")
            began = True
        return began

    def _wait(self) -> None:
        """Until a run ends or a stop is wanted."""
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
                else:
                    self.said(f"{printable(output)}: done")
                return
            time.sleep(_CHECK_SECONDS)

    def _end(self) -> None:
        """Let what runs save and stop."""
        for process in self._running.values():
            process.send_signal(signal.SIGTERM)
        for output, process in self._running.items():
            process.wait()
            self.said(f"{printable(output)}: stopped; the queue goes on with it")
