"""Encode one audio file to `.syl`, or decode one `.syl` file to audio, in constant memory."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath
from threading import Event
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import torch

from ..audio.files import AudioReader, AudioWriter, Channels, Clipping
from ..audio.manifests import Utterance
from ..audio.resampling import resampled_length, resampler_name
from ..codecs.container import LostFrames, SylReader, SylWriter
from ..codecs.tokens import Tokens, check_same_tokenizer
from ..errors import AudioFileError, ContainerError, WaveError
from ..filesystem import content_digest, printable, replacing, spooled
from .token_blocks import DecodedPieces, TokenCoder, frames_of

if TYPE_CHECKING:
    from ..codecs.interface import AudioTokenizer
    from ..codecs.streaming import StreamSession


# Seconds after which the time of a change is sure to differ from that of the next one.
_SETTLED = 2.0


@dataclass(frozen=True)
class FileReport:
    """Result of encoding or decoding one file.

    Attributes:
        seconds: of audio.
        frames: of tokens.
        codebooks: of tokens; a frame has one token for each.
        size: of the output in bytes.
        elapsed: processing time in seconds.
        notes: changes to the audio that the user should know of.
        saving: share of the codes' bytes that entropy coding saved, if requested.
        partial: whether the source was truncated, so that only a part of it was processed.
        lost: the frames that were lost and concealed, of a reader with `recover`; else None.
    """

    seconds: float
    frames: int
    codebooks: int
    size: int
    elapsed: float
    notes: list[str] = field(default_factory=list)
    saving: float | None = None
    partial: bool = False
    lost: LostFrames | None = None

    @property
    def kbps(self) -> float:
        """Kilobits per second of audio, counting the whole file."""
        return self.size * 8 / 1000 / self.seconds if self.seconds else 0.0


def encode_file(
    tokenizer: "AudioTokenizer",
    source: Path | Utterance,
    target: Path | IO[bytes],
    *,
    name: str | None = None,
    channels: Channels = "mix",
    num_codebooks: int | None = None,
    compress: bool = False,
    stop: Event | None = None,
    coder: TokenCoder | None = None,
) -> FileReport:
    """Encode an audio file of any length to a `.syl` file, which appears whole or not at all.

    Args:
        tokenizer: any.
        source: audio file, or an utterance, which may be a segment of one.
        target: path, or an open binary file (a pipe will do).
        name: of the source, for the metadata; default: its file name.
        channels: how to treat several channels; noted in the metadata and the report.
        num_codebooks: keep the first so many codebooks.
        compress: entropy-code the payload.
        stop: once set, the work ends with `Stopped`.
        coder: transforms the tokens before they are written, which needs all of them in memory.

    The metadata has the source's name, size, SHA-256, rate and channels, its `segment` (first
    sample and number of samples) if it is one, what its manifest says of the utterance (see
    `described`), the options, and the resampler.

    Raises:
        AudioFileError, WaveError, TokenError: from reading, encoding and writing.
    """
    if isinstance(target, Path):
        with replacing(target) as temporary, temporary.open("wb") as file:
            return encode_file(
                tokenizer,
                source,
                file,
                name=name,
                channels=channels,
                num_codebooks=num_codebooks,
                compress=compress,
                stop=stop,
                coder=coder,
            )
    start = time.perf_counter()
    spec = tokenizer.spec
    notes = []
    peak = 0.0
    given = _utterance(source)
    shown = "-" if name == "-" else str(given.path)
    with readable(given) as item, item.open(channels, shown) as reader:
        metadata: dict[str, Any] = {
            "source": {
                "name": name or printable(source.name),
                "bytes": item.path.stat().st_size,
                "sha256": source_digest(item),
                "sample_rate": reader.sample_rate,
                "channels": reader.num_channels,
            },
            "options": {"channels": channels, "compress": compress},
        }
        if known := described(given):
            metadata["utterance"] = known
        if reader.segment is not None:
            metadata["source"]["segment"] = list(reader.segment)
            notes.append("a segment of the file, as the manifest says")
        if reader.num_channels > 1:
            what = {"mix": "averaged", "first": "the first one used"}.get(
                str(channels), f"channel {channels} used"
            )
            notes.append(f"{reader.num_channels} channels: {what}")
        if reader.sample_rate != spec.sample_rate:
            metadata["resampler"] = resampler_name()
            notes.append(f"resampled from {reader.sample_rate} Hz ({resampler_name()})")
        kept = num_codebooks if coder is None else coder.num_codebooks
        settings: dict[str, Any] = {"metadata": metadata, "compress": compress}
        length = reader.num_samples
        if length is not None:
            length = resampled_length(length, reader.sample_rate, spec.sample_rate)
        with tokenizer.stream(num_codebooks=kept) as session:
            encoded = _encoded(session, reader, stop)
            if coder is None:
                with SylWriter(
                    target, spec.tokens, num_codebooks=kept, num_samples=length, **settings
                ) as writer:
                    for tokens, loudest in encoded:
                        peak = max(peak, loudest)
                        writer.write(tokens)
            else:
                parts, peaks = zip(*encoded, strict=True)
                peak = max(peaks)
                writer = _write_all(target, coder.encode(Tokens.concat(parts)), **settings)
    if peak > 2:
        notes.append("samples far beyond [-1, 1], which tokenizers are made for")
    saving = 1 - writer.coded_bytes / max(1, writer.packed_bytes) if compress else None
    return FileReport(
        seconds=session.samples_in[0] / spec.sample_rate,
        frames=session.frames_out[0],
        codebooks=session.num_codebooks,
        size=writer.bytes_written,
        elapsed=time.perf_counter() - start,
        notes=notes,
        saving=saving,
    )


def source_digest(item: Utterance) -> str:
    """SHA-256 (hex) of the file of an utterance; that of a file with segments is kept for the next.

    A file that was written in the last seconds may still change without a trace in its times, so
    its digest is not kept.
    """
    stat = item.path.stat()
    if item.segment() is None or time.time() - stat.st_ctime < _SETTLED:
        return content_digest(item.path)
    return _digest(item.path, stat.st_ino, stat.st_size, stat.st_ctime_ns)


@lru_cache(maxsize=256)
def _digest(path: Path, inode: int, size: int, changed: int) -> str:
    return content_digest(path)


def described(item: Utterance) -> dict[str, str]:
    """Return what a manifest says of an utterance: its `speaker`, `text`, `split` and `lang`."""
    said = {"speaker": item.speaker, "text": item.text, "split": item.split, "lang": item.language}
    return {name: value for name, value in said.items() if value is not None}


def _utterance(source: Path | Utterance) -> Utterance:
    if isinstance(source, Utterance):
        return source
    return Utterance(source, PurePosixPath(source.name), stream=True)


@contextmanager
def readable(item: Utterance) -> Iterator[Utterance]:
    """Yield the utterance, copied to a temporary file if it can be read only once (a FIFO).

    Raises:
        AudioFileError: there is no file.
    """
    item.check_file()
    if not item.path.exists():
        raise AudioFileError(f"{item.path}: no such file")
    with spooled(item.path) as path:
        yield replace(item, path=path)


def encode_audio(
    tokenizer: "AudioTokenizer",
    source: Path | Utterance,
    *,
    name: str | None = None,
    channels: Channels = "mix",
    num_codebooks: int | None = None,
) -> Tokens:
    """Encode an audio file of any length, resampled as needed, as `encode_file` does.

    Raises:
        AudioFileError, WaveError, TokenError: from reading and encoding.
    """
    with (
        _utterance(source).open(channels, "-" if name == "-" else None) as reader,
        tokenizer.stream(num_codebooks=num_codebooks) as session,
    ):
        return Tokens.concat([tokens for tokens, _ in _encoded(session, reader, None)])


def _encoded(
    session: "StreamSession", reader: AudioReader, stop: Event | None
) -> Iterator[tuple[Tokens, float]]:
    """Yield the tokens of each block of the file, and the block's peak magnitude."""
    rate = session.tokenizer.spec.sample_rate
    for block, last in reader.stream_blocks(rate):
        _heed(stop)
        try:
            tokens = session.encode(block, final=last)
        except WaveError as error:
            raise WaveError(f"{reader.name}: {error}") from None
        yield tokens, float(np.abs(block).max(initial=0))


