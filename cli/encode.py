"""`syllabary encode`: encode audio files to `.syl` files."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from threading import Event
from typing import TYPE_CHECKING, Literal

import click

from ..audio.manifests import Utterance, collect, without
from ..errors import SyllabaryError
from ..filesystem import printable
from . import options
from .batch import choose_workers, execute, place, resuming

if TYPE_CHECKING:
    from ..codecs.spec import TokenSpec
    from ..jobs.bulk import Job, Outcome
    from ..jobs.one_file import FileReport
    from ..semantic.token_bpe import PieceCoder


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="IN...")
@options.output("Output file or folder; `-` for standard output. Default: beside a single input.")
@click.option(
    "--codec",
    "codecs",
    multiple=True,
    default=["rvq-16k"],
    show_default=True,
    metavar="NAME",
    help="Tokenizer, as for `decode`; several: a folder of OUTPUT for each.",
)
@click.option("--codebooks", type=click.IntRange(min=1), metavar="N", help="Keep the first N.")
@options.bpe
@options.split
@click.option(
    "--exclude",
    multiple=True,
    metavar="PATTERN",
    help="Leave out inputs that match, such as test/*.",
)
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
    codecs: tuple[str, ...],
    codebooks: int | None,
    bpe: str | None,
    split: str | None,
    exclude: tuple[str, ...],
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
    manifest, a text file of paths (.txt, one a line), a glob pattern, or `-` for audio on standard
    input. The outputs of folders and manifests keep their relative paths, and tokens.jsonl in the
    output folder lists them, with what the manifest says of each. Files that fail are listed with
    the reason in errors.jsonl in the output folder, and the others are encoded.
    """
    settings = _Settings(
        codebooks, bpe, channels, compress, resume, force, workers, device, as_json
    )
    with _collected(inputs, split) as items:
        items = without(items, exclude)
        if len(codecs) == 1:
            whole = _encode(items, inputs, output, codecs[0], settings)
        else:
            folders = _folders(output, codecs)
            whole = True
            for codec, folder in folders.items():
                if not as_json:
                    click.echo(f"{codec} → {printable(folder)}")
                whole &= _encode(items, inputs, f"{folder}{os.sep}", codec, settings)
    if not whole:
        sys.exit(1)


@dataclass(frozen=True)
class _Settings:
    """The options that are the same for all codecs."""

    codebooks: int | None
    bpe: str | None
    channels: Literal["mix", "first", "mono"] | int
    compress: bool
    resume: bool
    force: bool
    workers: int | None
    device: str
    as_json: bool


def _folders(output: str | None, codecs: tuple[str, ...]) -> dict[str, Path]:
    """Return the output folder of each of several codecs, by their names' last parts."""
    if output is None or output == "-" or Path(output).is_file():
        raise SyllabaryError("several codecs need a folder for their outputs: say -o FOLDER")
    folders = {codec: Path(output, Path(codec).resolve().name) for codec in codecs}
    if len(set(folders.values())) < len(codecs):
        names = ", ".join(codecs)
        raise SyllabaryError(f"two of {names} would write to the same folder: run them by turns")
    return folders


def _encode(
    items: list[Utterance],
    inputs: tuple[str, ...],
    output: str | None,
    codec: str,
    given: _Settings,
) -> bool:
    """Encode all inputs with one tokenizer; return whether all went well."""
    from ..codecs.batches import check_codebooks
    from ..codecs.registry import load
    from ..jobs.bulk import is_whole_encoding, refuse_overwriting
    from ..jobs.first_use import FirstUse
    from ..jobs.one_file import encode_file
    from ..jobs.token_manifest import check_token_manifest, write_token_manifest

    jobs, folder = place(items, inputs, output, ".syl", beside=".syl")
    if not given.force and not given.resume:
        refuse_overwriting(jobs)
    tokenizer = load(codec, device=given.device)
    kept = check_codebooks(given.codebooks, tokenizer.spec)
    digest = tokenizer.spec.tokens.digest
    coder = None
    if given.bpe is not None:
        coder = _coder(given.bpe, tokenizer.spec.tokens, given.codebooks)
        kept, digest = 1, coder.spec.digest

    first = FirstUse(tokenizer)
    if first.waits:
        click.echo(
            "first use on this machine: PyTorch encodes up to a minute of audio; more than that, "
            "and decoding, first compile for this processor",
            err=True,
        )

    def work(job: "Job", stop: Event) -> "FileReport":
        with first.of(job.source):
            return encode_file(
                tokenizer,
                job.source,
                sys.stdout.buffer if job.piped else job.target,
                name=printable(job.source.name),
                channels=given.channels,
                num_codebooks=given.codebooks,
                compress=given.compress,
                stop=stop,
                coder=coder,
            )

    def is_whole(job: "Job") -> bool:
        options = {"channels": given.channels, "compress": given.compress}
        expected = {"name": printable(job.source.name), "options": options}
        return is_whole_encoding(job.target, job.source, expected, digest, kept)

    def finished(outcomes: "Sequence[Outcome]") -> None:
        if folder is not None:
            write_token_manifest(folder, outcomes, coder)

    if folder is not None:
        check_token_manifest(folder)

    return execute(
        jobs,
        work,
        verb="encoded",
        folder=folder,
        workers=choose_workers(given.workers, len(jobs), given.device),
        as_json=given.as_json,
        is_whole=resuming(is_whole, given.force) if given.resume else None,
        finished=finished,
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
