"""`syllabary convert`: convert speech to another voice."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from ..audio.manifests import collect
from ..errors import SyllabaryError
from ..filesystem import printable
from . import options
from .batch import choose_workers, execute, place

if TYPE_CHECKING:
    from threading import Event

    from ..jobs.bulk import Job
    from ..jobs.one_file import FileReport


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="IN...")
@click.option(
    "--voice",
    required=True,
    type=click.Path(exists=True, dir_okay=False),
    help="Recording of the target voice; a few seconds suffice.",
)
@options.output("Output file or folder. Default: x.converted.wav beside x.wav.")
@click.option(
    "--codec",
    default="units-16k",
    show_default=True,
    metavar="NAME",
    help="A unit tokenizer with a trained voice.",
)
@options.split
@options.channels
@options.force
@options.workers
@options.device
@options.as_json
def convert(
    inputs: tuple[str, ...],
    voice: str,
    output: str | None,
    codec: str,
    split: str | None,
    channels: Literal["mix", "first", "mono"] | int,
    force: bool,
    workers: int | None,
    device: str,
    as_json: bool,
) -> None:
    """Convert speech to the voice of another recording, keeping the words.

    IN is as for `encode`. The speech is encoded into units, which represent its content and timing,
    and a vocoder decodes them with the other recording's voice.
    """
    from ..audio.files import read
    from ..codecs.container import SylReader
    from ..codecs.registry import load
    from ..jobs.bulk import refuse_overwriting
    from ..jobs.one_file import decode_file, encode_file
    from ..semantic.units.tokenizer import UnitTokenizer

    if "-" in (*inputs, output):
        raise SyllabaryError("`convert` reads and writes files, not pipes")
    jobs, folder = place(collect(inputs, split), inputs, output, ".wav", beside=".converted.wav")
    if not force:
        refuse_overwriting(jobs, resumable=False)
    tokenizer = load(codec, device=device)
    if not isinstance(tokenizer, UnitTokenizer):
        raise SyllabaryError(f"{codec} is of family {tokenizer.family}; expected a unit tokenizer")
    # All channels of it: --channels says which of IN is converted.
    wave, rate = read(voice, tokenizer.spec.sample_rate, "mix")
    tokenizer = tokenizer.with_voice(wave, rate)

    def work(job: "Job", stop: "Event") -> "FileReport":
        with tempfile.TemporaryDirectory(prefix="syllabary-") as scratch:
            units = Path(scratch) / "units.syl"
            name = printable(job.source.name)
            encoded = encode_file(
                tokenizer, job.source, units, name=name, channels=channels, stop=stop
            )
            with units.open("rb") as file:
                decoded = decode_file(tokenizer, SylReader(file, name), job.target, stop=stop)
            return replace(decoded, notes=[*encoded.notes, *decoded.notes])

    execute(
        jobs,
        work,
        verb="converted",
        folder=folder,
        workers=choose_workers(workers, len(jobs), device),
        as_json=as_json,
    )
