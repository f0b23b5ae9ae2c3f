"""Shared by `encode` and `decode`: output paths, progress, the summary and the exit code."""

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import click

from ..audio.manifests import LIST_SUFFIX, Utterance
from ..cores import usable_cores, use_one_thread
from ..errors import SyllabaryError
from ..filesystem import printable

if TYPE_CHECKING:
    from ..jobs.bulk import Job, Outcome
    from ..jobs.one_file import FileReport

SHOWN_FAILURES = 5
_STANDARD_OUTPUT = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


def place(
    items: Sequence[Utterance],
    inputs: Sequence[str],
    output: str | None,
    suffix: str,
    beside: str,
) -> tuple[list["Job"], Path | None]:
    """Plan the jobs; the second result is the output folder, None for a single file or a pipe.

    Args:
        items: what the inputs named.
        inputs: as the user gave them.
        output: as the user gave it.
        suffix: of outputs in a folder.
        beside: suffix of the output beside a single input, where no output was given.
    """
    from ..jobs.bulk import STANDARD_OUTPUT, Job, plan

    if "-" in inputs and len(inputs) > 1:
        raise SyllabaryError("`-` can't be mixed with other inputs")
    if output in _STANDARD_OUTPUT:  # messages go there too, and would overwrite the output
        output = "-"
    if output == "-" or (output is None and "-" in inputs):
        if len(items) > 1:
            raise SyllabaryError(f"standard output holds one file; {len(items)} inputs were given")
        return [Job(items[0], STANDARD_OUTPUT)], None
    single = "-" in inputs or (len(inputs) == 1 and _is_one(Path(inputs[0])))
    into_folder = output is not None and (Path(output).is_dir() or output.endswith(os.sep))
    if "-" in inputs and into_folder:
        raise SyllabaryError(f"{output} is a folder; what comes from `-` needs a name: say -o FILE")
    if single and not into_folder:
        source = items[0].path
        if output is None and (items[0].stream or Path("/dev") in source.absolute().parents):
            raise SyllabaryError(f"{source}: there is no place beside it: say -o FILE")
        return [Job(items[0], Path(output) if output else source.with_suffix(beside))], None
    if output is None:
        raise SyllabaryError("several inputs need a folder for the outputs: say -o FOLDER")
    if Path(output).exists() and not Path(output).is_dir():
        raise SyllabaryError(f"{output} is a file; several inputs need a folder: say -o FOLDER")
    return plan(items, Path(output), suffix), None if single else Path(output)


def _is_one(path: Path) -> bool:
    """Whether an input is a single recording: a file, or a pipe from a shell's `<(…)`."""
    return path.exists() and not path.is_dir() and path.suffix not in (".jsonl", LIST_SUFFIX)


def choose_workers(wanted: int | None, jobs: int, device: str) -> int:
    """Return the number of files to process at a time; each gets one thread."""
    use_one_thread()
    return min(wanted or (usable_cores() if device == "cpu" else 2), jobs)


def resuming(is_whole: "Callable[[Job], bool]", force: bool) -> "Callable[[Job], bool]":
    """Return `is_whole` for ``--resume``; with ``--force``, what was made otherwise is not whole
    instead of an error.
    """

    def kept(job: "Job") -> bool:
        try:
            return is_whole(job)
        except SyllabaryError:
            if force:
                return False
            raise

    return kept


