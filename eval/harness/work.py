"""Tasks of a worker process: reconstruct and score some items, or run a study."""

import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...audio.manifests import Utterance
from ...audio.resampling import resample
from ...cores import use_one_thread
from ...errors import SyllabaryError
from ...filesystem import printable
from ...typed_fields import to_json
from ..metrics import catalogue as metrics
from ..metrics.interface import Clip, Ratio
from ..metrics.scoring import score
from ..requirements import NotApplicableError
from ..results.files import as_bytes
from ..studies import catalogue as studies
from ..studies.interface import Bench, Findings
from ..systems import catalogue as systems
from ..systems.samples import fitted
from .plan import Plan, read_data
from .reconstructions import Reconstructions

#: Folder of a system's reconstructions, among its results.
AUDIO_NAME = "audio"
#: Folder of study data shared by all systems, beside the results.
SHARED_NAME = "shared"
#: Seconds that a worker may take to exit.
GRACE = 10.0


@dataclass(frozen=True)
class Request:
    """A plan in plain values, from which another process can rebuild it.

    Attributes:
        inputs, split, limit: as for `read_data`.
        metrics, studies: names.
        seed, command: as of a `Plan`.
    """

    inputs: tuple[str, ...]
    split: str | None
    limit: int | None
    metrics: tuple[str, ...]
    studies: tuple[str, ...]
    seed: int
    command: str

    def plan(self) -> Plan:
        """Rebuild the plan; raises what `read_data` and the catalogues do."""
        return Plan(
            read_data(self.inputs, self.split, self.limit),
            tuple(metrics.find(name) for name in self.metrics),
            self.studies,
            self.seed,
            self.command,
        )


@dataclass(frozen=True)
class ItemTask:
    """Items of a system to be scored.

    Attributes:
        system: the name by which it is found.
        folder: of its results.
        items: indices among the plan's items.
        metrics: for each item, those still to be computed.
        made: for each item, whether its reconstruction is cached, and its line written.
    """

    system: str
    folder: Path
    items: tuple[int, ...]
    metrics: tuple[tuple[str, ...], ...]
    made: tuple[bool, ...]

    def parts(self) -> "list[WorkItem]":
        """Divide the task into single items."""
        return [
            ItemTask(self.system, self.folder, (item,), (names,), (made,))
            for item, names, made in zip(self.items, self.metrics, self.made, strict=True)
        ]

    def failed(self, plan: Plan, reason: str) -> list[dict[str, Any]]:
        return [_line(plan.data.items[index]) | {"error": reason} for index in self.items]


@dataclass(frozen=True)
class StudyTask:
    """A study of a system.

    Attributes:
        system, folder: as of an `ItemTask`.
        study: its name.
    """

    system: str
    folder: Path
    study: str

    def parts(self) -> "list[WorkItem]":
        return [self]

    def failed(self, plan: Plan, reason: str) -> list[dict[str, Any]]:
        return [{"study": self.study, "error": reason}]


WorkItem = ItemTask | StudyTask