def _write_all(file: IO[bytes], tokens: Tokens, **settings: Any) -> SylWriter:
    """Write one utterance to a `.syl` file; return the writer, for its counts."""
    global_codes = None if tokens.global_codes is None else tokens.global_codes[0].tolist()
    with SylWriter(
        file,
        tokens.spec,
        has_durations=tokens.durations is not None,
        global_codes=global_codes,
        num_samples=int(tokens.num_samples[0]),
        **settings,
    ) as writer:
        writer.write(tokens)
    return writer


def decode_file(
    tokenizer: "AudioTokenizer",
    source: SylReader,
    target: Path | IO[bytes],
    *,
    audio_format: str | None = None,
    clipping: Clipping = "clamp",
    stop: Event | None = None,
    coder: TokenCoder | None = None,
    comment: str | None = None,
) -> FileReport:
    """Decode a `.syl` file of any length to an audio file, which appears whole or not at all.

    Args:
        tokenizer: the one that made the tokens.
        source: an open reader. With `recover`, lost frames are concealed (see
            `StreamSession.decode`), and the report tells which they are.
        target: path, or an open seekable binary file.
        audio_format: see `AudioWriter`; required if `target` is not a path.
        clipping: how to treat samples beyond [-1, 1].
        stop: once set, the work ends with `Stopped`.
        coder: the one that transformed the tokens, to undo it; needs all of them in memory.
        comment: a text to store in the audio file, if `target` is a path.

    Raises:
        ContainerError, TokenMismatchError, TokenError, WaveError: from reading, decoding and
            writing.

    Warns:
        ContainerWarning: the file is truncated; everything before the cut is decoded.
    """
    check_same_tokenizer(source.spec, tokenizer.spec.tokens if coder is None else coder.spec)
    if isinstance(target, Path):
        with replacing(target) as temporary:
            rate = tokenizer.spec.sample_rate
            writer = AudioWriter(temporary, rate, audio_format, clipping, target, comment)
            report = _decode(tokenizer, source, writer, stop, coder)
            return replace(report, size=temporary.stat().st_size)
    writer = AudioWriter(target, tokenizer.spec.sample_rate, audio_format, clipping)
    return _decode(tokenizer, source, writer, stop, coder)


