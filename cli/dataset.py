"""`syllabary dataset`: training data of speech language models, from audio to Parquet shards."""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..cores import usable_cores
from . import options
from .batch import clock_of, hours, size
from .dataset_export import export_command

if TYPE_CHECKING:
    from ..lm.dataset.build import BuildReport
    from ..lm.dataset.engines import OpenEngine
    from ..lm.dataset.estimate import Estimate
    from ..lm.dataset.settings import Settings
    from ..lm.dataset.verify import Verification

Command = TypeVar("Command", bound=Callable[..., Any])
_SHOWN_PROBLEMS = 20

_SETTINGS = (
    options.codec,
    click.option("--codebooks", type=click.IntRange(min=1), metavar="N", help="Keep the first N."),
    options.bpe,
    options.channels,
    options.split,
    click.option(
        "--splits",
        metavar="NAME=SHARE,…",
        help="New splits, by the hash of the speaker: train=0.98,valid=0.01,test=0.01.",
    ),
    click.option("--min-duration", type=click.FloatRange(0), metavar="S", help="Seconds."),
    click.option("--max-duration", type=click.FloatRange(0), metavar="S", help="Seconds."),
    click.option(
        "--max-clipping", type=click.FloatRange(0, 1), metavar="X", help="Share of full scale."
    ),
    click.option("--min-level", type=float, metavar="DB", help="Root mean square, dB."),
    click.option("--max-level", type=float, metavar="DB", help="Root mean square, dB."),
    click.option("--min-snr", type=float, metavar="DB", help="Speech over noise (Silero VAD)."),
    click.option(
        "--min-speech", type=click.FloatRange(0, 1), metavar="X", help="Share of speech (Silero)."
    ),
    click.option(
        "--min-characters", type=click.FloatRange(0), metavar="N", help="Of text, a second."
    ),
    click.option(
        "--max-characters", type=click.FloatRange(0), metavar="N", help="Of text, a second."
    ),
    click.option("--language", "languages", multiple=True, metavar="CODE", help="Keep only these."),
    click.option("--need-text", is_flag=True, help="Leave out utterances without text."),
    click.option(
        "--near-duplicates",
        type=click.FloatRange(0, 1, min_open=True),
        metavar="X",
        help="Leave out what shares this much of its n-grams of codes with an earlier one.",
    ),
    click.option(
        "--words",
        metavar="PATH",
        help="Word times: a CTM file, or a folder of TextGrid, JSON or CTM files named like items.",
    ),
    click.option(
        "--aligner",
        metavar="NAME",
        help="Align words that have no times: pocketsphinx (English) or whisper:MODEL.",
    ),
    click.option("--text-tokenizer", metavar="PATH", help="tokenizer.json for ids of the text."),
    options.device,
)


def _settings_options(command: Command) -> Command:
    for option in reversed(_SETTINGS):
        command = option(command)
    return command


def _settings(fields: dict[str, Any]) -> "Settings":
    from ..lm.dataset.filters import Filters
    from ..lm.dataset.settings import Settings
    from ..lm.dataset.splits import Splits

    named = {name: fields[name] for name in Filters.__dataclass_fields__}
    splits = fields["splits"]
    return Settings(
        codec=fields["codec"],
        num_codebooks=fields["codebooks"],
        bpe=fields["bpe"],
        channels=fields["channels"],
        filters=Filters(**named),
        split=fields["split"],
        splits=None if splits is None else Splits.parse(splits),
        words=fields["words"],
        aligner=fields["aligner"],
        text_tokenizer=fields["text_tokenizer"],
    )


_INPUTS = click.argument("inputs", nargs=-1, required=True, metavar="IN...")


@click.group()
def dataset() -> None:
    """Turn hours of audio into training data of tokens.

    IN is a manifest, a folder (searched, or read through its manifest.jsonl), a glob pattern, a
    WebDataset tar (shards-{000..015}.tar), or a folder of Hugging Face's `save_to_disk`.
    """


dataset.add_command(export_command)


@dataset.command()
@_INPUTS
@_settings_options
@click.option(
    "--share",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.01,
    show_default=True,
    metavar="X",
    help="Share of the utterances to encode.",
)
@options.workers
@options.as_json
def plan(
    inputs: tuple[str, ...],
    share: float,
    workers: int | None,
    device: str,
    as_json: bool,
    **fields: Any,
) -> None:
    """Say what a build would take and give, from a sample; writes nothing."""
    from ..cores import use_one_thread
    from ..lm.dataset.estimate import estimate

    use_one_thread()
    with _Shown("utterances of the sample") as shown:
        found = estimate(inputs, _settings(fields), share=share, device=device, progress=shown)
    count = workers or usable_cores()
    if as_json:
        more = {"workers": count, "hours_for_workers": found.hours_for(count)}
        click.echo(json.dumps(asdict(found) | more, ensure_ascii=False))
        return
    _say_estimate(found, count)


