"""`syllabary roundtrip`: encode, decode and score."""

import json
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from ..cores import use_one_thread
from ..errors import SyllabaryError
from ..filesystem import printable
from . import options

if TYPE_CHECKING:
    from rich.console import Console

    from ..eval.metrics.interface import Metric
    from ..eval.round_trip import RoundTrip


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="IN...")
@options.output("Folder for the .syl and .wav files. Default: scores only.")
@options.codec
@click.option("--codebooks", type=click.IntRange(min=1), metavar="N", help="Keep the first N.")
@click.option(
    "--scores",
    default="pesq,stoi",
    show_default=True,
    metavar="LIST",
    help="Metric names, separated by commas; or default, or all.",
)
@options.split
@options.channels
@options.compress
@options.force
@options.device
@options.as_json
def roundtrip(
    inputs: tuple[str, ...],
    output: str | None,
    codec: str,
    codebooks: int | None,
    scores: str,
    split: str | None,
    channels: Literal["mix", "first", "mono"] | int,
    compress: bool,
    force: bool,
    device: str,
    as_json: bool,
) -> None:
    """Encode and decode speech, and score the reconstruction.

    IN is as for `encode`. A score that can't be computed is left out, with the reason, and means
    are over the other files.

    Scores: pesq-wb (or pesq), pesq-nb, stoi, estoi, si-sdr; distances mel, msmel, stft, mcd; pitch
    f0-corr, voicing, gpe; artefacts buzz, haze, tilt, middle, contrast, own-contrast; speaker,
    wavlm-sv; without a reference dnsmos, dnsmos-sig, dnsmos-bak, plcmos; words of a recogniser
    dwer, dcer, and against a manifest's text wer, cer; lag.
    """
    from ..audio.manifests import collect
    from ..codecs.batches import check_codebooks
    from ..codecs.registry import load
    from ..eval.metrics.catalogue import parse
    from ..eval.round_trip import round_trip
    from ..jobs.bulk import plan, refuse_overwriting

    chosen = parse(scores)
    scratch = None
    if output is None:
        scratch = tempfile.TemporaryDirectory(prefix="syllabary-")
        output = scratch.name
    jobs = plan(collect(inputs, split), Path(output), "")
    if not force:
        for suffix in (".syl", ".wav"):
            outputs = plan([job.source for job in jobs], Path(output), suffix)
            refuse_overwriting(outputs, resumable=False)
    use_one_thread()
    tokenizer = load(codec, device=device)
    check_codebooks(codebooks, tokenizer.spec)
    results = []
    failed = 0
    for job in jobs:
        try:
            result = round_trip(
                tokenizer,
                job.source,
                job.target,
                name=printable(job.source.name),
                channels=channels,
                compress=compress,
                num_codebooks=codebooks,
                scores=chosen,
                text=job.source.text,
                language=job.source.language,
            )
        except (SyllabaryError, OSError) as error:
            if len(jobs) == 1:
                raise
            failed += 1
            if as_json:
                line = {"source": printable(job.source.path), "error": str(error)}
                click.echo(json.dumps(line, ensure_ascii=False))
            click.echo(f"failed: {error}", err=True)
            continue
        finally:
            if scratch:  # it would grow by the whole corpus
                for suffix in (".syl", ".wav"):
                    job.target.with_name(job.target.name + suffix).unlink(missing_ok=True)
        results.append(result)
        if as_json:
            click.echo(json.dumps(_as_json(result), ensure_ascii=False))
    if not as_json and results:
        print_table(results, str(tokenizer.name))
    if scratch:
        scratch.cleanup()
    if failed:
        click.echo(f"{failed} of {len(jobs)} failed", err=True)
        raise SystemExit(1)


def _as_json(result: "RoundTrip") -> dict[str, Any]:
    from ..eval.metrics.scoring import value

    fields = {name: printable(getattr(result, name)) for name in ("source", "tokens", "decoded")}
    return fields | {
        "seconds": result.encoding.seconds,
        "frames": result.encoding.frames,
        "codebooks": result.encoding.codebooks,
        "kbps": result.encoding.kbps,
        "encode_x_real_time": result.encoding.seconds / result.encoding.elapsed,
        "decode_x_real_time": result.encoding.seconds / result.decoding.elapsed,
        "scores": {name: value(score) for name, score in result.scores.items()},
        "missing": result.missing,
    }


