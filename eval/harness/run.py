"""The evaluation run: open tasks, their distribution over processes, and writing of results."""

import hashlib
import itertools
import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...audio.manifests import Utterance
from ...errors import SyllabaryError
from ...filesystem import printable, remove_all_leftovers, replacing
from ...typed_fields import from_json
from ..results.files import RESULT_NAME, as_bytes, write_result
from ..results.schema import SystemEntry
from ..studies import catalogue as studies
from ..systems import catalogue as systems
from ..systems.interface import System
from .clips import ORIGINALS, choose_clips, copy_clips, write_originals
from .lines import ResultLines
from .plan import FORMAT, PLAN_NAME, Plan, PlanError, environment
from .summary import merged, result, unfinished
from .work import AUDIO_NAME, SHARED_NAME, ItemTask, Request, StudyTask, WorkItem
from .workers import do_here, do_in_processes

SYSTEM_NAME = "system.json"
_LINES = "lines.jsonl"
#: Seconds of audio in a task: enough to keep a process busy, few enough for a crash to cost little.
_TASK_SECONDS = 45.0

#: Seconds of audio whose scores take as long as a study (measured: 90 for most, 250 for dMel).
_STUDY_SECONDS = 120.0

#: Entries of a results folder besides the systems' own folders.
RESULT_PARTS = frozenset((PLAN_NAME, ORIGINALS, SHARED_NAME))


def is_results(folder: Path) -> bool:
    """Whether a folder was written by an evaluation."""
    try:
        return bool(json.loads((folder / PLAN_NAME).read_bytes())["format"] == FORMAT)
    except (OSError, ValueError, KeyError, TypeError):
        return False


@dataclass
class Progress:
    """The progress of an evaluation.

    Attributes:
        done, total: work, roughly in seconds of audio.
        system: of the last task.
        what: kind of the last task.
        failures: items and studies that failed so far in this run.
        missing: scores that could not be computed.
    """

    done: float = 0.0
    total: float = 0.0
    system: str = ""
    what: str = ""
    failures: int = 0
    missing: int = 0


@dataclass(frozen=True)
class SystemRecord:
    """A description of a system, for use without loading it.

    Attributes:
        given: the name by which it is found.
        entry: its description in results.
        unsuitable: studies that can't be applied to it.
    """

    given: str
    entry: SystemEntry
    unsuitable: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        return self.entry.name


def describe(
    names: Sequence[str], study_names: Sequence[str] = ()
) -> tuple[list[SystemRecord], dict[str, str]]:
    """Load each system once, to check that it is available, and which studies apply to it.

    Returns:
        The available systems, and, by name, the reasons for unavailable ones.

    Raises:
        SyllabaryError: none is available.
    """
    found: list[SystemRecord] = []
    reasons: dict[str, str] = {}
    for given in names:
        try:
            system = systems.find(given)
            unfit = frozenset(name for name in study_names if _unsuitable(name, system))
            entry = from_json(SystemEntry, system.to_json(), "system")
            one = SystemRecord(given, entry, unfit)
        except (SyllabaryError, RuntimeError, OSError) as error:
            reasons[given] = str(error)
            continue
        if any(other.name == one.name for other in found):
            reasons[given] = f"another system is called {one.name} already"
        else:
            found.append(one)
    if not found:
        why = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        raise SyllabaryError(f"nothing to measure: {why or 'no system named'}")
    return found, reasons


def _unsuitable(study: str, system: System) -> bool:
    try:
        return bool(studies.find(study).unsuitable(system))
    except Exception:  # of another package; it will fail with a reason
        return False


@dataclass
class Contestant:
    """A system and its results.

    Attributes:
        system: see `SystemRecord`.
        folder: of the results.
        lines: of the results.
    """

    system: SystemRecord
    folder: Path
    lines: ResultLines

    @property
    def audio(self) -> Path:
        return self.folder / AUDIO_NAME


def folder_name(system: str) -> str:
    """Return the folder name of a system's results; an invalid name is replaced, with a digest
    appended.
    """
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", system).strip("._")
    if plain == system and plain not in (ORIGINALS, SHARED_NAME):
        return plain
    return f"{plain or 'system'}-{hashlib.sha256(system.encode(errors='replace')).hexdigest()[:6]}"