def _say_estimate(found: "Estimate", workers: int) -> None:
    left = found.failed + found.dropped
    rows = [
        ("utterances", f"{found.planned:,}, of which {found.sampled:,} were encoded"),
        ("left out", f"{left:.1%}" + (f" ({_reasons(found.reasons)})" if found.reasons else "")),
        ("audio", f"{found.hours:,.2f} h"),
        ("frames", f"{found.frames:,}"),
        ("tokens", f"{found.tokens:,}"),
        ("shards", f"{size(found.bytes)}; while building, twice as much"),
        ("work", f"{found.core_hours:,.2f} core-hours at {found.speed:.0f} × real time"),
        (f"{workers} workers", clock_of(3600 * found.hours_for(workers))),
        ("splits", ", ".join(f"{name} {count:,}" for name, count in found.splits.items())),
        ("speakers", _speakers(found)),
        ("files in two splits", f"{found.repeated_sources:,}"),
        (
            "near-duplicates",
            f"{found.similar[0]} in the sample, {found.similar[1]} across splits",
        ),
    ]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        click.echo(f"{name:<{width}}  {value}")


def _speakers(found: "Estimate") -> str:
    if found.speakers is None:
        return "not known"
    several = found.speakers_in_several
    shown = f": {', '.join(several[:5])}{' …' if len(several) > 5 else ''}" if several else ""
    return f"{found.speakers:,}, {len(several):,} in several splits{shown}"


def _reasons(reasons: dict[str, int]) -> str:
    return ", ".join(f"{count} × {reason}" for reason, count in sorted(reasons.items()))


@dataset.command()
@_INPUTS
@options.output("Folder of the data set. An unfinished build in it goes on.")
@_settings_options
@click.option(
    "--shard-codes",
    type=click.IntRange(min=1),
    metavar="N",
    help="Codes in a shard.  [default: 80,000,000, about 100 MB]",
)
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Processes of this machine, or a Ray cluster.",
)
@click.option("--address", metavar="URL", help="Of the Ray cluster: auto, ray://host:10001, …")
@options.workers
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    metavar="N",
    help="Utterances in one call of the tokenizer.  [default: 1, on CUDA 256]",
)
@options.as_json
def build(
    inputs: tuple[str, ...],
    output: str | None,
    shard_codes: int | None,
    engine: str,
    address: str | None,
    workers: int | None,
    batch_size: int | None,
    device: str,
    as_json: bool,
    **fields: Any,
) -> None:
    """Build a data set, exactly once.

    Killed or stopped, the same command goes on, and the data set is the same to the byte. Failures
    are listed in failures.jsonl, and what filters left out in drops.jsonl, with the reasons.
    """
    from ..lm.dataset.build import build_dataset

    if output is None:
        raise click.UsageError("say -o FOLDER for the data set")
    if address is not None and engine != "ray":
        raise click.UsageError("--address is for --engine ray")
    settings = _settings(fields)
    if shard_codes is not None:
        settings = replace(settings, codes_a_shard=shard_codes)
    began = time.perf_counter()
    with _Shown("pieces") as shown:
        report = build_dataset(
            inputs,
            output,
            settings,
            _engine(engine, address, workers, device),
            device=device,
            batch_size=batch_size or (256 if device.startswith("cuda") else 1),
            progress=lambda done, total, seconds: shown(done, total),
        )
    _say_built(report, Path(output), time.perf_counter() - began, as_json)
    if report.failures:
        sys.exit(1)


def _engine(engine: str, address: str | None, workers: int | None, device: str) -> "OpenEngine":
    from ..lm.dataset.build import local_engine

    if engine == "ray":
        from ..lm.dataset.ray_engine import ray_engine

        return ray_engine(workers, address)
    return local_engine(workers or (usable_cores() if device == "cpu" else 1))


def _say_built(report: "BuildReport", folder: Path, elapsed: float, as_json: bool) -> None:
    made = report.dataset
    seconds = sum(shard.samples for shard in made.shards) / made.spec.sample_rate
    if as_json:
        summary = {
            "digest": made.digest,
            "items": len(made),
            "seconds": seconds,
            "frames": made.num_frames,
            "failures": report.failures,
            "drops": report.drops,
            "resumed_pieces": report.resumed,
            "already": report.already,
            "elapsed_s": round(elapsed, 3),
        }
        click.echo(json.dumps(summary, ensure_ascii=False))
        return
    if report.already:
        click.echo(f"{folder}: was finished already")
    elif report.resumed:
        click.echo(f"went on after {report.resumed} of {report.pieces} pieces")
    total = sum(shard.bytes for shard in made.shards)
    click.echo(
        f"{folder}: {len(made):,} of {report.planned:,} utterances, {hours(seconds)}, "
        f"{made.num_frames:,} frames × {made.num_codebooks}, {size(total)} in {len(made.shards)} "
        f"shard{'s' if len(made.shards) > 1 else ''}"
    )
    if not report.already:
        speed = report.seconds / max(elapsed, 1e-9)
        click.echo(f"in {elapsed:.1f} s ({speed:.0f} × real time)")
    if report.drops:
        click.echo(f"left out: {_reasons(report.drops)}")
    click.echo(f"digest {made.digest}")
    if report.failures:
        click.echo(f"{report.failures} failed; reasons in {folder / 'failures.jsonl'}", err=True)


