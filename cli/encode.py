"""`syllabary encode`: encode audio files to `.syl` files."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from threading import Event
from typing import TYPE_CHECKING, Literal

import click

from ..audio.manifests import Utterance, collect
from ..errors import SyllabaryError
from ..filesystem import printable
from . import options
from .batch import choose_workers, execute, place

if TYPE_CHECKING:
    from ..codecs.spec import TokenSpec
    from ..jobs.bulk import Job
    from ..jobs.one_file import FileReport
    from ..semantic.token_bpe import PieceCoder


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="IN...")
@options.output("Output file or folder; `-` for standard output. Default: beside a single input.")
@options.codec
@click.option("--codebooks", type=click.IntRange(min=1), metavar="N", help="Keep the first N.")
@options.bpe
@options.split
@options.channels
@options.compress
@click.option(
    "--resume",
    is_flag=True,
    help="Keep complete outputs of the same source; encode the others.",
)
@options.force
@options.workers
@options.device
@options.as_json
def encode(
    inputs: tuple[str, ...],
    output: str | None,
    codec: str,
    codebooks: int | None,
    bpe: str | None,
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

    IN is an audio file, a folder (searched recursively, or read through its manifest.jsonl), a
    manifest, a glob pattern, or `-` for audio on standard input. The outputs of folders and
    manifests keep their relative paths. Files that fail are listed with the reason in errors.jsonl
    in the output folder, and the others are encoded.
    """
    from ..codecs.batches import check_codebooks
    from ..codecs.registry import load
    from ..jobs.bulk import is_whole_encoding, refuse_overwriting
    from ..jobs.one_file import encode_file

    with _collected(inputs, split) as items:
        jobs, folder = place(items, inputs, output, ".syl", beside=".syl")
        if not force and not resume:
            refuse_overwriting(jobs)
        tokenizer = load(codec, device=device)
        kept = check_codebooks(codebooks, tokenizer.spec)
        digest = tokenizer.spec.tokens.digest
        coder = None
        if bpe is not None:
            coder = _coder(bpe, tokenizer.spec.tokens, codebooks)
            kept, digest = 1, coder.spec.digest

        def work(job: "Job", stop: Event) -> "FileReport":
            return encode_file(
                tokenizer,
                job.source,
                sys.stdout.buffer if job.piped else job.target,
                name=printable(job.source.name),
                channels=channels,
                num_codebooks=codebooks,
                compress=compress,
                stop=stop,
                coder=coder,
            )

        def is_whole(job: "Job") -> bool:
            options = {"channels": channels, "compress": compress}
            expected = {"name": printable(job.source.name), "options": options}
            return is_whole_encoding(job.target, job.source, expected, digest, kept)

        execute(
            jobs,
            work,
            verb="encoded",
            folder=folder,
            workers=choose_workers(workers, len(jobs), device),
            as_json=as_json,
            is_whole=is_whole if resume and not force else None,
        )


def _coder(bpe: str, base: "TokenSpec", codebooks: int | None) -> "PieceCoder":
    from ..semantic.token_bpe import PieceCoder, load_bpe

    coder = PieceCoder(load_bpe(bpe), base)
    if codebooks not in (None, coder.num_codebooks):
        raise SyllabaryError(
            f"{coder.bpe.name} is for {coder.num_codebooks} codebooks, not the first {codebooks}"
        )
    return coder


@contextmanager
def _collected(inputs: tuple[str, ...], split: str | None) -> Iterator[list[Utterance]]:
    """Return the utterances; standard input is copied to a temporary file, as reading audio needs
    seeking.
    """
    if "-" not in inputs:
        yield collect(inputs, split)
        return
    if len(inputs) > 1:
        raise SyllabaryError("`-` can't be mixed with other inputs")
    with tempfile.NamedTemporaryFile(prefix="syllabary-") as spool:
        shutil.copyfileobj(sys.stdin.buffer, spool)
        spool.flush()
        yield [Utterance(Path(spool.name), PurePosixPath("-"))]