def evaluate(
    plan: Plan,
    request: Request,
    found: Sequence[SystemRecord],
    folder: Path,
    processes: int,
    retry: bool = False,
    tell: Callable[[Progress], None] = lambda progress: None,
    warn: Callable[[str], None] = lambda text: None,
) -> list[Path]:
    """Evaluate systems as far as results are missing, and write a `result.json` for each.

    A system whose digest differs from that of its existing results is evaluated again, and those
    results are moved aside.

    Args:
        plan: what is measured.
        request: the same for worker processes.
        found: the systems, see `describe`.
        folder: of the results; existing ones are completed.
        processes: number of processes; 1 runs everything in this one.
        retry: compute failed items again.
        tell: called after every task.
        warn: called with what the user should know of the results.

    Returns:
        The result files.

    Raises:
        PlanError: the folder has results of another plan.
    """
    shown = plan.hold(folder)
    clips = choose_clips(plan.data)
    write_originals(clips, folder)
    folders = [folder / folder_name(system.name) for system in found]
    for path in folders:
        if folders.count(path) > 1:
            raise PlanError(f"two systems would both write into {path}")
    for path in (*folders, folder / ORIGINALS, folder / SHARED_NAME):
        remove_all_leftovers(path)
    with ExitStack() as stack:
        contestants: dict[Path, Contestant] = {}
        for system, own in zip(found, folders, strict=True):
            _make_way(system, own)
            lines = stack.enter_context(ResultLines(own / _LINES))
            contestants[own] = Contestant(system, own, lines)
        tasks = []
        for one in contestants.values():
            open_tasks = list(_open_tasks(plan, one, retry))
            tasks += open_tasks
            command = {"command": plan.command}
            if open_tasks and command not in one.lines.lines:
                one.lines.add(command)

        def size(task: WorkItem) -> float:
            return _size(plan, task, contestants[task.folder].system)

        progress = Progress(total=sum(map(size, tasks)))
        tell(progress)
        for task, lines_of_task in _do_all(plan, request, tasks, processes):
            one = contestants[task.folder]
            for line in lines_of_task:
                one.lines.add(line)
                progress.failures += "error" in line
                progress.missing += len(line.get("failures", {}))
            progress.done += size(task)
            progress.system, progress.what = one.system.name, _what(task)
            tell(progress)
            left = list(_open_tasks(plan, one, retry=False))
            # If items are missing, there is no mean.
            whole = not any(isinstance(other, ItemTask) for other in left)
            if whole and (isinstance(task, ItemTask) or all(map(_runs_alone, left))):
                _write_result(shown, one, clips)
        for one in contestants.values():
            _write_result(shown, one, clips)
            for metric, count in unfinished(shown, one.lines.lines).items():
                warn(
                    f"{one.system.name}: {metric} is unfinished, {count} items are left; it is "
                    "not in the results until a run with it ends"
                )
    return [path / RESULT_NAME for path in folders]


