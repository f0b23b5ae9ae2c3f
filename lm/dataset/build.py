"""`build_dataset`: from a list of audio to a finished data set, exactly once.

    plan      what there is to encode, written before the first utterance is read
    pieces    encoded by an engine, each kept as a file and a line of the ledger
    shards    composed of the pieces when all are there, in the order of the plan

A build that is killed goes on where it was; what it writes is the same as if nothing had happened.
"""

import errno
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import DatasetError
from ...filesystem import printable, remove_all_leftovers
from .engines import InProcess, OpenEngine, Processes, Task
from .finish import finish
from .format import BUILD_FOLDER, DESCRIPTION_NAME, read_description
from .ledger import Ledger, only_writer
from .plan import Plan, digest_of, make_plan, read_plan
from .settings import Settings, changed_settings
from .sources import list_sources
from .stored import StoredDataset, open_dataset

#: Called with pieces done, all pieces, and the seconds of audio that were encoded now.
Progress = Callable[[int, int, float], None]


@dataclass(frozen=True)
class BuildReport:
    """What a build did.

    Attributes:
        dataset: the finished data set.
        planned: utterances in the list.
        failures: that could not be encoded; `failures.jsonl` names them.
        drops: that were filtered out, by reason.
        resumed: pieces that an earlier run had done.
        pieces: of the whole build.
        seconds: of audio that was encoded now.
        already: whether the data set was finished before.
    """

    dataset: StoredDataset
    planned: int
    failures: int
    drops: dict[str, int]
    resumed: int = 0
    pieces: int = 0
    seconds: float = 0.0
    already: bool = False


def local_engine(workers: int) -> OpenEngine:
    """An engine on this machine: this process for one worker, else processes."""
    return lambda recipe: InProcess(recipe) if workers == 1 else Processes(recipe, workers)


def build_dataset(
    inputs: Sequence[str | Path],
    folder: str | Path,
    settings: Settings | None = None,
    engine: OpenEngine | None = None,
    *,
    device: str = "cpu",
    batch_size: int = 1,
    progress: Progress | None = None,
) -> BuildReport:
    """Build a data set, or go on with one.

    Args:
        inputs: see `list_sources`.
        folder: of the data set; new, empty, or of a build with the same inputs and settings.
        settings: what decides the contents.
        engine: who encodes; default: this process.
        device, batch_size: of the workers; they don't change the contents.
        progress: called after each piece.

    Raises:
        DatasetError: the folder holds something else, another process writes to it, the inputs or
            settings are not those that the build began with, or the disk is full.
        SyllabaryError: an input or a setting is wrong.
    """
    folder, settings = Path(folder), settings or Settings()
    _check_place(folder)
    is_new = not folder.exists()
    recipe = settings.recipe(device, batch_size)
    facts = settings.to_json(recipe)
    words = settings.listed_words()
    listed = (facts, settings.splits, words)
    build = folder / BUILD_FOLDER
    if (folder / DESCRIPTION_NAME).exists():
        return _finished(folder, digest_of(list_sources(inputs, settings.split), *listed), facts)
    with only_writer(build), _named_full_disk(folder):
        remove_all_leftovers(folder)
        plan = read_plan(build)
        if plan is None:
            try:
                plan = make_plan(list_sources(inputs, settings.split), build, *listed)
            except BaseException:  # nothing has begun, so nothing stays
                shutil.rmtree(build, ignore_errors=True)
                if is_new:
                    folder.rmdir()
                raise
        else:
            _check_same(
                folder, plan, digest_of(list_sources(inputs, settings.split), *listed), facts
            )
        ledger = Ledger(build, plan.digest)
        resumed = len(ledger.records)
        seconds = 0.0
        made = (engine or local_engine(1))(recipe)
        for number, piece in made.run(_tasks(plan, ledger)):
            ledger.add(number, piece)
            seconds += piece.record["seconds"]
            if progress:
                progress(len(ledger.records), plan.num_pieces, piece.record["seconds"])
        finish(folder, plan, ledger, recipe.header, settings)
        shutil.rmtree(build)
    report = _report(folder)
    return BuildReport(
        report.dataset, report.planned, report.failures, report.drops, resumed,
        plan.num_pieces, seconds,
    )  # fmt: skip


def _tasks(plan: Plan, ledger: Ledger) -> Iterator[Task]:
    for number in range(plan.num_pieces):
        if number not in ledger.records:
            yield number, plan.piece(number)


def _check_place(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise DatasetError(f"{printable(folder)}: a file, expected a folder for the data set")
    if not folder.is_dir() or (folder / DESCRIPTION_NAME).exists():
        return
    if (folder / BUILD_FOLDER).is_dir():
        return
    if any(folder.iterdir()):
        raise DatasetError(
            f"{printable(folder)}: not empty, and no data set: its files could be overwritten"
        )


def _check_same(folder: Path, plan: Plan, digest: str, facts: dict[str, Any]) -> None:
    if plan.digest == digest:
        return
    changed = changed_settings(plan.settings, facts)
    what = f"with other settings: {'; '.join(changed)}" if changed else "of another list of inputs"
    raise DatasetError(
        f"{printable(folder)}: holds an unfinished build {what}. Give the same inputs and settings "
        "to go on with it, or another folder"
    )


def _finished(folder: Path, digest: str, facts: dict[str, Any]) -> BuildReport:
    description = read_description(folder)
    held = description.get("plan")
    if not isinstance(held, dict) or held.get("digest") != digest:
        changed = changed_settings(dict((held or {}).get("settings", {})), facts)
        what = f"with other settings: {'; '.join(changed)}" if changed else "of other inputs"
        raise DatasetError(
            f"{printable(folder)}: holds a finished data set {what}; name another folder"
        )
    shutil.rmtree(folder / BUILD_FOLDER, ignore_errors=True)  # of a kill just before the end
    report = _report(folder)
    return BuildReport(report.dataset, report.planned, report.failures, report.drops, already=True)


def _report(folder: Path) -> BuildReport:
    dataset = open_dataset(folder)
    plan = dataset.description["plan"]
    return BuildReport(
        dataset, plan["planned"], dataset.description["failures"], dataset.description["drops"]
    )


class _named_full_disk:
    """Turns a full disk into an error that says so, and what to do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DatasetError(
                f"{printable(self.folder)}: the disk is full ({error.strerror}); what is done is "
                "kept: make room and run the same command"
            ) from error


__all__ = ["BuildReport", "build_dataset", "local_engine"]
