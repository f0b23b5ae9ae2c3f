"""`syllabary stream`: raw PCM to tokens and back in a shell pipe, frame by frame."""

import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, Self

import click

from ..audio.resampling import LEAST_RATE, MOST_RATE
from ..cores import use_one_thread
from ..errors import ContainerError, SyllabaryError
from . import options, server_streams
from .batch import size

if TYPE_CHECKING:
    from ..codecs.container import SylReader
    from ..codecs.streaming.latency import Histogram
    from ..jobs.pcm_stream import LiveReport
    from ..jobs.pipes import PipeInput
    from ..serving.protocol import PCM

STDIN, STDOUT = 0, 1
_BETWEEN_LIVE_LINES = 0.5  # seconds

_pcm_format = click.option(
    "--format",
    "pcm_format",
    type=click.Choice(["s16le", "f32le", "mulaw"]),
    default="s16le",
    show_default=True,
    help="Sample format: 16-bit integers or 32-bit floats, little-endian; or G.711 µ-law.",
)


def _sample_rate(meaning: str) -> Callable[[Any], Any]:
    return click.option(
        "--sample-rate",
        type=click.IntRange(LEAST_RATE, MOST_RATE),
        metavar="HZ",
        help=meaning,
    )


_stats = click.option(
    "--stats",
    is_flag=True,
    help="Print frames, speed, latency and bytes to standard error; live on a terminal.",
)


@click.group()
def stream() -> None:
    """Encode and decode raw PCM in a shell pipe, frame by frame.

    \b
    ffmpeg -i x.mp3 -f s16le -ac 1 -ar 16000 - | syllabary stream encode rvq-16k |
      syllabary stream decode | ffplay -f s16le -ar 16000 -

    The data between the two is a .syl file, which `syllabary decode` takes as well. Every chunk is
    written as soon as it is full, and decoded as soon as it arrives.

    At the end of the input, or on SIGINT or SIGTERM, the output is completed with all finished
    frames; after a signal the exit code is 128 + its number. A second signal exits at once.
    """


@stream.command("encode", short_help="Raw PCM to .syl.")
@click.argument("codec", default="rvq-16k", metavar="[CODEC]")
@click.option("--codebooks", type=click.IntRange(min=1), metavar="N", help="Keep the first N.")
@click.option(
    "--frames-per-chunk",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Each chunk adds 16 bytes: at 50 frames/s 800 bytes/s (6.4 kbit/s) with 1, 400 with 2, 80 "
    "with 10. Each frame more adds a frame of latency.",
)
@_pcm_format
@_sample_rate(
    "Of the samples that come; default: the tokenizer's own. Another one is resampled, which adds "
    "36 ms from 48 kHz and 115 ms from 8 kHz."
)
@_stats
@options.device
@server_streams.options(required=False)
def encode(
    codec: str,
    codebooks: int | None,
    frames_per_chunk: int,
    pcm_format: str,
    sample_rate: int | None,
    stats: bool,
    device: str,
    servers: tuple[str, ...],
    token_file: str | None,
    authority: str | None,
) -> None:
    """Encode mono PCM on standard input into .syl on standard output.

    CODEC is a bundled name (see `syllabary list`), a directory, or a published model; default:
    rvq-16k.
    """
    _refuse_terminals("mono PCM", "tokens")
    where = server_streams.choose(servers, token_file, authority)
    from ..jobs.pipes import PipeInput, PipeOutput

    if where is not None:
        _refuse_device(device)
        rate = sample_rate or server_streams.sample_rate_of(where, codec)
        with PipeInput(STDIN) as source, _signals(source) as caught:
            server_streams.run(
                where,
                "encode",
                codec,
                source,
                PipeOutput(STDOUT),
                stats=stats,
                codebooks=codebooks,
                frames=frames_per_chunk,
                input=_served_pcm(pcm_format, rate),
            )
        _exit_if(caught)
        return
    with PipeInput(STDIN) as source, _signals(source) as caught, _Stats("encode", stats) as printer:
        # Install the signal handlers first: importing torch takes seconds.
        from ..codecs.registry import load
        from ..jobs.pcm_stream import encode_pcm

        use_one_thread()
        tokenizer = load(codec, device=device)
        if tokenizer.spec.encoder_latency is None:
            click.echo(f"{codec} needs the whole input before it gives a token", err=True)
        encode_pcm(
            tokenizer,
            source,
            PipeOutput(STDOUT),
            pcm_format=pcm_format,
            sample_rate=sample_rate,
            num_codebooks=codebooks,
            frames_per_chunk=frames_per_chunk,
            progress=printer.progress,
        )
    _exit_if(caught)