@dataset.command()
@click.argument("folder", metavar="FOLDER")
@click.argument("inputs", nargs=-1, metavar="[IN]...")
@click.option("--codec", metavar="NAME", help="The tokenizer, where it has another place now.")
@click.option(
    "--sample",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    metavar="N",
    help="Items to encode again.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@options.device
@options.as_json
def verify(
    folder: str,
    inputs: tuple[str, ...],
    codec: str | None,
    sample: int,
    seed: int,
    device: str,
    as_json: bool,
) -> None:
    """Check every shard; with IN, encode a sample again and compare.

    Exit code 1: something is wrong.
    """
    from ..cores import use_one_thread
    from ..lm.dataset.settings import Settings
    from ..lm.dataset.stored import open_dataset
    from ..lm.dataset.verify import verify_sample, verify_shards

    found = verify_shards(folder)
    if inputs:
        use_one_thread()
        held = open_dataset(folder)
        settings = Settings.from_given(dict(held.description.get("given") or {}), folder)
        if codec is not None:
            settings = replace(settings, codec=codec)
        with _Shown("items encoded again") as shown:
            again = verify_sample(
                folder, inputs, settings, sample=sample, seed=seed, device=device, progress=shown
            )
        found.encoded = again.encoded
        found.problems += again.problems
    _say_verified(found, folder, bool(inputs), as_json)
    if found.problems:
        sys.exit(1)


def _say_verified(found: "Verification", folder: str, again: bool, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(asdict(found), ensure_ascii=False))
        return
    click.echo(f"{folder}: {found.shards} shards with {found.items:,} items were read")
    if again:
        click.echo(f"{found.encoded} items were encoded again")
    for problem in found.problems[:_SHOWN_PROBLEMS]:
        click.echo(f"wrong: {problem}", err=True)
    if len(found.problems) > _SHOWN_PROBLEMS:
        click.echo(f"and {len(found.problems) - _SHOWN_PROBLEMS} more", err=True)
    if not found.problems:
        click.echo("all as it was written")


@dataset.command()
@click.argument("folder", metavar="FOLDER")
@options.as_json
def info(folder: str, as_json: bool) -> None:
    """Print what a data set is, from its dataset.json."""
    from ..lm.dataset.stored import open_dataset, totals_of

    found = open_dataset(folder)
    fields = found.description
    if as_json:
        click.echo(json.dumps(fields, ensure_ascii=False))
        return
    spec, totals = found.spec, totals_of(found.shards)
    rows = [
        ("digest", found.digest),
        ("tokenizer", f"{spec.tokenizer} ({spec.digest[:12]})"),
        ("codebooks", f"{found.num_codebooks} of {spec.num_codebooks}"),
        ("items", f"{totals['items']:,}"),
        ("audio", f"{totals['samples'] / spec.sample_rate / 3600:,.3f} h"),
        ("frames", f"{totals['frames']:,} at {float(spec.frame_rate):g} a second"),
        ("tokens", f"{totals['frames'] * found.num_codebooks:,}"),
        ("size", f"{size(totals['bytes'])} in {len(found.shards)} shards"),
        ("splits", _by_split(found.shards)),
    ]
    if fields.get("failures") or fields.get("drops"):
        drops = _reasons(fields.get("drops") or {}) or "none"
        rows.append(("left out", f"{drops}; {fields.get('failures', 0)} failed"))
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        click.echo(f"{name:<{width}}  {value}")


def _by_split(shards: Any) -> str:
    counts: dict[str, int] = {}
    for shard in shards:
        counts[shard.split] = counts.get(shard.split, 0) + shard.items
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


class _Shown:
    """Report progress by a line on stderr now and then; a bar on a terminal."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __enter__(self) -> Callable[[int, int], None]:
        self.bar: Any = None
        self.last = self.began = time.perf_counter()
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

            self.bar = Progress(
                BarColumn(None), MofNCompleteColumn(), TimeRemainingColumn(),
                console=Console(stderr=True), transient=True,
            )  # fmt: skip
            self.bar.start()
            self.task = self.bar.add_task("", total=None)
        return self.show

    def show(self, done: int, total: int) -> None:
        if self.bar is not None:
            self.bar.update(self.task, completed=done, total=total)
            return
        now = time.perf_counter()
        if now - self.last >= 30:
            self.last = now
            click.echo(f"{done} of {total} {self.what}, {now - self.began:.0f} s", err=True)

    def __exit__(self, *failure: object) -> None:
        if self.bar is not None:
            self.bar.stop()