def _make_way(system: SystemRecord, folder: Path) -> None:
    """Move the results of another system of the same name aside, such as of an earlier training,
    and bring back those of this one, if they were.

    They get the beginning of its digest after the folder's name; unfinished ones are deleted.
    """
    path = folder / SYSTEM_NAME
    stale = folder.with_name(f".old-{folder.name}")
    if stale.exists():
        shutil.rmtree(stale)  # left by a run that was killed here
    if path.exists():
        try:
            held = json.loads(path.read_text())
            digest, name = held["digest"], held["name"]
        except (ValueError, KeyError, TypeError) as error:
            raise PlanError(f"{path}: not a description of a system: {error}") from None
        if name != system.name:
            raise PlanError(f"{folder} holds results of {name}, and would of {system.name}")
        if digest != system.entry.digest:
            if (folder / RESULT_NAME).exists():
                folder.rename(_free(_aside(folder, digest)))
            else:
                # By a rename first: half of a deleted folder could be taken for the new one's.
                folder.rename(stale)
                shutil.rmtree(stale)
    elif (folder / _LINES).exists():
        raise PlanError(f"{folder} holds results of nobody knows what: there is no {SYSTEM_NAME}")
    before = _aside(folder, system.entry.digest)
    if not folder.exists() and _is_of(before, system):
        before.rename(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_bytes(as_bytes(system.entry, indent=1))


def _aside(folder: Path, digest: object) -> Path:
    return folder.with_name(f"{folder.name}-{str(digest)[:8]}")


def _free(path: Path) -> Path:
    """Return the path, with a number after it if there is something of its name."""
    names = itertools.chain(
        [path], (path.with_name(f"{path.name}-{n}") for n in itertools.count(2))
    )
    return next(name for name in names if not name.exists())


def _is_of(folder: Path, system: SystemRecord) -> bool:
    """Whether a folder has results of a system, with the same weights."""
    try:
        held = json.loads((folder / SYSTEM_NAME).read_text())
        return bool((held["name"], held["digest"]) == (system.name, system.entry.digest))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _open_tasks(plan: Plan, one: Contestant, retry: bool) -> Iterator[WorkItem]:
    known = merged(one.lines.lines)
    chosen: list[tuple[int, tuple[str, ...], bool]] = []
    seconds = 0.0
    for index, item in enumerate(plan.data.items):
        held = known.get(printable(item.name))
        left = _left(plan, item, held, retry)
        if left is None:
            continue
        chosen.append((index, left, held is not None and "error" not in held))
        seconds += item.duration_s or 1.0
        if seconds >= _TASK_SECONDS:
            yield _task(one, chosen)
            chosen, seconds = [], 0.0
    if chosen:
        yield _task(one, chosen)
    studied = {line["study"]: line for line in one.lines.lines if "study" in line}
    for name in plan.studies:
        line = studied.get(name)
        other = line is None or not studies.find(name).is_done_by(line.get("form"))
        failed = line and (
            "error" in line or "unsuitable" in line or line.get("findings", {}).get("missing")
        )
        again = retry and failed
        if other or again:
            yield StudyTask(one.system.given, one.folder, name)


def _task(one: Contestant, chosen: Sequence[tuple[int, tuple[str, ...], bool]]) -> ItemTask:
    indices, names, made = zip(*chosen, strict=True)
    return ItemTask(one.system.given, one.folder, indices, names, made)


def _left(
    plan: Plan, item: Utterance, known: dict[str, Any] | None, retry: bool
) -> tuple[str, ...] | None:
    """Return the metrics that an item lacks; None if it is complete."""
    wanted = plan.metrics_of(item)
    if known is None or (retry and "error" in known):
        return tuple(wanted)
    if "error" in known:
        return None
    failures = () if retry else known["failures"]
    left = tuple(n for n in wanted if n not in known["scores"] and n not in failures)
    return left or None


def _runs_alone(task: WorkItem) -> bool:
    return isinstance(task, StudyTask) and studies.find(task.study).alone


def _do_all(
    plan: Plan, request: Request, tasks: Sequence[WorkItem], processes: int
) -> Iterator[tuple[WorkItem, list[dict[str, Any]]]]:
    """Run parallel tasks first, then, one at a time, those that measure time."""
    alone = [task for task in tasks if _runs_alone(task)]
    together = [task for task in tasks if task not in alone]
    for chosen, count in ((together, processes), (alone, 1)):
        if chosen and processes == 1:
            yield from do_here(plan, chosen)
        elif chosen:
            yield from do_in_processes(plan, request, chosen, count)


def _write_result(plan: Plan, one: Contestant, clips: Sequence[Utterance]) -> None:
    copied = copy_clips(clips, one.audio, one.folder)
    found = result(plan, one.system.entry, one.lines.lines, copied, environment(plan.metrics))
    write_result(one.folder / RESULT_NAME, found)


def _size(plan: Plan, task: WorkItem, system: SystemRecord) -> float:
    if isinstance(task, StudyTask):
        return 0.0 if task.study in system.unsuitable else _STUDY_SECONDS
    return sum(plan.data.items[index].duration_s or 1.0 for index in task.items)


def _what(task: WorkItem) -> str:
    return task.study if isinstance(task, StudyTask) else f"{len(task.items)} items"
