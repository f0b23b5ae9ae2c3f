"""Many files: workers, resuming, and a record of what failed while the rest goes on."""

import json
import os
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from threading import Event
from typing import Any, Literal

from ..audio.files import SUFFIXES, read_comment
from ..audio.manifests import Utterance
from ..audio.resampling import resampler_name
from ..codecs.container import SylReader
from ..errors import ContainerError, SyllabaryError
from ..filesystem import content_digest, is_free, printable, remove_leftovers
from .one_file import FileReport

ERRORS_NAME = "errors.jsonl"
#: In a path's place: standard input or output.
STANDARD_STREAM = Path("-")


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
    failing = []
    for item in items:
        if item.unreadable is not None:  # a folder: what is in it would have outputs below this
            failing.append(Job(item, folder / item.name))
            continue
        # Only what is a suffix of audio or tokens goes: u.1 and u.2 are two names.
        known = item.name.suffix.lower() in SUFFIXES | {".syl"}
        name = item.name.with_name((item.name.stem if known else item.name.name) + suffix)
        if name in jobs:
            raise SyllabaryError(
                f"{jobs[name].source.path} and {item.path} would both become {folder / name}; "
                "convert them in separate runs with separate output folders"
            )
        jobs[name] = Job(item, folder / name)
    return [*jobs.values(), *failing]


def refuse_overwriting(jobs: Sequence[Job], resumable: bool = True) -> None:
    """Raise unless every target is free: not there, or a FIFO or device that takes a stream."""
    taken = [
        job.target
        for job in jobs
        if job.target != STANDARD_STREAM
        and job.source.unreadable is None
        and not is_free(job.target)
    ]
    if taken:
        exist = f" and {len(taken) - 1} more exist" if len(taken) > 1 else " exists"
        resume = "--resume to keep what is whole, or " if resumable else ""
        raise SyllabaryError(
            f"{printable(taken[0])}{exist} already; use {resume}--force to overwrite"
        )


def is_whole_encoding(
    path: Path, source: Utterance, expected: dict[str, Any], digest: str, num_codebooks: int
) -> bool:
    """Whether `path` holds all of the tokens that encoding `source` would give now.

    The source's contents are compared, by their SHA-256: a source may have been replaced by
    another of the same name and size.

    Args:
        path: a `.syl` file, or nothing yet.
        source: the audio.
        expected: what its metadata must hold: the source's name, and the options.
        digest, num_codebooks: of the tokenizer and its tokens.

    Raises:
        SyllabaryError: it holds the tokens of another tokenizer or options, or of a source of
            another name; the message names the difference.
    """
    if not path.is_file() or source.stream:
        return False
    try:
        with path.open("rb") as file:
            reader = SylReader(file, printable(path))
            of = reader.metadata.get("source", {})
            segment = source.segment()
            now = {"bytes": source.path.stat().st_size, "segment": segment and list(segment)}
            resampler = reader.metadata.get("resampler", resampler_name())
            for what, held, wanted in (
                ("tokenizer", reader.spec.digest[:12], digest[:12]),
                ("number of codebooks", reader.num_codebooks, num_codebooks),
                ("source", of.get("name"), expected["name"]),
                *(
                    (f"--{option}", reader.metadata.get("options", {}).get(option), value)
                    for option, value in expected["options"].items()
                ),
                ("resampler", resampler, resampler_name()),
            ):
                if held != wanted:
                    raise SyllabaryError(
                        f"{printable(path)} exists, made with {what} {held}, which is now "
                        f"{wanted}; use --force to overwrite it"
                    )
            if any(of.get(name) != value for name, value in now.items()):
                return False
            return reader.is_whole() and of.get("sha256") == content_digest(source.path)
    except ContainerError:
        return False


def decoding_comment(source: Path, clipping: str) -> str:
    """What a decoded file says of itself, for `is_whole_decoding`.

    Raises:
        OSError: the tokens can't be read.
    """
    return f"decoded by syllabary: tokens {content_digest(source)}, clipping {clipping}"


def is_whole_decoding(path: Path, source: Utterance, clipping: str) -> bool:
    """Whether `path` holds what decoding the tokens of `source` would give now.

    Args:
        path: an audio file (one that exists was written whole), or nothing yet.
        source: a `.syl` file.
        clipping: see `AudioWriter`.

    Raises:
        SyllabaryError: it was made with another `clipping`, or does not say what it was made of.
    """
    if not path.is_file() or source.stream:
        return False
    held, wanted = read_comment(path), decoding_comment(source.path, clipping)
    mark, ending = wanted.partition(" tokens ")[0], f", clipping {clipping}"
    if not held.startswith(mark) or not held.endswith(ending):
        what = "made with another --clipping" if held.startswith(mark) else "by another program"
        raise SyllabaryError(f"{printable(path)} exists, {what}; use --force to overwrite it")
    return held == wanted


def run(
    jobs: Sequence[Job],
    work: Callable[[Job, Event], FileReport],
    *,
    workers: int,
    errors: Path | None = None,
    is_whole: Callable[[Job], bool] | None = None,
) -> Iterator[Outcome]:
    """Run the jobs on `workers` threads and give each outcome as it comes.

    Args:
        jobs: what to do.
        work: does one job, and gives up once the event is set; what it raises becomes a `failed`
            outcome, and the rest goes on.
        workers: threads. Decoding audio and tensor work release Python's lock.
        errors: file for a JSON line per failure, written as they come; removed if there is none.
        is_whole: says whether a job's output can be kept; given to resume.
    """
    if is_whole is not None:
        remove_leftovers(job.target for job in jobs)
    stop = Event()

    def attempt(job: Job) -> Outcome:
        try:
            job.source.check_file()
            if is_whole is not None and is_whole(job):
                return Outcome(job, "skipped")
            if _same_file(job.target, job.source.path):
                raise SyllabaryError(f"{printable(job.target)} is the input itself")
            anew = is_whole is not None and job.target.is_file()
            job.target.parent.mkdir(parents=True, exist_ok=True)
            report = work(job, stop)
            if anew:
                report.notes.append("its output was cut short, or of another source: made anew")
            return Outcome(job, "done", report)
        except BrokenPipeError:
            raise
        except OSError as error:
            # The name in the error may be that of the temporary file.
            of_source = error.filename is not None and _is_path(error.filename, job.source.path)
            path = job.source.path if of_source else job.target
            reason = f"{printable(path)}: {error.strerror or error}"
            return Outcome(job, "failed", error=reason)
        except SyllabaryError as error:
            return Outcome(job, "failed", error=printable(str(error)))
        except Exception as error:
            reason = printable(f"{type(error).__name__}: {error}")
            return Outcome(job, "failed", error=reason, trace=traceback.format_exc())

    if errors is not None:
        errors.unlink(missing_ok=True)
    try:
        for outcome in _in_threads(jobs, attempt, workers):
            if outcome.status == "failed" and errors is not None:
                _record(errors, outcome)
            yield outcome
    finally:
        stop.set()


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
        # Not waited for here: on the way out, `run` first tells the running jobs to stop.
        pool.shutdown(wait=False, cancel_futures=True)


def _is_path(name: Any, path: Path) -> bool:
    return isinstance(name, str | bytes) and Path(os.fsdecode(name)) == path


def _same_file(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)


def _record(errors: Path, outcome: Outcome) -> None:
    line = {
        "input": printable(outcome.job.source.path),
        "output": printable(outcome.job.target),
        "error": outcome.error,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    if outcome.trace:
        line["traceback"] = outcome.trace
    errors.parent.mkdir(parents=True, exist_ok=True)
    with errors.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")