def execute(
    jobs: Sequence["Job"],
    work: Callable[["Job", Event], "FileReport"],
    *,
    verb: str,
    folder: Path | None,
    workers: int,
    as_json: bool,
    is_whole: Callable[["Job"], bool] | None = None,
    finished: Callable[[Sequence["Outcome"]], None] | None = None,
) -> bool:
    """Run the jobs, show progress, and print a summary.

    Args:
        jobs, work, is_whole: see `jobs.bulk.run`.
        verb: what is done, in the past tense.
        folder: of the outputs; None for a single file or a pipe.
        workers: number of threads.
        as_json: print JSON lines.
        finished: called with all outcomes, before the summary; when the run is stopped, with those
            that are there.

    Returns:
        Whether every file was done, and done wholly.
    """
    from ..jobs.bulk import ERRORS_NAME, run
    from ..jobs.library_noise import as_note, caught_noise

    # If the tokens or the audio go to standard output, messages go to standard error.
    piped = jobs[0].piped
    errors = folder / ERRORS_NAME if folder else None
    start = time.perf_counter()
    counts: Counter[str] = Counter()
    notes: Counter[str] = Counter()
    outcomes: list[Outcome] = []
    failures: list[Outcome] = []
    partial = 0
    totals = {"seconds": 0.0, "frames": 0, "bytes": 0}
    savings = []
    report = None
    shown = folder is not None and not as_json
    with (
        ExitStack() as at_end,
        caught_noise() as noise,
        _progress(len(jobs), shown=shown) as advance,
    ):
        if finished is not None:
            at_end.callback(finished, outcomes)
        for outcome in run(jobs, work, workers=workers, errors=errors, is_whole=is_whole):
            counts[outcome.status] += 1
            if finished is not None:
                outcomes.append(outcome)
            report = outcome.report
            said = as_note(noise())
            if said and report:
                report.notes.append(said)
            elif said:
                click.echo(f"{_name(outcome.job)}: {said}", err=True)
            if report:
                totals["seconds"] += report.seconds
                totals["frames"] += report.frames
                totals["bytes"] += report.size
                notes.update(report.notes)
                partial += report.partial
                if report.lost and not as_json:
                    click.echo(f"{_name(outcome.job)}: {report.lost}", err=True)
                if report.saving is not None:
                    savings.append(report.saving)
            elif outcome.status == "failed":
                failures.append(outcome)
            if as_json:
                click.echo(json.dumps(_as_json(outcome), ensure_ascii=False), err=piped)
            advance(totals["seconds"])
    elapsed = time.perf_counter() - start
    if folder is None and failures:
        raise SyllabaryError(failures[0].error)
    if as_json:
        summary = dict(counts) | totals | {"elapsed_s": round(elapsed, 3)}
        click.echo(json.dumps({"summary": summary}), err=piped)
    elif piped:
        pass
    elif folder is None and report:
        job = jobs[0]
        kbps = f", {report.kbps:.2f} kbit/s" if verb == "encoded" else ""
        click.echo(
            f"{_name(job)} → {printable(job.target)}: {report.seconds:.2f} s, "
            f"{report.frames} frames × {report.codebooks}, {size(report.size)}{kbps}"
        )
    elif counts["done"] or failures:
        click.echo(
            f"{verb} {counts['done']} of {len(jobs)} files: {hours(totals['seconds'])}, "
            f"{size(totals['bytes'])}, in {elapsed:.1f} s "
            f"({totals['seconds'] / max(elapsed, 1e-9):.0f} × real time)"
        )
    if not as_json:
        if counts["skipped"]:
            click.echo(f"{counts['skipped']} of {len(jobs)} were whole already and kept", err=piped)
        for note, count in sorted(notes.items()):
            click.echo(f"{count} × {note}" if folder else note, err=piped)
        if savings:
            share = sum(savings) / len(savings)
            click.echo(f"entropy coding saved {share:.1%} of the codes' bytes", err=piped)
    if failures:
        for outcome in failures[:SHOWN_FAILURES]:
            click.echo(f"failed: {outcome.error}", err=True)
        click.echo(f"{len(failures)} of {len(jobs)} failed; reasons in {errors}", err=True)
    return not failures and not partial


def _name(job: "Job") -> str:
    """Return the input's name as the user gave it."""
    return "-" if str(job.source.name) == "-" else printable(job.source.path)


def _as_json(outcome: "Outcome") -> dict[str, Any]:
    line: dict[str, Any] = {
        "input": _name(outcome.job),
        "output": "-" if outcome.job.piped else printable(outcome.job.target),
        "status": outcome.status,
    }
    if outcome.report:
        report = outcome.report
        line |= {
            "seconds": report.seconds,
            "frames": report.frames,
            "codebooks": report.codebooks,
            "bytes": report.size,
            "elapsed_s": round(report.elapsed, 4),
            "notes": report.notes,
            "partial": report.partial,
        }
        if report.lost is not None:
            line["lost"] = report.lost.to_json()
        if report.saving is not None:
            line["saving"] = round(report.saving, 4)
    if outcome.error:
        line["error"] = outcome.error
    return line


class _progress:
    """A progress bar on stderr with speed and time left, if stderr is a terminal."""

    def __init__(self, total: int, shown: bool) -> None:
        self.total, self.shown = total, shown and sys.stderr.isatty()

    def __enter__(self) -> Callable[[float], None]:
        if not self.shown:
            return lambda seconds: None
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        self.bar = Progress(
            BarColumn(None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=Console(stderr=True),
            transient=True,
        )
        self.bar.start()
        task = self.bar.add_task("", total=self.total, speed="")
        start = time.perf_counter()

        def advance(seconds: float) -> None:
            speed = seconds / max(time.perf_counter() - start, 1e-9)
            self.bar.update(task, advance=1, speed=f"{speed:.0f} × real time")

        return advance

    def __exit__(self, *failure: object) -> None:
        if self.shown:
            self.bar.stop()


def size(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def hours(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s of audio"
    if seconds < 7200:
        return f"{seconds / 60:.1f} min of audio"
    return f"{seconds / 3600:.1f} h of audio"


def clock_of(seconds: float) -> str:
    """Format seconds as H:MM:SS or M:SS."""
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}"
