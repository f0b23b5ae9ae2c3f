"""Process many files on worker threads, with resuming and a record of failures."""

import json
import os
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from threading import Event
from typing import Any, Literal

from ..audio.files import SUFFIXES, read_comment
from ..audio.manifests import Utterance
from ..audio.resampling import resampler_name
from ..codecs.container import SylReader
from ..codecs.container.layout import MAGIC
from ..errors import ContainerError, SyllabaryError
from ..filesystem import content_digest, is_free, printable, remove_leftovers
from .one_file import FileReport, described, source_digest

ERRORS_NAME = "errors.jsonl"
# How the comment of a decoded file begins.
_DECODED = "decoded by syllabary:"
#: Paths that stand for standard input and output. They are compared, and not opened.
STANDARD_INPUT, STANDARD_OUTPUT = Path("/dev/stdin"), Path("/dev/stdout")


@dataclass(frozen=True)
class Job:
    """An input and the path of its output."""

    source: Utterance
    target: Path

    @property
    def piped(self) -> bool:
        """Whether the output goes to standard output."""
        return self.target == STANDARD_OUTPUT


@dataclass(frozen=True)
class Outcome:
    """Result of a job: `done` with a report, `skipped` (complete before), or `failed`."""

    job: Job
    status: Literal["done", "skipped", "failed"]
    report: FileReport | None = None
    error: str | None = None
    trace: str | None = None


def plan(items: Sequence[Utterance], folder: Path, suffix: str) -> list[Job]:
    """Create one job per item, recreating the items' folder tree under `folder`.

    Of several inputs with the same output, the first keeps it; the others get jobs that fail and
    name the first, so that one clash does not stop a corpus.
    """
    jobs: dict[PurePosixPath, Job] = {}
    failing = []
    for item in items:
        if item.unreadable is not None:  # a folder; outputs for its contents would be below this
            failing.append(Job(item, folder / item.name))
            continue
        # Strip only suffixes of audio and token files: u.1 and u.2 are different names.
        known = item.name.suffix.lower() in SUFFIXES | {".syl"}
        name = item.name.with_name((item.name.stem if known else item.name.name) + suffix)
        if name in jobs:
            reason = (
                f"{printable(item.path)}: would become {printable(folder / name)}, like "
                f"{printable(jobs[name].source.path)}; encode it in a run of its own with another "
                "output folder"
            )
            failing.append(Job(replace(item, unreadable=reason), folder / name))
            continue
        jobs[name] = Job(item, folder / name)
    return [*jobs.values(), *failing]


def refuse_overwriting(jobs: Sequence[Job], resumable: bool = True) -> None:
    """Raise unless every target is new, or a FIFO or device that can be written to."""
    taken = [
        job.target
        for job in jobs
        if not job.piped and job.source.unreadable is None and not is_free(job.target)
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
    """Whether `path` already holds the complete tokens that encoding `source` would give.

    The source's contents are compared by SHA-256, since it may have been replaced by another file
    of the same name and size.

    Args:
        path: a `.syl` file; it may not exist yet.
        source: the audio.
        expected: required metadata: the source's name, and the options.
        digest, num_codebooks: of the tokenizer and its tokens.

    Raises:
        SyllabaryError: it holds tokens of another tokenizer, other options, or a source of
            another name; the message names the difference. Or it is no file of tokens.
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
            if reader.metadata.get("utterance", {}) != described(source):
                return False
            return reader.is_whole() and of.get("sha256") == source_digest(source)
    except ContainerError:
        with path.open("rb") as file:
            if not MAGIC.startswith(file.read(len(MAGIC))):
                raise SyllabaryError(
                    f"{printable(path)} exists and is no .syl file; use --force to overwrite it"
                ) from None
        return False


def decoding_comment(source: Path, decoder: str, clipping: str, conceal: bool = False) -> str:
    """Return the comment that identifies a decoded file's source, for `is_whole_decoding`.

    Args:
        source: a `.syl` file.
        decoder: digest of the tokenizer with its decoder, of which the tokens do not depend.
        clipping: see `AudioWriter`.
        conceal: whether lost frames were to be concealed.

    Raises:
        OSError: the tokens can't be read.
    """
    concealing = ", concealing" if conceal else ""
    return (
        f"{_DECODED} tokens {content_digest(source)}, decoder {decoder[:12]}, "
        f"clipping {clipping}{concealing}"
    )


def is_whole_decoding(
    path: Path, source: Utterance, decoder: str, clipping: str, conceal: bool = False
) -> bool:
    """Whether `path` already holds the complete audio that decoding `source` would give.

    Args:
        path: an audio file (always written whole); it may not exist yet.
        source: a `.syl` file.
        decoder, clipping, conceal: see `decoding_comment`.

    Raises:
        SyllabaryError: it was made by another decoder or with other options, or does not name its
            source.
    """
    if not path.is_file() or source.stream:
        return False
    held, wanted = read_comment(path), decoding_comment(source.path, decoder, clipping, conceal)
    # Decoder and options follow the digest of the tokens.
    settings, own = held.partition(", ")[2], wanted.partition(", ")[2]
    if not held.startswith(_DECODED):
        what = "by another program"
    elif settings == own:
        return held == wanted
    elif settings.partition(", ")[2] == own.partition(", ")[2]:
        what = "made by another decoder"
    else:
        what = "made with another --clipping or --conceal"
    raise SyllabaryError(f"{printable(path)} exists, {what}; use --force to overwrite it")


def run(
    jobs: Sequence[Job],
    work: Callable[[Job, Event], FileReport],
    *,
    workers: int,
    errors: Path | None = None,
    is_whole: Callable[[Job], bool] | None = None,
) -> Iterator[Outcome]:
    """Run the jobs on `workers` threads and yield each outcome when it is there.

    Args:
        jobs: to run.
        work: runs one job, and stops early once the event is set; an exception becomes a `failed`
            outcome, and the other jobs go on.
        workers: number of threads. Decoding audio and tensor operations release the GIL.
        errors: file that gets a JSON line for each failure at once; removed if there is none.
        is_whole: whether a job's output is complete and can be kept; given when resuming.
    """
    if is_whole is not None:
        remove_leftovers(job.target for job in jobs if not job.piped)
    stop = Event()

    def attempt(job: Job) -> Outcome:
        try:
            job.source.check_file()
            if job.piped:
                return Outcome(job, "done", work(job, stop))
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
            # The error may name the temporary file.
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
            # A bounded queue, so that a million jobs do not become a million futures.
            if len(waiting) >= 4 * workers:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    finally:
        # Don't wait here: on exit, `run` first tells the running jobs to stop.
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