class Worker:
    """Runs tasks of one plan, and keeps the last system in memory.

    Args:
        plan: see `Plan`.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._held: tuple[str, Reconstructions] | None = None

    def do(self, task: WorkItem) -> list[dict[str, Any]]:
        """Run a task and return its result lines: failures are lines too; only interrupts are
        raised.
        """
        try:
            made = self._reconstructions(task)
        except Exception as error:
            return task.failed(self.plan, reason_of(error))
        if isinstance(task, StudyTask):
            return [self._study(task, made)]
        return [
            self._score(self.plan.data.items[index], names, kept, made)
            for index, names, kept in zip(task.items, task.metrics, task.made, strict=True)
        ]

    def _reconstructions(self, task: WorkItem) -> Reconstructions:
        if self._held is None or self._held[0] != task.system:
            self._held = None  # free the old one's memory before loading the new one
            found = Reconstructions(systems.find(task.system), task.folder / AUDIO_NAME)
            self._held = (task.system, found)
        return self._held[1]

    def _score(
        self, item: Utterance, names: tuple[str, ...], kept: bool, made: Reconstructions
    ) -> dict[str, Any]:
        line = _line(item)
        try:
            reference, rate = item.read(channels="mix")
            if kept:
                wave = made.reconstruction(item)
            else:
                fresh = made.make(item)
                wave = fresh.wave
                line |= {"seconds": len(reference) / rate, "bits": fresh.bits}
            estimate = at_rate(wave, made.system.sample_rate, rate, len(reference))
        except Exception as error:
            return line | {"error": reason_of(error)}
        clip = Clip(reference, estimate, rate, item.text, item.language)
        scores, failures = score(clip, names)
        plain = {name: _plain(value) for name, value in scores.items()}
        capped = {
            name: value.uncapped
            for name, value in scores.items()
            if isinstance(value, Ratio) and value.uncapped is not None
        }
        line |= {"scores": plain, "failures": failures}
        return line | {"capped": capped} if capped else line

    def _study(self, task: StudyTask, made: Reconstructions) -> dict[str, Any]:
        start = time.perf_counter()
        line: dict[str, Any] = {"study": task.study}
        try:
            study = studies.find(task.study)
            line |= {"form": study.whole_form, **study.about}
            reason = study.unsuitable(made.system)
            if reason:
                return line | {"unsuitable": reason}
            bench = Bench(
                system=made.system,
                items=self.plan.data.items,
                everything=self.plan.data.everything,
                wave=made.wave,
                reconstruction=made.reconstruction,
                tokens=made.tokens,
                folder=task.folder / "studies",
                shared=task.folder.parent / SHARED_NAME,
                seed=self.plan.seed,
            )
            for folder in (bench.folder, bench.shared):
                if folder is not None:
                    folder.mkdir(parents=True, exist_ok=True)
            line["findings"] = to_json(_plain_findings(study.run(bench)))
            line["took_s"] = round(time.perf_counter() - start, 2)
            as_bytes(line)  # a study of another package may contain values that can't be written
        except NotApplicableError as error:
            return line | {"unsuitable": reason_of(error)}
        except Exception as error:
            line.pop("findings", None)
            return line | {"error": reason_of(error)}
        return line


def at_rate(wave: np.ndarray, rate: int, wanted: int, count: int) -> np.ndarray:
    """Resample a reconstruction to the rate and length of the item's file."""
    if rate == wanted:
        return wave
    # Rates with a non-integer ratio may give a sample more or less.
    return fitted(resample(wave, rate, wanted), count)


def reason_of(error: Exception) -> str:
    """Return a one-line reason: errors of this package are self-explanatory, others get their type
    and place.
    """
    if isinstance(error, SyllabaryError):
        return " ".join(str(error).split())
    place, trace = "", error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        place = f" ({Path(code.co_filename).name}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return f"{type(error).__name__}: {' '.join(str(error).split())}{place}"


def _line(item: Utterance) -> dict[str, Any]:
    return {"item": printable(item.name)}


def _plain(value: float | Ratio) -> float | list[float]:
    return [value.numerator, value.denominator] if isinstance(value, Ratio) else float(value)


def _plain_findings(findings: Findings) -> Findings:
    """Convert findings to plain numbers; NaN and infinity become missing values."""
    values = []
    for value in findings.values:
        if not np.isfinite(value.value):
            findings.missing[value.name] = "it came out as NaN or infinity"
            continue
        ends = [None if end is None or not np.isfinite(end) else float(end)
                for end in (value.low, value.high)]  # fmt: skip
        count = None if value.count is None else int(value.count)
        values.append(
            replace(value, value=float(value.value), low=ends[0], high=ends[1], count=count)
        )
    curves = []
    for curve in findings.curves:
        if np.isfinite(curve.x).all() and np.isfinite(curve.y).all():
            x, y = (tuple(map(float, axis)) for axis in (curve.x, curve.y))
            curves.append(replace(curve, x=x, y=y))
        else:
            findings.missing[curve.name] = "it has NaN or infinity in it"
    return replace(findings, values=values, curves=curves)


_worker: Worker | None = None


def start_worker(make: Callable[[], Plan]) -> None:
    """Make this process a worker, which exits when its parent does."""
    from threadpoolctl import threadpool_limits

    global _worker
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Ctrl-C goes to all processes of a terminal; the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # So that programs it started end too, and temporary files are deleted.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    threadpool_limits(1)
    use_one_thread()
    _worker = Worker(make())


def _end_with_parent() -> None:
    """Exit when the parent was killed, instead of waiting for work forever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(1)


def do_in_worker(task: WorkItem) -> list[dict[str, Any]]:
    assert _worker is not None
    try:
        return _worker.do(task)
    except SystemExit as ended:
        # The pool would return it like a result, and begin the next task.
        os._exit(ended.code if isinstance(ended.code, int) else 1)
