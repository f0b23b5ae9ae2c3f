"""`syllabary decode`: decode `.syl` files to audio files."""

import shutil
import sys
import tempfile
import threading
import warnings
from pathlib import PurePosixPath
from threading import Event
from typing import TYPE_CHECKING, Literal

import click

from ..audio.manifests import Utterance, collect
from ..errors import BPEError, TokenMismatchError, UnknownTokenizerError
from ..filesystem import printable
from . import options
from .batch import choose_workers, execute, place, resuming

if TYPE_CHECKING:
    from ..codecs.container import SylReader
    from ..codecs.interface import AudioTokenizer
    from ..jobs.bulk import Job
    from ..jobs.one_file import FileReport
    from ..semantic.token_bpe import PieceCoder


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="IN...")
@options.output(
    "Output file or folder; `-` for standard output. Default: x.decoded.wav beside x.syl."
)
@click.option(
    "--codec",
    metavar="NAME",
    help="Tokenizer to decode with; default: the one named in the file.",
)
@options.bpe
@click.option(
    "--format",
    "audio_format",
    type=click.Choice(["wav", "flac", "ogg", "opus", "mp3"]),
    help="Audio format; default: the output's suffix, or wav.",
)
@click.option(
    "--clipping",
    type=click.Choice(["clamp", "error"]),
    default="clamp",
    show_default=True,
    help="Samples beyond ±1: clamp and count them, or fail.",
)
@options.conceal
@click.option(
    "--resume",
    is_flag=True,
    help="Keep outputs decoded from the same tokens; decode the others.",
)
@options.force
@options.workers
@options.device
@options.as_json
def decode(
    inputs: tuple[str, ...],
    output: str | None,
    codec: str | None,
    bpe: str | None,
    audio_format: str | None,
    clipping: Literal["clamp", "error"],
    conceal: bool,
    resume: bool,
    force: bool,
    workers: int | None,
    device: str,
    as_json: bool,
) -> None:
    """Decode tokens into speech.

    IN is a .syl file, a folder of them (searched recursively), a glob pattern, or `-` for standard
    input. Tokens with byte-pair encoding (`encode --bpe`) are decoded with it; give its folder with
    --bpe unless it is a bundled one.
    """
    from ..codecs.container import ContainerWarning, SylReader
    from ..jobs.bulk import (
        STANDARD_INPUT,
        decoding_comment,
        is_whole_decoding,
        refuse_overwriting,
    )
    from ..jobs.one_file import decode_file

    tokenizers = Tokenizers(codec, device, bpe)
    # The report of a truncated file contains a warning.
    warnings.simplefilter("ignore", ContainerWarning)
    suffix = f".{audio_format or 'wav'}"
    if "-" in inputs:
        items = [Utterance(STANDARD_INPUT, PurePosixPath("-"), stream=True)]
    else:
        items = collect(inputs, suffixes=frozenset([".syl"]))
    jobs, folder = place(items, inputs, output, suffix, beside=f".decoded{suffix}")
    if not force and not resume:
        refuse_overwriting(jobs)

    def work(job: "Job", stop: Event) -> "FileReport":
        piped = "-" in inputs
        with sys.stdin.buffer if piped else job.source.path.open("rb") as file:
            name = "standard input" if piped else printable(job.source.path)
            reader = SylReader(file, name, recover=conceal)
            tokenizer, coder = tokenizers.with_coder(reader)
            comment = None
            if not job.source.stream:
                comment = decoding_comment(
                    job.source.path, tokenizer.full_digest, clipping, conceal
                )
            if not job.piped:
                return decode_file(
                    tokenizer,
                    reader,
                    job.target,
                    audio_format=audio_format,
                    clipping=clipping,
                    stop=stop,
                    coder=coder,
                    comment=comment,
                )
            # A wav header contains the length, known only at the end: a pipe gets the file once it
            # is complete.
            with tempfile.TemporaryFile() as spool:
                report = decode_file(
                    tokenizer,
                    reader,
                    spool,
                    audio_format=audio_format or "wav",
                    clipping=clipping,
                    stop=stop,
                    coder=coder,
                )
                spool.seek(0)
                shutil.copyfileobj(spool, sys.stdout.buffer)
            return report

    def is_whole(job: "Job") -> bool:
        if not job.target.is_file() or job.source.stream:
            return False
        with job.source.path.open("rb") as file:
            reader = SylReader(file, printable(job.source.path), recover=conceal)
            decoder = tokenizers.with_coder(reader)[0].full_digest
        return is_whole_decoding(job.target, job.source, decoder, clipping, conceal)

    whole = execute(
        jobs,
        work,
        verb="decoded",
        folder=folder,
        workers=choose_workers(workers, len(jobs), device),
        as_json=as_json,
        is_whole=resuming(is_whole, force) if resume else None,
    )
    if not whole:
        sys.exit(1)


class Tokenizers:
    """The tokenizers and byte-pair encodings that the files name, each loaded once."""

    def __init__(self, codec: str | None, device: str, bpe: str | None = None) -> None:
        self.codec, self.bpe, self.device = codec, bpe, device
        self.loaded: dict[str, AudioTokenizer] = {}
        self.coders: dict[tuple[str, str], PieceCoder] = {}
        self.lock = threading.Lock()

    def for_file(self, reader: "SylReader") -> "AudioTokenizer":
        """Return the tokenizer for a file without byte-pair encoding.

        A name in a file is looked up among the registered names only: a file must not cause a
        directory to be read or a model to be downloaded.
        """
        with self.lock:
            return self._tokenizer(self.codec or reader.spec.tokenizer, reader)

    def with_coder(self, reader: "SylReader") -> "tuple[AudioTokenizer, PieceCoder | None]":
        """Return the tokenizer for a file, and the coder of its byte-pair encoding, if any."""
        with self.lock:
            name, bpe = self._names(reader)
            tokenizer = self._tokenizer(name, reader)
            if bpe is None:
                return tokenizer, None
            if (name, bpe) not in self.coders:
                from ..semantic.token_bpe import PieceCoder, load_bpe

                self.coders[name, bpe] = PieceCoder(load_bpe(bpe), tokenizer.spec.tokens)
            return tokenizer, self.coders[name, bpe]

    def _names(self, reader: "SylReader") -> tuple[str, str | None]:
        """Return the names of the tokenizer and of the byte-pair encoding."""
        from ..codecs.registry import list_tokenizers
        from ..semantic.bundled_bpe import list_bpes, split_name

        own = reader.spec.tokenizer
        parts = None if own in list_tokenizers() else split_name(own)
        if self.bpe is not None:
            if parts is None:
                raise TokenMismatchError(
                    f"{reader.name} holds tokens of {own}, which are no pieces: leave out --bpe"
                )
            return self.codec or parts[0], self.bpe
        if parts is not None and parts[1] in list_bpes():
            return self.codec or parts[0], parts[1]
        if parts is not None and parts[0] in list_tokenizers():
            raise BPEError(
                f"{reader.name} holds pieces of {parts[0]} by {parts[1]!r}, which is not inside "
                "the package: give its folder with --bpe"
            )
        return self.codec or own, None

    def _tokenizer(self, name: str, reader: "SylReader") -> "AudioTokenizer":
        from ..codecs.registry import list_tokenizers, load

        if name not in self.loaded:
            if not self.codec and name not in list_tokenizers():
                raise UnknownTokenizerError(
                    f"{reader.name} was made by {name!r}, which is not among the bundled "
                    "tokenizers: give its directory or published name with --codec"
                )
            self.loaded[name] = load(name, device=self.device)
        return self.loaded[name]