@stream.command("decode", short_help=".syl to raw PCM.")
@click.argument("codec", required=False, metavar="[CODEC]")
@_pcm_format
@_sample_rate(
    "Of the samples that go out; default: the tokenizer's own. Another one is resampled to, which "
    "adds 36 ms to 48 kHz and 115 ms to 8 kHz."
)
@options.conceal
@_stats
@options.device
@server_streams.options(required=False)
def decode(
    codec: str | None,
    pcm_format: str,
    sample_rate: int | None,
    conceal: bool,
    stats: bool,
    device: str,
    servers: tuple[str, ...],
    token_file: str | None,
    authority: str | None,
) -> None:
    """Decode .syl on standard input into mono PCM on standard output.

    CODEC is the tokenizer to decode with; default: the one that the input names. A truncated input
    is decoded up to its last whole chunk, with exit code 1. With --conceal, damaged and missing
    chunks cost their own frames.
    """
    _refuse_terminals(".syl", "samples")
    where = server_streams.choose(servers, token_file, authority)
    from ..jobs.pipes import PipeInput, PipeOutput

    if where is not None:
        _refuse_device(device)
        if conceal:
            raise SyllabaryError("--conceal works here: a server takes whole input only")
        with PipeInput(STDIN) as source, _signals(source) as caught:
            header, head = _header(source, caught)
            whole = server_streams.run(
                where,
                "decode",
                codec or header.spec.tokenizer,
                source,
                PipeOutput(STDOUT),
                head=head,
                stats=stats,
                codebooks=header.num_codebooks,
                output=_served_pcm(pcm_format, sample_rate or header.spec.sample_rate),
            )
        _exit_if(caught)
        if not whole:
            sys.exit(1)
        return
    with PipeInput(STDIN) as source, _signals(source) as caught, _Stats("decode", stats) as printer:
        # Load before reading the header, which arrives when the other end of the pipe has loaded
        # its model.
        from ..codecs.container import ContainerWarning, SylReader
        from ..jobs.pcm_stream import decode_pcm
        from .decode import Tokenizers

        use_one_thread()
        # The report of a truncated input contains a warning.
        warnings.simplefilter("ignore", ContainerWarning)
        try:
            reader = SylReader(source, "standard input", recover=conceal)
        except ContainerError:
            _exit_if(caught)  # nothing has been decoded yet
            raise
        report = decode_pcm(
            Tokenizers(codec, device).for_file(reader),
            reader,
            source,
            PipeOutput(STDOUT),
            pcm_format=pcm_format,
            sample_rate=sample_rate,
            progress=printer.progress,
        )
    for note in report.notes:
        click.echo(note, err=True)
    if report.lost:
        click.echo(str(report.lost), err=True)
    _exit_if(caught)
    if report.partial:
        sys.exit(1)


@stream.command("transcode", short_help=".syl to .syl of another tokenizer, at a server.")
@click.argument("codec", metavar="CODEC")
@click.option(
    "--source", metavar="NAME", help="Tokenizer of the input; default: the one that it names."
)
@click.option("--codebooks", type=click.IntRange(min=1), metavar="N", help="Keep the first N.")
@click.option(
    "--frames-per-chunk", type=click.IntRange(min=1), default=1, show_default=True, metavar="N"
)
@_stats
@server_streams.options(required=True)
def transcode(
    codec: str,
    source: str | None,
    codebooks: int | None,
    frames_per_chunk: int,
    stats: bool,
    servers: tuple[str, ...],
    token_file: str | None,
    authority: str | None,
) -> None:
    """Turn the codes of one tokenizer into those of CODEC, through sound, at a server."""
    _refuse_terminals(".syl", "tokens")
    where = server_streams.choose(servers, token_file, authority)
    assert where is not None
    from ..jobs.pipes import PipeInput, PipeOutput

    with PipeInput(STDIN) as pipe, _signals(pipe) as caught:
        header, head = _header(pipe, caught)
        whole = server_streams.run(
            where,
            "transcode",
            codec,
            pipe,
            PipeOutput(STDOUT),
            head=head,
            stats=stats,
            source=source or header.spec.tokenizer,
            codebooks=codebooks,
            frames=frames_per_chunk,
        )
    _exit_if(caught)
    if not whole:
        sys.exit(1)


