"""`syllabary decode`: `.syl` files to audio files."""

import shutil
import sys
import tempfile
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from ..errors import SyllabaryError
from . import options
from .batch import choose_workers, execute, place

if TYPE_CHECKING:
    from ..codecs.container import SylReader
    from ..codecs.interface import AudioTokenizer
    from ..jobs.bulk import Job
    from ..jobs.files import FileReport


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="IN...")
@options.output(
    "Output file or folder; `-` for standard output. Default: x.decoded.wav beside x.syl."
)
@click.option(
    "--codec",
    metavar="NAME",
    help="Tokenizer to decode with; default: the one that the file names.",
)
@click.option(
    "--format",
    "audio_format",
    type=click.Choice(["wav", "flac", "ogg", "opus", "mp3"]),
    help="Of the outputs; default: the output's suffix, or wav.",
)
@click.option(
    "--clipping",
    type=click.Choice(["clamp", "error"]),
    default="clamp",
    show_default=True,
    help="Samples beyond ±1: clamp them and say how many, or fail.",
)
@click.option("--resume", is_flag=True, help="Keep outputs that exist (they are written whole).")
@options.force
@options.workers
@options.device
@options.as_json
def decode(
    inputs: tuple[str, ...],
    output: str | None,
    codec: str | None,
    audio_format: str | None,
    clipping: Literal["clamp", "error"],
    resume: bool,
    force: bool,
    workers: int | None,
    device: str,
    as_json: bool,
) -> None:
    """Decode tokens into speech.

    IN is a .syl file, a folder of them (searched with its subfolders), a glob pattern, or `-` for
    standard input.
    """
    from ..audio.manifests import collect
    from ..codecs.container import ContainerWarning, SylReader
    from ..jobs.bulk import refuse_overwriting
    from ..jobs.files import decode_file

    tokenizers = _Tokenizers(codec, device)
    # A file that is cut short says so in its report.
    warnings.simplefilter("ignore", ContainerWarning)
    if "-" in inputs:
        if len(inputs) > 1:
            raise SyllabaryError("`-` can't be mixed with other inputs")
        _decode_one(
            SylReader(sys.stdin.buffer, "standard input"),
            tokenizers,
            output,
            audio_format,
            clipping,
            force,
        )
        return
    items = collect(inputs, suffixes=frozenset([".syl"]))
    if output == "-":
        if len(items) > 1:
            raise SyllabaryError(f"standard output holds one file; {len(items)} inputs were given")
        with items[0].path.open("rb") as file:
            reader = SylReader(file, str(items[0].path))
            _decode_one(reader, tokenizers, output, audio_format, clipping, force)
        return
    suffix = f".{audio_format or 'wav'}"
    jobs, folder = place(items, inputs, output, suffix, beside=f".decoded{suffix}")
    if not force and not resume:
        refuse_overwriting(jobs)

    def work(job: "Job") -> "FileReport":
        with job.source.path.open("rb") as file:
            reader = SylReader(file, str(job.source.path))
            tokenizer = tokenizers.for_file(reader)
            return decode_file(
                tokenizer, reader, job.target, audio_format=audio_format, clipping=clipping
            )

    execute(
        jobs,
        work,
        verb="decoded",
        folder=folder,
        workers=choose_workers(workers, len(jobs), device),
        as_json=as_json,
        is_whole=(lambda job: job.target.exists()) if resume and not force else None,
    )


class _Tokenizers:
    """The tokenizers that the files name, each loaded once."""

    def __init__(self, codec: str | None, device: str) -> None:
        self.codec, self.device = codec, device
        self.loaded: dict[str, AudioTokenizer] = {}
        self.lock = threading.Lock()

    def for_file(self, reader: "SylReader") -> "AudioTokenizer":
        from ..codecs.registry import load
        from ..errors import UnknownTokenizerError

        name = self.codec or reader.spec.tokenizer
        with self.lock:
            if name not in self.loaded:
                try:
                    self.loaded[name] = load(name, device=self.device)
                except UnknownTokenizerError as error:
                    if self.codec:
                        raise
                    raise UnknownTokenizerError(
                        f"{reader.name} was made by {name!r}, which is not bundled: give its "
                        f"directory with --codec ({error})"
                    ) from None
            return self.loaded[name]


def _decode_one(
    reader: "SylReader",
    tokenizers: _Tokenizers,
    output: str | None,
    audio_format: str | None,
    clipping: Literal["clamp", "error"],
    force: bool,
) -> None:
    """Decode to a file, or to standard output."""
    from ..jobs.files import decode_file

    tokenizer = tokenizers.for_file(reader)
    if output not in (None, "-"):
        target = Path(str(output))
        if target.exists() and not force:
            raise SyllabaryError(f"{target} exists already; use --force to overwrite")
        report = decode_file(
            tokenizer, reader, target, audio_format=audio_format, clipping=clipping
        )
    else:
        # A wav header holds the length, which is known at the end only: not into the pipe at once.
        with tempfile.TemporaryFile() as spool:
            report = decode_file(
                tokenizer, reader, spool, audio_format=audio_format or "wav", clipping=clipping
            )
            spool.seek(0)
            shutil.copyfileobj(spool, sys.stdout.buffer)
    for note in report.notes:
        click.echo(note, err=True)
