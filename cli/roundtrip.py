"""`syllabary roundtrip`: encode, decode and score."""

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from ..errors import SyllabaryError
from ..filesystem import printable
from . import options
from .batch import use_one_thread

if TYPE_CHECKING:
    from ..eval.round_trip import RoundTrip


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="IN...")
@options.output("Folder for the .syl and .wav files. Default: scores only.")
@options.codec
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
    """
    from ..audio.manifests import collect
    from ..codecs.registry import load
    from ..eval.round_trip import round_trip
    from ..jobs.bulk import plan, refuse_overwriting

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
    """One line a file, and the means."""
    from rich.console import Console
    from rich.table import Table

    from ..eval.round_trip import METRICS

    def line(name: str, chosen: "list[RoundTrip]") -> list[str]:
        seconds = sum(result.encoding.seconds for result in chosen)
        tokens = sum(result.encoding.frames * result.encoding.codebooks for result in chosen)
        encode = seconds / sum(result.encoding.elapsed for result in chosen)
        decode = seconds / sum(result.decoding.elapsed for result in chosen)
        kbps = sum(result.encoding.size for result in chosen) * 8 / 1000
        rate = f"{kbps / seconds:.2f}" if seconds else "–"
        cells = [name, f"{seconds:.2f}", f"{tokens}", rate, f"{encode:.0f}", f"{decode:.1f}"]
        for metric in METRICS:
            scores = [result.scores[metric] for result in chosen if metric in result.scores]
            cells.append(f"{sum(scores) / len(scores):.3f}" if scores else "–")
        return cells

    headings = ["seconds", "tokens", "kbit/s", "encode ×", "decode ×", *METRICS]
    rows = [line(printable(result.source.name), [result]) for result in results]
    total = line(f"all {len(results)}", results)
    console = Console()
    table = Table(box=None, header_style="bold", title=f"round trip through {codec}")
    columns = zip(headings, total[1:], *(row[1:] for row in rows), strict=True)
    widths = [max(map(len, column)) for column in columns]
    # Where the width runs out, the names give way, not the numbers. Each column has 2 of padding.
    rest = console.width - sum(width + 2 for width in widths) - 2
    table.add_column("file", overflow="ellipsis", no_wrap=True, max_width=max(8, rest))
    for heading, width in zip(headings, widths, strict=True):
        table.add_column(heading, justify="right", no_wrap=True, width=width)
    for row in rows:
        table.add_row(*row)
    if len(rows) > 1:
        table.add_section()
        table.add_row(*total, style="bold")
    console.print(table)
    console.print("[dim]kbit/s: of the whole .syl file, its header included[/dim]")
    console.print("[dim]encode ×, decode ×: times real time, with files read and written[/dim]")
    for metric in METRICS:
        reasons = [r.missing[metric] for r in results if metric in r.missing]
        if reasons:
            console.print(f"{metric} missing for {len(reasons)} of {len(results)}: {reasons[0]}")