def _header(source: "PipeInput", caught: list[int]) -> tuple["SylReader", bytes]:
    try:
        return server_streams.read_header(source)
    except ContainerError:
        _exit_if(caught)  # nothing has been sent yet
        raise


def _served_pcm(pcm_format: str, sample_rate: int) -> "PCM":
    from ..serving.protocol import PCM

    try:
        return PCM(pcm_format, sample_rate)
    except ValueError as error:
        raise SyllabaryError(str(error)) from None


def _refuse_device(device: str) -> None:
    if device != "cpu":
        raise SyllabaryError("--device is for computing here; a server chooses its own")


def _refuse_terminals(taken: str, given: str) -> None:
    for descriptor, name in ((STDIN, "standard input"), (STDOUT, "standard output")):
        try:
            os.fstat(descriptor)
        except OSError:  # or the next file that is opened gets its number
            raise SyllabaryError(f"{name} is closed") from None
    if os.isatty(STDIN):
        raise SyllabaryError(f"expected {taken} on standard input, not a terminal: pipe it in")
    if os.isatty(STDOUT):
        raise SyllabaryError(
            f"standard output is a terminal, which {given} are not for: pipe them on, or say > FILE"
        )


@contextmanager
def _signals(source: "PipeInput") -> Iterator[list[int]]:
    """Make the first SIGINT or SIGTERM end the input; yields a list to which the signal is
    appended.
    """
    caught: list[int] = []
    before: dict[signal.Signals, Any] = {}

    def stop(number: int, frame: FrameType | None) -> None:
        caught.append(number)
        for each in before:
            signal.signal(each, signal.SIG_DFL)
        source.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        # Background processes of a shell ignore SIGINT, and should keep ignoring it.
        if signal.getsignal(number) != signal.SIG_IGN:
            before[number] = signal.signal(number, stop)
    try:
        yield caught
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _exit_if(caught: list[int]) -> None:
    if caught:
        sys.exit(128 + caught[0])


class _Stats:
    """Prints a report to standard error at the end of the work, also after an error."""

    def __init__(self, command: str, shown: bool) -> None:
        self.command, self.shown = command, shown
        self.live = shown and sys.stderr.isatty()
        self.report: LiveReport | None = None
        self.last = time.monotonic()

    def progress(self, report: "LiveReport") -> None:
        self.report = report
        now = time.monotonic()
        if self.live and now - self.last >= _BETWEEN_LIVE_LINES:
            self.last = now
            self._show(
                f"\r{self.command}: {report.seconds:.1f} s, {report.frames} frames, p99 "
                f"{_milliseconds(report.work.quantile(0.99))} a frame, "
                f"{_milliseconds(report.delays.quantile(0.99))} to output\x1b[K"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        report = self.report
        if not self.shown or report is None:
            return
        speed = report.seconds / report.work.total if report.work.total else 0
        design = "unbounded" if report.latency is None else _milliseconds(report.latency)
        tokens = report.bytes_out if self.command == "encode" else report.bytes_in
        kbps = tokens * 8 / 1000 / report.seconds if report.seconds else 0
        lines = (
            f"{report.frames} frames × {report.codebooks}, {report.seconds:.2f} s of audio, "
            f"{speed:.1f} × real time",
            f"processor time a frame: {_percentiles(report.work)}",
            f"latency: {design} by design; arrival to output {_percentiles(report.delays)}",
            f"{size(report.bytes_in)} in, {size(report.bytes_out)} out; tokens {kbps:.2f} kbit/s, "
            f"codes alone {report.bitrate / 1000:.2f}",
        )
        if self.live:
            self._show("\r\x1b[K")
        # A single write, since the other end of the pipe writes to the same terminal.
        self._show("".join(f"{self.command}: {line}\n" for line in lines))

    @staticmethod
    def _show(text: str) -> None:
        click.echo(text, err=True, nl=False)


def _percentiles(durations: "Histogram") -> str:
    p50, p99 = (_milliseconds(durations.quantile(part)) for part in (0.5, 0.99))
    return f"p50 {p50}, p99 {p99}, longest {_milliseconds(durations.largest)}"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"
