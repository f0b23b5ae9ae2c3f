"""`syllabary encode`: audio files to `.syl` files."""

import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from ..errors import SyllabaryError
from . import options
from .batch import choose_workers, execute, place

if TYPE_CHECKING:
    from ..jobs.bulk import Job
    from ..jobs.files import FileReport


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="IN...")
@options.output("Output file or folder; `-` for standard output. Default: beside the input.")
@options.codec
@click.option("--codebooks", type=click.IntRange(min=1), metavar="N", help="Keep the first N.")
@options.split
@options.channels
@options.compress
@click.option("--resume", is_flag=True, help="Keep outputs that are whole; redo the others.")
@options.force
@options.workers
@options.device
@options.as_json
def encode(
    inputs: tuple[str, ...],
    output: str | None,
    codec: str,
    codebooks: int | None,
    split: str | None,
    channels: Literal["mix", "first", "mono"] | int,
    compress: bool,
    resume: bool,
    force: bool,
    workers: int | None,
    device: str,
    as_json: bool,
) -> None:
    """Encode speech into tokens.

    IN is an audio file, a folder (searched with its subfolders, or read through its
    manifest.jsonl), a manifest, a glob pattern, or `-` for audio on standard input. Folders and
    manifests keep their tree under the output folder. Files that fail are listed with their reason
    in errors.jsonl there, and the rest goes on.
    """
    from ..audio.manifests import collect
    from ..codecs.registry import load
    from ..jobs.bulk import refuse_overwriting, whole_tokens
    from ..jobs.files import encode_file

    if "-" in inputs:
        _encode_standard_input(inputs, output, codec, codebooks, channels, compress, device, force)
        return
    items = collect(inputs, split)
    if output == "-":
        if len(items) > 1:
            raise SyllabaryError(f"standard output holds one file; {len(items)} inputs were given")
        tokenizer = load(codec, device=device)
        encode_file(
            tokenizer,
            items[0].path,
            sys.stdout.buffer,
            channels=channels,
            num_codebooks=codebooks,
            compress=compress,
        )
        return
    jobs, folder = place(items, inputs, output, ".syl", beside=".syl")
    if not force and not resume:
        refuse_overwriting(jobs)
    tokenizer = load(codec, device=device)
    kept = tokenizer._check_codebooks(codebooks)
    digest = tokenizer.spec.tokens.digest

    def work(job: "Job") -> "FileReport":
        return encode_file(
            tokenizer,
            job.source.path,
            job.target,
            name=str(job.source.name),
            channels=channels,
            num_codebooks=codebooks,
            compress=compress,
        )

    def is_whole(job: "Job") -> bool:
        return whole_tokens(job.target, digest, str(job.source.name), kept)

    execute(
        jobs,
        work,
        verb="encoded",
        folder=folder,
        workers=choose_workers(workers, len(jobs), device),
        as_json=as_json,
        is_whole=is_whole if resume and not force else None,
    )


def _encode_standard_input(
    inputs: tuple[str, ...],
    output: str | None,
    codec: str,
    codebooks: int | None,
    channels: Literal["mix", "first", "mono"] | int,
    compress: bool,
    device: str,
    force: bool,
) -> None:
    from ..codecs.registry import load
    from ..jobs.files import encode_file

    if len(inputs) > 1:
        raise SyllabaryError("`-` can't be mixed with other inputs")
    target = None if output in (None, "-") else Path(str(output))
    if target is not None and target.exists() and not force:
        raise SyllabaryError(f"{target} exists already; use --force to overwrite")
    tokenizer = load(codec, device=device)
    # Audio formats need seeking: what comes in goes to a temporary file first, not to memory.
    with tempfile.NamedTemporaryFile(prefix="syllabary-") as spool:
        shutil.copyfileobj(sys.stdin.buffer, spool)
        spool.flush()
        encode_file(
            tokenizer,
            Path(spool.name),
            target or sys.stdout.buffer,
            name="-",
            channels=channels,
            num_codebooks=codebooks,
            compress=compress,
        )
