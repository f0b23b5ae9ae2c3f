"""`syllabary eval`: measure tokenizers and other codecs."""

import os
import shlex
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..cores import usable_cores
from ..errors import SyllabaryError
from ..filesystem import printable
from . import options
from .batch import clock_of

if TYPE_CHECKING:
    from ..eval.harness.run import Progress
    from ..eval.results.schema import Result

#: Seconds without a line after which a log gets one.
_BEAT = 60.0
#: Share of the work after which the remaining time is shown.
_TELLING = 0.02


@click.command("eval")
@click.option(
    "--codecs",
    required=True,
    metavar="LIST",
    help="Systems: tokenizers (NAME, NAME:CODEBOOKS or a directory), other codecs such as opus-6, "
    "a .json file that describes a program, or all, trained, presets, peers, references.",
)
@click.option(
    "--data",
    multiple=True,
    required=True,
    metavar="MANIFEST",
    help="A manifest, a folder or files; may be given again.",
)
@options.split
@click.option(
    "--metrics",
    default="default",
    show_default=True,
    metavar="LIST",
    help="Scores of each reconstruction: names, default, all or none.",
)
@click.option(
    "--studies",
    default="default",
    show_default=True,
    metavar="LIST",
    help="Measurements of a system as a whole: tokens, damage, cost, promises, …; or none.",
)
@click.option(
    "--probes",
    default="default",
    show_default=True,
    metavar="LIST",
    help="Tasks learned from tokens: names, .json files of your own, or none.",
)
@options.output("Folder of the results. Default: results.")
@click.option(
    "--asr",
    envvar="SYLLABARY_ASR",
    show_envvar=True,
    metavar="MODEL",
    help="Speech recogniser for dwer, wer, dcer and cer: a CTranslate2 or transformers "
    "folder, a size of Whisper such as base, or a hub id. Default: pocketsphinx.",
)
@click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", help="Evenly spaced N items only."
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="Seed of all random choices.",
)
@options.workers
@click.option("--retry", is_flag=True, help="Compute failed items again.")
@click.option("--fresh", is_flag=True, help="Delete the results in the folder first.")
@click.option(
    "--list",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=lambda context, parameter, wanted: _list(context) if wanted else None,
    help="Print the systems, metrics, studies and probes.",
)
def eval_command(
    codecs: str,
    data: tuple[str, ...],
    split: str | None,
    metrics: str,
    studies: str,
    probes: str,
    output: str | None,
    asr: str | None,
    limit: int | None,
    seed: int,
    workers: int | None,
    retry: bool,
    fresh: bool,
) -> None:
    """Measure tokenizers and other codecs on speech.

    Every system reconstructs every item once; the reconstructions are scored, and studies measure
    the system as a whole. Failures are counted and listed, never imputed. The same command resumes
    an interrupted run; other --codecs or --metrics are added to the results. The exit code is 1 if
    items could not be reconstructed or a study failed; a study for which the data have nothing,
    such as a probe of labels that no line has, is not applicable, which is no failure.

    `syllabary leaderboard` makes a web page of the results.
    """
    from ..eval.harness.run import describe, evaluate
    from ..eval.harness.work import Request
    from ..eval.metrics import words
    from ..eval.recognition import ASR, listening_with, open_recognizer
    from ..eval.studies import catalogue as study_catalogue
    from ..eval.systems import catalogue as system_catalogue

    folder = Path(output or "results")
    chosen, lacking = _installed(metrics)
    names = system_catalogue.names(codecs)
    request = Request(
        inputs=data,
        split=split,
        limit=limit,
        metrics=chosen,
        studies=tuple(study_catalogue.parse(studies, probes)),
        seed=seed,
        command=_command(click.get_current_context().params),
    )
    listener = os.environ.get(ASR, "") if asr is None else asr
    if listener and (words.NAMES & set(request.metrics) or "damage" in request.studies):
        open_recognizer(listener)  # a missing model would fail on every item
    plan = request.plan()
    found, reasons = describe(names, plan.studies)
    if fresh and folder.exists():
        _delete(folder)
    for name, reason in (*lacking.items(), *reasons.items()):
        click.echo(f"left out: {name}: {reason}", err=True)
    seconds = sum(item.duration_s or 0.0 for item in plan.data.items)
    length = f" ({seconds / 60:.1f} min)" if seconds else ""
    click.echo(
        f"{len(found)} systems, {len(plan.data.items)} items{length}, {len(plan.metrics)} metrics, "
        f"{len(plan.studies)} studies",
        err=True,
    )
    warnings: list[str] = []
    try:
        with _telling() as tell, listening_with(asr):
            written = evaluate(
                plan,
                request,
                found,
                folder,
                workers or usable_cores(),
                retry,
                tell,
                warnings.append,
            )
    except KeyboardInterrupt:
        click.echo("stopped; the same command goes on", err=True)
        sys.exit(130)
    for warning in warnings:
        click.echo(warning, err=True)
    failed = _print_results(written)
    click.echo(f"next: syllabary leaderboard {shlex.quote(printable(folder))} -o site")
    if failed:
        click.echo(f"{failed} items or studies failed; each result.json says why", err=True)
        sys.exit(1)


