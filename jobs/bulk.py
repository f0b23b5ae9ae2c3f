"""Many files: workers, resuming, and a record of what failed while the rest goes on."""

import json
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from ..audio.manifests import Utterance
from ..codecs.container import SylReader
from ..errors import ContainerError, SyllabaryError
from ..filesystem import remove_leftovers
from .files import FileReport

ERRORS_NAME = "errors.jsonl"


@dataclass(frozen=True)
class Job:
    """One input and where its output goes."""

    source: Utterance
    target: Path


@dataclass(frozen=True)
class Outcome:
    """What became of a job: `done` with a report, `skipped` (whole already), or `failed`."""

    job: Job
    status: Literal["done", "skipped", "failed"]
    report: FileReport | None = None
    error: str | None = None
    trace: str | None = None


def plan(items: Sequence[Utterance], folder: Path, suffix: str) -> list[Job]:
    """One job an item, with the items' tree recreated under `folder`.

    Raises:
        SyllabaryError: two inputs would have the same output.
    """
    jobs: dict[PurePosixPath, Job] = {}
    for item in items:
        name = item.name.with_suffix(suffix)
        if name in jobs:
            raise SyllabaryError(
                f"{jobs[name].source.path} and {item.path} would both become {folder / name}; "
                "convert them in separate runs with separate output folders"
            )
        jobs[name] = Job(item, folder / name)
    return list(jobs.values())


def refuse_overwriting(jobs: Sequence[Job], resumable: bool = True) -> None:
    """Raise unless every target is free."""
    taken = [job.target for job in jobs if job.target.exists()]
    if taken:
        more = f" and {len(taken) - 1} more" if len(taken) > 1 else ""
        resume = "--resume to keep what is whole, or " if resumable else ""
        raise SyllabaryError(f"{taken[0]}{more} exists already; use {resume}--force to overwrite")


def whole_tokens(path: Path, digest: str, name: str, num_codebooks: int) -> bool:
    """Whether `path` holds all of the tokens of the source `name` by the tokenizer of that digest.

    Raises:
        SyllabaryError: it holds those of another tokenizer, source or number of codebooks.
    """
    if not path.exists():
        return False
    try:
        with path.open("rb") as file:
            reader = SylReader(file, str(path))
            held = (
                reader.spec.digest,
                reader.metadata.get("source", {}).get("name"),
                reader.num_codebooks,
            )
            if held != (digest, name, num_codebooks):
                raise SyllabaryError(
                    f"{path} exists and holds {held[2]} codebooks of {held[1]} by "
                    f"{reader.spec.tokenizer} ({held[0][:12]}); use --force to overwrite it"
                )
            return reader.is_whole()
    except ContainerError:
        return False


def run(
    jobs: Sequence[Job],
    work: Callable[[Job], FileReport],
    *,
    workers: int,
    errors: Path | None = None,
    is_whole: Callable[[Job], bool] | None = None,
) -> Iterator[Outcome]:
    """Run the jobs on `workers` threads and give each outcome as it comes.

    Args:
        jobs: what to do.
        work: does one job; what it raises becomes a `failed` outcome, and the rest goes on.
        workers: threads. Decoding audio and tensor work release Python's lock.
        errors: file for a JSON line per failure, written as they come; removed if there is none.
        is_whole: says whether a job's output can be kept; given to resume.
    """
    if is_whole is not None:
        for folder in {job.target.parent for job in jobs}:
            if folder.exists():
                remove_leftovers(folder)

    def attempt(job: Job) -> Outcome:
        try:
            if is_whole is not None and is_whole(job):
                return Outcome(job, "skipped")
            job.target.parent.mkdir(parents=True, exist_ok=True)
            return Outcome(job, "done", work(job))
        except (SyllabaryError, OSError) as error:
            return Outcome(job, "failed", error=str(error))
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            return Outcome(job, "failed", error=reason, trace=traceback.format_exc())

    if errors is not None:
        errors.unlink(missing_ok=True)
    for outcome in _in_threads(jobs, attempt, workers):
        if outcome.status == "failed" and errors is not None:
            _record(errors, outcome)
        yield outcome


def _in_threads(
    jobs: Sequence[Job], attempt: Callable[[Job], Outcome], workers: int
) -> Iterator[Outcome]:
    if workers == 1:
        yield from map(attempt, jobs)
        return
    pool = ThreadPoolExecutor(workers)
    waiting: set[Future[Outcome]] = set()
    try:
        for job in jobs:
            waiting.add(pool.submit(attempt, job))
            # A bounded queue: a million jobs are not a million futures.
            if len(waiting) >= 4 * workers:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    finally:
        pool.shutdown(cancel_futures=True)


def _record(errors: Path, outcome: Outcome) -> None:
    line = {
        "input": str(outcome.job.source.path),
        "output": str(outcome.job.target),
        "error": outcome.error,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    if outcome.trace:
        line["traceback"] = outcome.trace
    errors.parent.mkdir(parents=True, exist_ok=True)
    with errors.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")