def _decode(
    tokenizer: "AudioTokenizer",
    source: SylReader,
    writer: AudioWriter,
    stop: Event | None,
    coder: TokenCoder | None,
) -> FileReport:
    start = time.perf_counter()
    # One second at a time: a chunk's samples may take a thousand times its bytes.
    most = math.ceil(tokenizer.spec.frame_rate)
    spans: list[tuple[int, int]] = []
    with writer, tokenizer.stream() as session:
        for tokens, last, gone in frames_of(
            source if coder is None else DecodedPieces(source, coder), most
        ):
            _heed(stop)
            before, frames = session.frames_in[0], tokens.codes.shape[2]
            lost = torch.ones(1, frames, dtype=torch.bool) if gone else None
            writer.write(session.decode(tokens, final=last, lost=lost)[0].cpu().numpy())
            if gone and frames:
                spans.append((before, before + frames))
    notes = [f"{writer.clipped} samples clamped to [-1, 1]"] if writer.clipped else []
    if not source.complete and not source.length_known:
        if not session.frames_in[0]:
            raise ContainerError(f"{source.name}: cut short before its first whole chunk")
        notes.append("cut short: what came before the cut was decoded")
    lost_frames = None
    if source.recover:
        lost_frames = LostFrames.of(
            spans,
            session.frames_in[0],
            tokenizer.spec.tokens.frame_rate,
            source.length_known is True,
        )
    return FileReport(
        seconds=session.samples_out[0] / tokenizer.spec.sample_rate,
        frames=session.frames_in[0],
        codebooks=source.num_codebooks,
        size=0,
        elapsed=time.perf_counter() - start,
        notes=notes,
        partial=not source.length_known,
        lost=lost_frames,
    )


class Stopped(Exception):
    """Processing a file was stopped on request."""


def _heed(stop: Event | None) -> None:
    if stop is not None and stop.is_set():
        raise Stopped