def _installed(text: str) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the metrics of a list whose packages are installed, and why others are left out.

    Raises:
        SyllabaryError: a metric was named whose package is not installed.
    """
    from ..eval.harness.plan import version_of
    from ..eval.metrics import catalogue
    from ..eval.requirements import MetricError

    found, lacking = [], {}
    named = {catalogue.ALIASES.get(part.strip(), part.strip()) for part in text.split(",")}
    for name in catalogue.parse(text):
        try:
            package = catalogue.find(name).package
        except MetricError as error:  # another package's, which is broken
            reason = str(error)
        else:
            if package is None or version_of(package) is not None:
                found.append(name)
                continue
            reason = f'no package {package}: pip install "syllabary[eval]"'
        if name in named:
            raise SyllabaryError(f"metric {name}: {reason}")
        lacking[f"metric {name}"] = reason
    return tuple(found), lacking


def _command(given: dict[str, Any]) -> str:
    """Return the command that repeats the evaluation, without options at their defaults."""
    words = ["syllabary", "eval", "--codecs", given["codecs"]]
    for path in given["data"]:
        words += ["--data", path]
    defaults = {"split": None, "metrics": "default", "studies": "default", "probes": "default"}
    for name, default in (defaults | {"asr": None, "limit": None, "seed": 0}).items():
        value = None if given[name] == "" else given[name]
        if value != default:
            words += [f"--{name}", str(value)]
    return shlex.join(words)


def _delete(folder: Path) -> None:
    """Delete an evaluation's results, and nothing else.

    Raises:
        SyllabaryError: the folder contains other files.
    """
    from ..eval.harness.run import RESULT_PARTS, SYSTEM_NAME, is_results

    if not is_results(folder):
        raise SyllabaryError(f"{folder} holds no results of an evaluation; nothing was deleted")
    for path in folder.iterdir():
        if path.is_dir() and (path.name in RESULT_PARTS or (path / SYSTEM_NAME).exists()):
            shutil.rmtree(path)
        elif path.name in RESULT_PARTS:
            path.unlink()


@contextmanager
def _telling() -> Iterator[Callable[["Progress"], None]]:
    """Report progress by a bar on a terminal, and by a line now and then elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn
    from rich.progress import Progress as Bar

    start = time.perf_counter()
    live = sys.stderr.isatty()
    shown = start
    last = "starting"
    columns = (BarColumn(None), TaskProgressColumn(), TextColumn("{task.description}"))
    bar = Bar(*columns, console=Console(stderr=True), transient=True, disable=not live)

    def tell(progress: "Progress") -> None:
        nonlocal shown, last
        now = time.perf_counter()
        if not progress.total:
            return
        left = (now - start) * (progress.total - progress.done) / max(progress.done, 1e-9)
        what = f"{progress.system} {progress.what}" if progress.system else "starting"
        # The first results are slow, because of compilation and of work shared by all systems.
        clock = f"{clock_of(left)} left  " if progress.done > _TELLING * progress.total else ""
        failures = f"  {progress.failures} failed" if progress.failures else ""
        missing = f"  {progress.missing} scores missing" if progress.missing else ""
        text = f"{clock}{what}{failures}{missing}"
        last = f"{100 * progress.done / progress.total:3.0f} %  {text}"
        bar.update(task, completed=progress.done, total=progress.total, description=text)
        if not live and (now - shown >= 30 or progress.done == progress.total):
            shown = now
            click.echo(last, err=True)

    ended = threading.Event()

    def beat() -> None:
        """Say in a log now and then that it still runs, though nothing was finished."""
        nonlocal shown
        while not ended.wait(_BEAT / 4):
            now = time.perf_counter()
            if now - shown >= _BEAT:
                shown = now
                click.echo(f"{last}  (running for {clock_of(now - start)})", err=True)

    with bar:
        task = bar.add_task("", total=None)
        if not live:
            threading.Thread(target=beat, daemon=True).start()
        try:
            yield tell
        finally:
            ended.set()


