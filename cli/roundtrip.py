"""`syllabary roundtrip`: encode, decode and score."""

import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from ..errors import SyllabaryError
from ..filesystem import printable
from . import options
from .batch import use_one_thread

if TYPE_CHECKING:
    from rich.console import Console

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
    help="Some of pesq,stoi,estoi,mel,dnsmos,speaker, or all.",
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
    """Encode and decode speech, and score what comes back.

    IN is as for `encode`. A score that can't be computed is left out, with its reason, and means
    are over the others.

    Scores: pesq (wide-band PESQ), stoi, estoi, mel (distance of log mel spectrograms, dB), dnsmos
    (overall, without a reference), speaker (cosine of voice embeddings).
    """
    from ..audio.manifests import collect
    from ..codecs.registry import load
    from ..eval.round_trip import round_trip
    from ..eval.scores import parse_scores
    from ..jobs.bulk import plan, refuse_overwriting

    chosen = parse_scores(scores)
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
    tokenizer._check_codebooks(codebooks)
    results = []
    failed = 0
    for job in jobs:
        try:
            result = round_trip(
                tokenizer,
                job.source.path,
                job.target,
                name=printable(job.source.name),
                channels=channels,
                compress=compress,
                num_codebooks=codebooks,
                scores=chosen,
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
    fields = {name: printable(getattr(result, name)) for name in ("source", "tokens", "decoded")}
    return fields | {
        "seconds": result.encoding.seconds,
        "frames": result.encoding.frames,
        "codebooks": result.encoding.codebooks,
        "kbps": result.encoding.kbps,
        "encode_x_real_time": result.encoding.seconds / result.encoding.elapsed,
        "decode_x_real_time": result.encoding.seconds / result.decoding.elapsed,
        "scores": result.scores,
        "missing": result.missing,
    }


def print_table(results: "list[RoundTrip]", codec: str) -> None:
    """One line a file, and the means; a narrow terminal shows the scores rather than the speeds."""
    from rich.console import Console
    from rich.table import Table

    from ..eval.scores import SCORES

    given = results[0].scores.keys() | results[0].missing.keys()
    metrics = [score for score in SCORES.values() if score.heading in given]

    def line(name: str, chosen: "list[RoundTrip]") -> list[str]:
        seconds = sum(result.encoding.seconds for result in chosen)
        tokens = sum(result.encoding.frames * result.encoding.codebooks for result in chosen)
        encode = seconds / sum(result.encoding.elapsed for result in chosen)
        decode = seconds / sum(result.decoding.elapsed for result in chosen)
        kbps = sum(result.encoding.size for result in chosen) * 8 / 1000
        rate = f"{kbps / seconds:.2f}" if seconds else "–"
        cells = [name, f"{seconds:.2f}", f"{tokens}", rate, f"{encode:.0f}", f"{decode:.1f}"]
        for metric in metrics:
            heading = metric.heading
            values = [result.scores[heading] for result in chosen if heading in result.scores]
            cells.append(f"{sum(values) / len(values):.{metric.digits}f}" if values else "–")
        return cells

    headings = ["file", "seconds", "tokens", "kbit/s", "encode ×", "decode ×"]
    headings += [metric.heading for metric in metrics]
    rows = [headings, *(line(printable(result.source.name), [result]) for result in results)]
    rows.append(line(f"all {len(results)}", results))
    widths = {cells[0]: max(map(len, cells)) for cells in zip(*rows, strict=True)}
    console = Console()

    # Each column has 2 of padding; names give way first, down to 8.
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
    console.print("[dim]kbit/s: of the whole .syl file, its header included[/dim]")
    if "decode ×" in headings:
        console.print("[dim]encode ×, decode ×: times real time, with files read and written[/dim]")
    if left_out:
        names = ", ".join(left_out)
        console.print(f"[dim]not shown on {console.width} columns: {names} (see --json)[/dim]")
    for metric in metrics:
        _print_missing(console, metric.heading, results)


def _print_missing(console: "Console", heading: str, results: "list[RoundTrip]") -> None:
    """How many files a score is missing for, with each reason and its count."""
    reasons = Counter(r.missing[heading] for r in results if heading in r.missing)
    if not reasons:
        return
    counted = [
        reason if len(reasons) == 1 else f"{reason} ({count})"
        for reason, count in reasons.most_common()
    ]
    why = "; ".join(counted)
    total = sum(reasons.values())
    console.print(f"{heading} missing for {total} of {len(results)}: {why}", markup=False)