def print_table(results: "list[RoundTrip]", codec: str) -> None:
    """Print one line per file, and the means; a narrow terminal shows the scores rather than the
    speeds.

    Scores that don't fit as columns follow below, a line each.
    """
    from rich.console import Console
    from rich.table import Table

    from ..eval.metrics.scoring import mean

    metrics = _metrics(results[0])
    console = Console()
    # The columns that are always shown, each with 2 of padding: the file's name, its bitrate, and
    # the scores.
    below = 10 + 8 + sum(max(len(m.heading), 5) + 2 for m in metrics) > console.width

    def line(name: str, chosen: "list[RoundTrip]") -> list[str]:
        seconds = sum(result.encoding.seconds for result in chosen)
        tokens = sum(result.encoding.frames * result.encoding.codebooks for result in chosen)
        encode = seconds / sum(result.encoding.elapsed for result in chosen)
        decode = seconds / sum(result.decoding.elapsed for result in chosen)
        kbps = sum(result.encoding.size for result in chosen) * 8 / 1000
        rate = f"{kbps / seconds:.2f}" if seconds else "–"
        cells = [name, f"{seconds:.2f}", f"{tokens}", rate, f"{encode:.0f}", f"{decode:.1f}"]
        for metric in [] if below else metrics:
            values = [
                result.scores[metric.name] for result in chosen if metric.name in result.scores
            ]
            cells.append(f"{mean(values):.{metric.digits}f}" if values else "–")
        return cells

    headings = ["file", "seconds", "tokens", "kbit/s", "encode ×", "decode ×"]
    headings += [] if below else [metric.heading for metric in metrics]
    rows = [headings, *(line(printable(result.source.name), [result]) for result in results)]
    rows.append(line(f"all {len(results)}", results))
    widths = {cells[0]: max(map(len, cells)) for cells in zip(*rows, strict=True)}

    # Each column has 2 of padding; names are shortened first, down to 8.
    def rest() -> int:
        return console.width - sum(widths[name] + 2 for name in headings[1:]) - 2

    left_out = []
    for name in ("encode ×", "decode ×", "tokens", "seconds"):
        if rest() >= 8:
            break
        left_out.append(name)
        place = headings.index(name)
        headings.remove(name)
        for row in rows[1:]:
            del row[place]
    table = Table(box=None, header_style="bold", title=f"round trip through {codec}")
    table.add_column("file", overflow="ellipsis", no_wrap=True, max_width=max(8, rest()))
    for name in headings[1:]:
        table.add_column(name, justify="right", no_wrap=True, width=widths[name])
    for row in rows[1:-1]:
        table.add_row(*row)
    if len(results) > 1:
        table.add_section()
        table.add_row(*rows[-1], style="bold")
    console.print(table)
    if below:
        _print_scores(console, metrics, results)
    console.print("[dim]kbit/s: of the whole .syl file, its header included[/dim]")
    if "decode ×" in headings:
        console.print("[dim]encode ×, decode ×: times real time, with files read and written[/dim]")
    if left_out:
        names = ", ".join(left_out)
        console.print(f"[dim]not shown on {console.width} columns: {names} (see --json)[/dim]")
    headings_of = {metric.name: metric.heading for metric in metrics}
    for name in dict.fromkeys(name for result in results for name in result.missing):
        _print_missing(console, name, headings_of.get(name, name), results)


def _metrics(result: "RoundTrip") -> "list[Metric]":
    """Return the metrics that a file was, or should have been, scored by, in catalogue order."""
    from ..eval.metrics.catalogue import find, names

    given = result.scores.keys() | result.missing.keys()
    found = []
    for name in names():
        # A metric of another package that can't be loaded has only the reason.
        with suppress(SyllabaryError):
            found += [find(name)] if name in given else []
    return found


def _print_scores(console: "Console", metrics: "list[Metric]", results: "list[RoundTrip]") -> None:
    """Print a line per score: its mean, better direction, unit, and number of files."""
    from rich.table import Table

    from ..eval.metrics.scoring import mean

    table = Table(box=None, header_style="bold")
    table.add_column("score", no_wrap=True)
    for name in ("mean", "files"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("unit", no_wrap=True)
    table.add_column("better", no_wrap=True)
    for metric in metrics:
        values = [result.scores[metric.name] for result in results if metric.name in result.scores]
        shown = f"{mean(values):.{metric.digits}f}" if values else "–"
        better = {True: "higher", False: "lower", None: ""}[metric.higher_is_better]
        table.add_row(metric.heading, shown, str(len(values)), metric.unit, better)
    console.print(table)


def _print_missing(console: "Console", name: str, heading: str, results: "list[RoundTrip]") -> None:
    """Print the number of files for which a score is missing, with each reason and its count."""
    reasons = Counter(r.missing[name] for r in results if name in r.missing)
    if not reasons:
        return
    counted = [
        reason if len(reasons) == 1 else f"{reason} ({count})"
        for reason, count in reasons.most_common()
    ]
    why = "; ".join(counted)
    total = sum(reasons.values())
    console.print(f"{heading} missing for {total} of {len(results)}: {why}", markup=False)