def _print_results(paths: list[Path]) -> int:
    """Print a line for each system, with the most common metrics.

    Returns:
        The number of failed reconstructions and studies, not counting metrics for which a clip is
            too short.
    """
    from rich.console import Console
    from rich.table import Table

    from ..eval.results.files import read_result
    from ..eval.results.schema import EVERYWHERE

    results = [read_result(path) for path in paths]
    shown = results[0].metrics[:5] if results else ()
    table = Table(box=None, header_style="bold")
    table.add_column("system", no_wrap=True)
    for heading in ("kbit/s", *(metric.heading for metric in shown), "no score"):
        table.add_column(heading, justify="right", no_wrap=True)
    total = 0
    for result in results:
        of = {metric.name: metric for metric in result.metrics}
        cells = []
        for name in (metric.name for metric in shown):
            value = of[name].domains[EVERYWHERE].value if name in of else None
            cells.append("–" if value is None else f"{value:.{of[name].digits}f}")
        errors = sum(item.error is not None for item in result.items)
        errors += sum(study.error is not None for study in result.studies)
        total += errors
        failed = errors + sum(len(item.failures) for item in result.items)
        rate = "–" if result.bitrate is None else f"{result.bitrate / 1000:.3g}"
        table.add_row(result.system.name, rate, *cells, str(failed))
    Console().print(table)
    for study, why in _not_applicable(results).items():
        click.echo(f"not applicable: {study}: {why}", err=True)
    return total


def _not_applicable(results: "list[Result]") -> dict[str, str]:
    """Return studies that no system has for want of data, with the reason."""
    reasons: dict[str, set[str]] = {}
    for result in results:
        for study in result.studies:
            reasons.setdefault(study.name, set()).add(study.unsuitable or "")
    return {name: min(why) for name, why in reasons.items() if "" not in why and len(why) == 1}


def _list(context: click.Context) -> None:
    """Print the values that --codecs, --metrics, --studies and --probes accept, and exit."""
    from rich.console import Console
    from rich.table import Table

    from ..eval.metrics import catalogue as metric_catalogue
    from ..eval.probes import catalogue as probe_catalogue
    from ..eval.studies import catalogue as study_catalogue
    from ..eval.systems import catalogue as system_catalogue

    console = Console()
    console.print("systems", style="bold")
    console.print(", ".join(system_catalogue.names("all")))
    found = [("metric", row.name, row.description) for row in metric_catalogue.describe()]
    for catalogue in (study_catalogue.STUDIES, probe_catalogue.PROBES):
        for name in catalogue.names():
            try:
                description = catalogue.find(name).description
            except SyllabaryError as error:  # of another package
                description = str(error)
            found.append((catalogue.what, name, description))
    table = Table(box=None, header_style="bold")
    for heading in ("kind", "name", "what it is"):
        table.add_column(heading, no_wrap=heading != "what it is")
    for row in found:
        table.add_row(*row)
    console.print(table)
    context.exit()
