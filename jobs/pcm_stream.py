"""Convert between raw PCM and `.syl` chunks while input arrives; used by `syllabary stream`.

Runs in constant memory, with the session that `encode_file` and `decode_file` use, so the codes and
samples are the same.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..audio.pcm import PCMDecoder, PCMEncoder
from ..audio.resampling import Resampler, resampler_name
from ..codecs.container import LostFrames, SylReader, SylWriter, chunk_size
from ..codecs.streaming.latency import Histogram
from ..codecs.tokens import Tokens, check_same_tokenizer
from ..errors import ContainerError, WaveError
from .pipes import PipeInput, PipeOutput
from .token_blocks import restored

if TYPE_CHECKING:
    from ..codecs.interface import AudioTokenizer

_WARM_UP_FRAMES = 4  # enough for a family with look-ahead to give its first frames


@dataclass
class LiveReport:
    """Progress of a stream, updated while it runs.

    Attributes:
        sample_rate, frame_rate: of the tokenizer.
        codebooks: of tokens; a frame has one token for each.
        bitrate: bits per second of the codes alone.
        latency: algorithmic latency in seconds of this direction (encoder or decoder), without
            resamplers; None where the tokenizer needs the whole utterance.
        frames, samples: encoded, or decoded, so far.
        bytes_in, bytes_out: of the pipes.
        work: CPU time in seconds for each frame.
        delays: for each chunk, or block of audio: seconds from the arrival of the last bytes that
            it needed until its output was written.
        notes: for the user.
        partial: whether the source was truncated.
        lost: the frames that were lost and concealed, of a reader with `recover`; else None.
    """

    sample_rate: int
    codebooks: int
    bitrate: float
    latency: float | None
    frames: int = 0
    samples: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    work: Histogram = field(default_factory=Histogram)
    delays: Histogram = field(default_factory=Histogram)
    notes: list[str] = field(default_factory=list)
    partial: bool = False
    lost: LostFrames | None = None

    @property
    def seconds(self) -> float:
        """Seconds of audio so far."""
        return self.samples / self.sample_rate


Progress = Callable[[LiveReport], None]


def _no_progress(report: LiveReport) -> None:
    pass


def encode_pcm(
    tokenizer: "AudioTokenizer",
    source: PipeInput,
    target: PipeOutput,
    *,
    pcm_format: str = "s16le",
    sample_rate: int | None = None,
    num_codebooks: int | None = None,
    frames_per_chunk: int = 1,
    progress: Progress = _no_progress,
) -> LiveReport:
    """Encode raw PCM to a `.syl` file, writing each chunk as soon as it is full.

    Args:
        tokenizer: any; one that needs the whole utterance outputs its tokens at the end.
        source: mono samples.
        target: gets the header at once, before the first sample arrives.
        pcm_format: see `audio.pcm`.
        sample_rate: of the samples in Hz, resampled if it is not the tokenizer's; default: the
            tokenizer's.
        num_codebooks: keep the first so many codebooks.
        frames_per_chunk: each chunk adds 16 bytes; a larger chunk delays its first frame.
        progress: called with the report after every block.

    Raises:
        WaveError: a rate that can't be resampled; the samples hold NaN or infinity; or the source
            ends within a sample (all complete samples are encoded and the file is finished first).
        TokenError: an invalid number of codebooks or of frames per chunk.
        BrokenPipeError: the target's reader has closed it.
    """
    spec = tokenizer.spec
    rate = sample_rate or spec.sample_rate
    metadata: dict[str, Any] = {
        "source": {"name": "-", "sample_rate": rate, "channels": 1},
        "options": {"frames_per_chunk": frames_per_chunk},
    }
    resampler = None
    if rate != spec.sample_rate:
        resampler = Resampler(rate, spec.sample_rate)
        metadata["resampler"] = resampler_name()
    decoder = PCMDecoder(pcm_format)
    with tokenizer.stream(num_codebooks=num_codebooks) as session:
        writer = SylWriter(
            target,
            spec.tokens,
            num_codebooks=session.num_codebooks,
            metadata=metadata,
            chunk_positions=frames_per_chunk,
        )
        target.flush()
        _warm_up_encoder(tokenizer, session.num_codebooks)
        latency = None
        if spec.encoder_latency is not None:
            waiting = (frames_per_chunk - 1) * spec.tokens.hop
            latency = (spec.encoder_latency + waiting) / spec.sample_rate
        report = LiveReport(
            spec.sample_rate,
            session.num_codebooks,
            spec.tokens.bitrate(session.num_codebooks),
            latency,
        )

        def encode(samples: np.ndarray, final: bool) -> None:
            start = time.thread_time()
            if resampler:
                samples = resampler.push(samples, final)
            try:
                tokens = session.encode(samples, final=final)
            except WaveError as error:
                raise WaveError(f"standard input: {error}") from None
            writer.write(tokens)
            if final:
                writer.close()
            report.samples += len(samples)
            frames = int(tokens.lengths[0])
            _send(report, source, target, frames, start)
            progress(report)

        while data := source.arrivals():
            samples = decoder.push(data)
            # One second at a time, so that a signal need not wait for a whole backlog, and since
            # few bytes at a low rate may become many samples.
            for at in range(0, len(samples), rate):
                if not source.stopped:
                    encode(samples[at : at + rate], final=False)
        encode(np.zeros(0, np.float32), final=True)
    if decoder.leftover and not source.stopped:
        raise WaveError(
            f"standard input ends within a sample: {source.bytes_read} bytes of {pcm_format}; what "
            "came before was encoded"
        )
    return report


def decode_pcm(
    tokenizer: "AudioTokenizer",
    reader: SylReader,
    source: PipeInput,
    target: PipeOutput,
    *,
    pcm_format: str = "s16le",
    sample_rate: int | None = None,
    progress: Progress = _no_progress,
) -> LiveReport:
    """Decode a `.syl` file to raw PCM, each chunk as soon as it arrives.

    Only the end of a file tells how many samples of its last frame are valid, so the samples of
    the latest frame are held back until more arrives. That adds no delay if the decoder lags by a
    frame or more anyway.

    Args:
        tokenizer: the one that made the tokens.
        reader: of `source`. With `recover`, lost frames are concealed as soon as a later chunk
            tells that they are, and the report tells which they were.
        source: positioned right after the reader's header.
        target: gets mono samples.
        pcm_format: see `audio.pcm`.
        sample_rate: of the samples in Hz; default: the tokenizer's.
        progress: called with the report after every block.

    Raises:
        ContainerError: a chunk is damaged, or the source ends before its first whole chunk. The
            audio of earlier chunks was output.
        TokenMismatchError, TokenError: as for `AudioTokenizer.decode`.
        WaveError: a rate that can't be resampled to.
        BrokenPipeError: the target's reader has closed it.

    Warns:
        ContainerWarning: the source is truncated; everything before the cut was decoded.
    """
    spec = tokenizer.spec
    check_same_tokenizer(reader.spec, spec.tokens)
    _warm_up_decoder(tokenizer, reader.num_codebooks)
    rate = sample_rate or spec.sample_rate
    resampler = None if rate == spec.sample_rate else Resampler(spec.sample_rate, rate)
    encoder = PCMEncoder(pcm_format)
    hop = spec.tokens.hop
    latency = None
    if spec.decoder_latency is not None:
        latency = max(spec.decoder_latency, hop) / spec.sample_rate
    report = LiveReport(
        spec.sample_rate,
        reader.num_codebooks,
        spec.tokens.bitrate(reader.num_codebooks),
        latency,
    )
    held = np.zeros(0, np.float32)

    def speak(wave: np.ndarray, frames: int, settled: int, start: float, final: bool) -> None:
        """Write the samples before position `settled` of the audio, and hold back the rest."""
        nonlocal held
        held = np.concatenate([held, wave])
        ready, held = np.split(held, [settled - report.samples])
        report.samples += len(ready)
        if resampler:
            ready = resampler.push(ready, final)
        target.write(encoder.push(ready))
        _send(report, source, target, frames, start)
        progress(report)

    def decode(codes: np.ndarray, gone: np.ndarray) -> None:
        start = time.thread_time()
        frames = codes.shape[1]
        lost = gone[None] if gone.any() else None
        tokens = reader.tokens_of(codes, frames * hop)
        wave = session.decode(tokens, lost=lost)[0].cpu().numpy()
        speak(wave, frames, (report.frames + frames - 1) * hop, start, final=False)

    damage = None
    with tokenizer.stream(num_codebooks=reader.num_codebooks) as session:
        try:
            _as_they_come(reader, source, math.ceil(spec.frame_rate), decode)
        except ContainerError as error:
            damage = error
        start = time.thread_time()
        rest = session.flush().wave
        wave = held[:0] if rest is None else rest[0].cpu().numpy()
        total = report.frames * hop if reader.num_samples is None else reader.num_samples
        speak(wave, 0, total, start, final=True)
    if encoder.clipped:
        report.notes.append(f"{encoder.clipped} samples clamped to [-1, 1]")
    if damage:
        raise damage
    if reader.recover:
        report.lost = reader.lost
    if not reader.complete and not reader.length_known and not source.stopped:
        if not report.frames:
            raise ContainerError(f"{reader.name}: cut short before its first whole chunk")
        report.notes.append("cut short: what came before the cut was decoded")
        report.partial = True
    elif reader.complete:
        reader.check_end()
    return report


def _as_they_come(
    reader: SylReader,
    source: PipeInput,
    most: int,
    decode: Callable[[np.ndarray, np.ndarray], None],
) -> None:
    """Decode every chunk when it arrives, and chunks that arrived together in one call.

    That works off a backlog many times faster than frame by frame. `decode` takes codes (codebooks,
    frames) and which of the frames are lost.
    """
    waiting: list[np.ndarray] = []
    lost: list[np.ndarray] = []

    def decode_waiting() -> None:
        if waiting:
            codes, gone = np.concatenate(waiting, axis=1), np.concatenate(lost)
            waiting.clear()
            lost.clear()
            decode(codes, gone)

    try:
        for chunk in reader.chunks(past_end=False):
            for codes in restored(chunk, most):
                if source.stopped:
                    return
                waiting.append(codes)
                lost.append(np.full(codes.shape[1], chunk.lost))
                size = chunk_size(source.peek(16))
                another = not reader.held and size is not None and size <= source.waiting
                if not another or sum(part.shape[1] for part in waiting) >= most:
                    decode_waiting()
    finally:
        decode_waiting()


def _send(
    report: LiveReport, source: PipeInput, target: PipeOutput, frames: int, start: float
) -> None:
    if frames:
        report.work.add((time.thread_time() - start) / frames, frames)
    report.frames += frames
    before = target.bytes_written
    target.flush()
    if target.bytes_written > before:
        report.delays.add(time.perf_counter() - source.arrived)
    report.bytes_in, report.bytes_out = source.bytes_read, target.bytes_written


def _warm_up_encoder(tokenizer: "AudioTokenizer", num_codebooks: int) -> None:
    """Run the encoder once, so that kernels are compiled before the first frame arrives."""
    with tokenizer.stream(num_codebooks=num_codebooks) as session:
        for _ in range(_WARM_UP_FRAMES):
            session.encode(np.zeros(tokenizer.spec.tokens.hop, np.float32))


def _warm_up_decoder(tokenizer: "AudioTokenizer", num_codebooks: int) -> None:
    spec = tokenizer.spec.tokens
    frame = Tokens(
        codes=torch.zeros(1, num_codebooks, 1, dtype=torch.long),
        lengths=torch.tensor([1]),
        num_samples=torch.tensor([spec.hop]),
        spec=spec,
        global_codes=torch.zeros(1, len(spec.global_codebook_sizes), dtype=torch.long)
        if spec.global_codebook_sizes
        else None,
    )
    with tokenizer.stream(num_codebooks=num_codebooks) as session:
        for _ in range(_WARM_UP_FRAMES):
            session.decode(frame)
