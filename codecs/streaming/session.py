"""`StreamSession`: encode and decode audio in chunks."""

import operator
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from ...errors import StateError, TokenError, WaveError
from ...plain_torch import plainly
from ..batches import (
    batch_of_rows,
    check_codebooks,
    code_batch,
    latent_batch,
    latents_of_rows,
    rows_of_batch,
    tokens_of_rows,
)
from ..latents import Latents, latent_channels
from ..spec import TokenizerSpec
from ..tokens import Tokens
from ..waves import Wave, given_batch, warn_of_levels
from .concealment import Concealment
from .latency import StreamStats, StreamTiming
from .migration import check_identity, check_promise, identity, pack, unpack
from .protocol import (
    DecoderStream,
    EncoderStream,
    Rest,
    RowStream,
    row_flags,
)
from .rates import RowResampler
from .rows import RowProgress
from .state import flatten, rebuild, size_in_bytes
from .tokenizer import StreamingTokenizer

#: What a session takes: samples, or bytes of 16-bit PCM for a single row.
Chunk = Wave | bytes | bytearray | memoryview


_nothing = nullcontext()
#: Calls in which a session looks for samples far beyond full scale.
_CALLS_WATCHED = 100


@dataclass(frozen=True)
class StreamEnd:
    """The remaining output of a session when it was flushed.

    Attributes:
        tokens: the last frames; None if the session never encoded, or its last call for frames was
            `latents`.
        wave: (batch, samples) the last samples, including those of `tokens` or `latents`; None if
            the session never decoded.
        latents: the last frames if the session's last call for frames was `latents`, else None.
    """

    tokens: Tokens | None
    wave: Tensor | None
    latents: Latents | None = None


class StreamSession:
    """Encode and decode in chunks; codes and samples equal those of the offline calls.

    Chunks may have any size. Rows are independent: each may start, pause (with chunks of length 0),
    end (`final`) and restart (`reset`) at any time, and may move to another session (`export_row`,
    `import_row`).

    A session needs the weights that it was opened with. After they have changed, its calls raise
    `StateError`, since its state was computed with the old ones.

    A session that encodes and decodes is meant for a loop-back: `flush` also decodes the last
    tokens. A session must not be shared between threads; the tokenizer may be, so open one session
    per thread, or use a `StreamPool`.

    Attributes:
        sample_rate: in Hz, of the samples that it takes and returns.
        samples_in, frames_out: (per row) samples taken and frames returned so far.
        frames_in, samples_out: (per row) frames taken and samples returned so far.
    """

    def __init__(
        self,
        tokenizer: StreamingTokenizer,
        batch_size: int,
        num_codebooks: int,
        sample_rate: int | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self.num_codebooks = num_codebooks
        self.timing = StreamTiming()
        self._encoder: EncoderStream | None = None
        self._decoder: DecoderStream | None = None
        self._taken = 0  # samples of the last call for frames, of all rows
        self._as_latents = False  # how the last frames were asked for
        self._closed = False
        self._identity = tokenizer.identity()
        self._device = tokenizer.device
        self._full_digest: str | None = None
        self._rows = [self._new_row() for _ in range(batch_size)]
        self._concealment: Concealment | None = None
        self._hop = self._spec.tokens.hop  # cached: dividing fractions in every call is too slow
        self._warned = False
        self._headers: dict[tuple[str, ...], dict[str, Any]] = {}  # of exported rows
        own = self._spec.sample_rate
        #: Of the samples that the session takes and returns.
        self.sample_rate = own if sample_rate is None else sample_rate
        self._resamplers_in: list[RowResampler] | None = None
        self._resamplers_out: list[RowResampler] | None = None
        if self.sample_rate != own:
            self._resamplers_in = [RowResampler(self.sample_rate, own) for _ in range(batch_size)]
            self._resamplers_out = [RowResampler(own, self.sample_rate) for _ in range(batch_size)]

    def __repr__(self) -> str:
        own, rows = self._spec.sample_rate, self.batch_size
        rate = (
            f"{own} Hz" if self._resamplers_in is None else f"{self.sample_rate} Hz (as {own} Hz)"
        )
        state = "ended, " if self._closed else ""
        encoded = sum(self.samples_in) / self.sample_rate
        decoded = sum(self.samples_out) / self.sample_rate
        return (
            f"StreamSession({self._spec.tokens.tokenizer!r}, {state}{rows} "
            f"row{'s' if rows > 1 else ''}, {rate}, {encoded:.2f} s encoded, {decoded:.2f} s "
            "decoded)"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self._encoder = self._decoder = None
        self._closed = True

    # --- properties ------------------------------------------------------------------------------

    @property
    def samples_in(self) -> list[int]:
        if self._resamplers_in is not None:
            return [row.taken for row in self._resamplers_in]
        return [row.samples_in for row in self._rows]

    @property
    def frames_out(self) -> list[int]:
        return [row.frames_out for row in self._rows]

    @property
    def frames_in(self) -> list[int]:
        return [row.frames_in for row in self._rows]

    @property
    def samples_out(self) -> list[int]:
        if self._resamplers_out is not None:
            return [row.given for row in self._resamplers_out]
        return [row.samples_out for row in self._rows]

    @property
    def stats(self) -> StreamStats:
        """Durations of the calls so far, and the algorithmic latency."""
        return self.timing.stats(self._spec)

    @property
    def state_bytes(self) -> list[int]:
        """(per row) bytes of the encoder and decoder states in use.

        Constant, except for tokenizers that declare that they can't keep `constant-memory`.
        """
        machines = [machine for machine in (self._encoder, self._decoder) if machine is not None]
        return [
            sum(size_in_bytes(machine.export_row(row)) for machine in machines)
            for row in range(self.batch_size)
        ]

    # --- encode and decode -----------------------------------------------------------------------

    def encode(
        self,
        chunk: Chunk,
        lengths: Tensor | Sequence[int] | None = None,
        final: bool | np.bool_ | Sequence[bool | np.bool_] = False,
    ) -> Tokens:
        """Take more samples and return the frames that they complete, possibly none.

        Args:
            chunk: (batch, samples), or (samples,) for a session of one row, at the session's
                sample rate, and otherwise as for `AudioTokenizer.encode`. Or, for one row, bytes of
                16-bit PCM (little-endian).
            lengths: (batch,) valid samples of each row in this chunk; default: all. A row of length
                0 pauses.
            final: whether the audio ends with this chunk, for all rows or (batch,) for each. An
                ended row takes no more input until it is reset.

        Returns:
            `Tokens` of the new frames only. `Tokens.concat` of all of them equals the offline
            result.

        Raises:
            WaveError: as in `AudioTokenizer.encode`; or samples for a row that has ended, or in a
                session that has; or bytes that end within a sample.
            StateError: the tokenizer's weights have changed.
        """
        self._check_open("encode")
        if self.num_codebooks < 1:
            check_codebooks(self.num_codebooks, self._spec)
        alone = self._encoder is not None and self._encoder.compiled
        alone &= self.timing.encode.calls >= _CALLS_WATCHED
        if alone and not torch.is_inference_mode_enabled():
            return self._encode(chunk, lengths, final)
        return self._encode_plainly(chunk, lengths, final)

    def _encode(
        self,
        chunk: Chunk,
        lengths: Tensor | Sequence[int] | None,
        final: bool | np.bool_ | Sequence[bool | np.bool_],
    ) -> Tokens:
        begun = time.perf_counter()
        codes, frames, taken, rest = self._advance(chunk, lengths, final, as_latents=False)
        counts = torch.from_numpy(np.array([frames, taken], np.int64)).to(self._device)
        tokens = Tokens.of_checked(codes, counts[0], counts[1], self._spec.tokens)
        rest()
        self.timing.encode.record(time.perf_counter() - begun, sum(frames), self._taken)
        return tokens

    _encode_plainly = plainly(_encode)

    @plainly
    def latents(
        self,
        chunk: Chunk,
        lengths: Tensor | Sequence[int] | None = None,
        final: bool | np.bool_ | Sequence[bool | np.bool_] = False,
    ) -> Latents:
        """Take more samples and return the latents of the frames that they complete.

        Like `encode`, of which it is the other form: samples are given to one of both, and each
        frame comes out once, as codes or as latents.

        Args:
            chunk, lengths, final: as for `encode`.

        Returns:
            `Latents` of the new frames only. `Latents.concat` of all of them equals the offline
            result, to the bit.

        Raises:
            WaveError, StateError: as for `encode`.
            LatentsError: the tokenizer has no latents.
        """
        self._check_open("encode")
        latent_channels(self._spec)
        begun = time.perf_counter()
        vectors, frames, taken, rest = self._advance(chunk, lengths, final, as_latents=True)
        rest()
        counts = torch.tensor([frames, taken], dtype=torch.long, device=vectors.device)
        self.timing.encode.record(time.perf_counter() - begun, sum(frames), self._taken)
        return Latents(vectors, counts[0], counts[1], self._spec.tokens)

    def _advance(
        self,
        chunk: Chunk,
        lengths: Tensor | Sequence[int] | None,
        final: bool | np.bool_ | Sequence[bool | np.bool_],
        as_latents: bool,
    ) -> tuple[Tensor, list[int], list[int], Rest]:
        """Encode a chunk; return new frames, how many each row has, their samples, and what is left
        to do.

        Frames are codes (batch, codebooks, frames) or latents (batch, frames, channels).
        """
        self._check_weights()
        device = self._device
        finite = as_latents or self._encoder is None or not self._encoder.compiled
        # Later calls are spared: integers that were not divided are loud from the start.
        watching = not self._warned and self.timing.encode.calls < _CALLS_WATCHED
        finite |= watching or self._resamplers_in is not None
        samples, counts = given_batch(_samples(chunk), lengths, self.batch_size, finite)
        if watching:
            depth = 5 if as_latents else 6
            self._warned = warn_of_levels(rows_of_batch(samples, counts), depth)
        ending = row_flags(final, self.batch_size)
        for index, (count, state) in enumerate(zip(counts, self._rows, strict=True)):
            if state.encode_ended:
                if count:
                    raise WaveError(f"row {index} has ended; reset it before it takes more samples")
                ending[index] = False
        encoder = self._encoder_at_work()
        if device.type != "cpu":
            samples = samples.to(device)
        if self._resamplers_in is not None:
            rows = rows_of_batch(samples, counts)
            turns = zip(self._resamplers_in, rows, ending, strict=True)
            samples, counts = batch_of_rows([each.push(row, end) for each, row, end in turns], 0)
        with _without_autocast(device):
            found, frames, rest = encoder.start_batch(samples, counts, ending, as_latents)
        self._as_latents = as_latents
        hop = self._hop
        num_samples = []
        for state, count, new, end in zip(self._rows, counts, frames, ending, strict=True):
            start = state.frames_out * hop
            state.samples_in += count
            state.frames_out += new
            state.encode_ended |= end
            num_samples.append(max(0, min(state.samples_in, state.frames_out * hop) - start))
        self._taken = sum(counts)
        return found, frames, num_samples, rest

    def decode(
        self,
        tokens: Tokens | Latents | None,
        final: bool | np.bool_ | Sequence[bool | np.bool_] = False,
        lost: Tensor | np.ndarray | None = None,
    ) -> Tensor:
        """Take more frames and return the samples that they complete, possibly none.

        Args:
            tokens: from this tokenizer, with as many rows as the session; or `Latents`, if the spec
                says `decodes_latents`. Calls with both may alternate. None: a frame was lost in
                every row that has not ended.
            final: whether the tokens end here, for all rows or (batch,) for each: the remaining
                samples are returned.
            lost: (batch, frames) bool: frames that never arrived. They keep their time, and what is
                heard in their place is made of the last one that did, whatever their codes or
                latents are; see `codecs/streaming/concealment.py`.

        Returns:
            (batch, samples) float32, where rows with fewer samples are padded with zeros;
            `samples_out` counts without the padding.

        Raises:
            TokenError, TokenMismatchError, LatentsError: as in `AudioTokenizer.decode`; or frames
                follow a partial last frame.
            WaveError: frames for a row that has ended, or in a session that has; or the number of
                rows differs.
            StateError: the tokenizer's weights have changed.
        """
        self._check_open("decode")
        alone = self._decoder is not None and self._decoder.compiled
        alone &= type(tokens) is Tokens and lost is None
        if alone and not torch.is_inference_mode_enabled():
            return self._decode(tokens, final, None)
        return self._decode_plainly(tokens, final, lost)

    def _decode(
        self,
        tokens: Tokens | Latents | None,
        final: bool | np.bool_ | Sequence[bool | np.bool_],
        lost: Tensor | np.ndarray | None,
    ) -> Tensor:
        begun = time.perf_counter()
        self._check_weights()
        if tokens is None:
            tokens = self._lost_frames()
            lost = torch.ones(self.batch_size, 1, dtype=torch.bool)
        as_latents, device = isinstance(tokens, Latents), self._device
        if isinstance(tokens, Latents):
            given, frames = latent_batch(tokens, self._spec, device)
        else:
            given, frames = code_batch(tokens, self._spec, device)
        if len(frames) != self.batch_size:
            raise WaveError(f"this stream has {self.batch_size} rows, got {len(frames)}")
        ending = row_flags(final, self.batch_size)
        hop = self._hop
        for index, (new, state) in enumerate(zip(frames, self._rows, strict=True)):
            if new and state.decode_ended:
                raise WaveError(f"row {index} has ended; reset it before it takes more frames")
            if new and state.samples_due < state.frames_in * hop:
                raise TokenError(f"row {index} has ended already: its last frame was cut short")
            ending[index] &= not state.decode_ended
        decoder = self._decoder_at_work()
        if lost is not None:
            rows = rows_of_batch(given, frames, 0 if as_latents else 1)
            rows = self._concealed(rows, frames, lost)
            as_latents = self._spec.decodes_latents
            given, _ = batch_of_rows(rows, 0 if as_latents else 1)
        else:
            self._arrived(given, frames, as_latents)
        with _without_autocast(device):
            out, lengths, rest = decoder.start_batch(given, frames, ending, as_latents)
        counts = tokens.num_samples.tolist()
        cut = []  # rows whose last frame is partial
        for index, state in enumerate(self._rows):
            state.frames_in += frames[index]
            state.samples_due += counts[index]
            left = state.samples_due - state.samples_out
            if lengths[index] > left:
                lengths[index] = left
                cut.append((index, left))
            state.samples_out += lengths[index]
            state.decode_ended |= ending[index]
        rest()
        for index, left in cut:
            out[index, left:] = 0
        if cut:
            out = out[:, : max(lengths)]
        if self._resamplers_out is not None:
            turns = zip(self._resamplers_out, rows_of_batch(out, lengths), ending, strict=True)
            out, _ = batch_of_rows([each.push(wave, end) for each, wave, end in turns], 0)
        self.timing.decode.record(time.perf_counter() - begun, sum(frames), sum(counts))
        return out

    _decode_plainly = plainly(_decode)

    def _arrived(self, given: Tensor, frames: Sequence[int], as_latents: bool) -> None:
        """Note the last of so many frames of each row, of codes (batch, codebooks, frames) or
        latents (batch, frames, channels).
        """
        if not as_latents and given.device.type == "cpu":
            self._arrived_here(given.numpy(), frames)
            return
        for row, (state, count) in enumerate(zip(self._rows, frames, strict=True)):
            if count:
                state.arrived(given[row, :count] if as_latents else given[row, :, :count])

    def _arrived_here(self, codes: np.ndarray[Any, Any], frames: Sequence[int]) -> None:
        """`_arrived` on the CPU, where NumPy takes a fraction of torch's time for a number."""
        kept = codes.shape[1]
        for row, (state, count) in enumerate(zip(self._rows, frames, strict=True)):
            if count:
                state.lost, state.came_as_latents = 0, False
                last = state.last.numpy()
                last[:kept] = codes[row, :, count - 1]
                last[kept:] = -1

    def _lost_frames(self) -> Tokens | Latents:
        """Return a frame for every row that has not ended, of values that do not matter."""
        going = [0 if row.decode_ended else 1 for row in self._rows]
        counts, here = [count * self._hop for count in going], torch.device("cpu")
        if not self.num_codebooks:
            vectors = [torch.zeros(count, latent_channels(self._spec)) for count in going]
            return latents_of_rows(vectors, counts, self._spec, here)
        rows = [torch.zeros(self.num_codebooks, count, dtype=torch.long) for count in going]
        return tokens_of_rows(rows, counts, self.num_codebooks, self._spec, here)

    def _concealed(
        self, rows: list[Tensor], frames: list[int], lost: Tensor | np.ndarray
    ) -> list[Tensor]:
        """Return the rows' frames without gaps; see `Concealment.fill`.

        Args:
            rows: codes (codebooks, frames) or latents (frames, channels).
            frames: in each row.
            lost: as for `decode`.

        Raises:
            TokenError: a mask of another shape or dtype.
        """
        mask = torch.as_tensor(lost)
        shape = (self.batch_size, max(frames))
        if mask.dtype != torch.bool or mask.ndim != 2 or mask.shape[0] != shape[0]:
            raise TokenError(
                f"lost must be bool of shape (batch, frames), here {shape}, got {mask.dtype} "
                f"{tuple(mask.shape)}"
            )
        if mask.shape[1] < shape[1]:
            raise TokenError(f"lost is for {mask.shape[1]} frames, and there are {shape[1]}")
        if self._concealment is None:
            self._concealment = Concealment(self.tokenizer)
        filled = []
        for row, count, state, gone in zip(rows, frames, self._rows, mask.cpu(), strict=True):
            flags = gone[:count]
            filled.append(self._concealment.fill(row, flags, state.last_frame, state.lost))
            numbers = (~flags).nonzero()
            end = int(numbers[-1]) + 1 if len(numbers) else 0
            if end:
                state.arrived(row[:end] if row.is_floating_point() else row[:, :end])
            state.lost += len(flags) - end
        return filled

    def _new_row(self) -> RowProgress:
        spec = self._spec
        last = torch.full((spec.tokens.num_codebooks,), -1, device=self._device)
        channels = (spec.latent_channels or 0) if spec.decodes_latents else 0
        return RowProgress(last=last, vector=torch.zeros(channels, device=self._device))

    def flush(self) -> StreamEnd:
        """End all rows that have not ended yet and return their remaining output.

        Raises:
            WaveError: the session has ended.
        """
        self._check_open("flush")
        tokens: Tokens | None = None
        latents: Latents | None = None
        wave: Tensor | None = None
        if self._encoder is not None and not all(row.encode_ended for row in self._rows):
            nothing = torch.zeros(self.batch_size, 0)
            if self._as_latents:
                latents = self.latents(nothing, final=True)
            else:
                tokens = self.encode(nothing, final=True)
        if self._decoder is not None and not all(row.decode_ended for row in self._rows):
            wave = self.decode(
                self._for_open_rows(latents if tokens is None else tokens), final=True
            )
        return StreamEnd(tokens, wave, latents)

    def _for_open_rows(self, frames: Tokens | Latents | None) -> Tokens | Latents:
        """Return the frames without those of rows whose decoding has ended."""
        device, count = self.tokenizer.device, self.batch_size
        if isinstance(frames, Latents) and not self._spec.decodes_latents:
            frames = None  # decoding was of tokens from elsewhere
        if frames is None and not self.num_codebooks:
            empty = torch.zeros(0, latent_channels(self._spec), device=device)
            return latents_of_rows([empty] * count, [0] * count, self._spec, device)
        if frames is None:
            nothing = torch.zeros(self.num_codebooks, 0, dtype=torch.long, device=device)
            kept = self.num_codebooks
            return tokens_of_rows([nothing] * count, [0] * count, kept, self._spec, device)
        going = torch.tensor([not row.decode_ended for row in self._rows], device=frames.device)
        return replace(
            frames, lengths=frames.lengths * going, num_samples=frames.num_samples * going
        )

    # --- reset, export and import of rows --------------------------------------------------------

    def reset(self, rows: int | Sequence[int] | None = None) -> None:
        """Reset rows to their initial state; other rows are unaffected.

        Args:
            rows: an index or several; default: all.

        Raises:
            WaveError: there is no such row, or the session has ended.
            StateError: the tokenizer's streams can't be reset.
        """
        self._check_open("reset")
        if rows is None:
            rows = range(self.batch_size)
        chosen = [self._row_index(row) for row in (rows if isinstance(rows, Sequence) else [rows])]
        for row in chosen:
            for machine in (self._encoder, self._decoder):
                if machine is not None:
                    machine.reset(row)
            self._rows[row] = self._new_row()
            for resamplers in (self._resamplers_in, self._resamplers_out):
                if resamplers is not None:
                    resamplers[row].reset()

    def export_row(self, row: int) -> bytes:
        """Export the whole state of a row. The row can also go on here, or be `reset` for reuse.

        Returns:
            Bytes for `import_row` of a session of the same tokenizer, also in another process or on
            another computer with the same kind of device. The codes and samples that follow are the
            same as they would have been here, bit by bit if build and kind of processor are the
            same. The bytes contain the last moments of the audio.

        Raises:
            WaveError: there is no such row, or the session has ended.
            StateError: the tokenizer declares that it can't keep `migration`, or its weights have
                changed; or the session has a sample rate of its own.
        """
        self._check_open("export")
        self._check_rate()
        row = self._row_index(row)
        self._check_weights()
        tensors = flatten(self._rows[row], "progress")
        parts: list[tuple[str, RowStream[Any] | None]] = [
            ("encoder", self._encoder),
            ("decoder", self._decoder),
        ]
        for name, machine in parts:
            if machine is not None:
                tensors |= flatten(machine.export_row(row), name)
        used = tuple(name for name, machine in parts if machine is not None)
        if used not in self._headers:  # a server exports its rows again and again
            check_promise(self.tokenizer)
            self._headers[used] = identity(self.tokenizer, self.num_codebooks, used)
        return pack(self._headers[used], tensors)

    @plainly
    def import_row(self, row: int, data: bytes) -> None:
        """Continue from an exported row; the row's previous state is discarded.

        Args:
            row: index in this session.
            data: from `export_row`.

        Raises:
            WaveError: there is no such row, or the session has ended.
            StateError: the bytes are damaged, or of another tokenizer, number of codebooks, version
                or kind of device; or the tokenizer declares that it can't keep `migration`, or its
                weights have changed. The session is then unchanged.
        """
        self._check_open("import")
        self._check_rate()
        row = self._row_index(row)
        self._check_weights()
        check_promise(self.tokenizer)
        header, tensors = unpack(data)
        parts = check_identity(header, self.tokenizer, self.num_codebooks)
        progress = rebuild(self._new_row(), tensors, "progress")
        progress.check(self._spec.tokens)
        known = set(flatten(progress, "progress"))
        # Streams started for the import become the session's only if nothing fails.
        encoder, decoder = self._encoder, self._decoder
        if "encoder" in parts and encoder is None:
            encoder = self._start_encoder()
        if "decoder" in parts and decoder is None:
            decoder = self._start_decoder()
        states: dict[str, tuple[RowStream[Any], Any]] = {}
        machines: list[tuple[str, RowStream[Any] | None]] = [
            ("encoder", encoder),
            ("decoder", decoder),
        ]
        for name, machine in machines:
            if machine is None:
                continue
            fresh = machine.init_row()  # also for a part that the state lacks: that one is reset
            if name in parts:
                state = rebuild(fresh, tensors, name)
                machine.check_row(state)
                states[name] = machine, state
                known |= set(flatten(fresh, name))
        progress.check_states(states)
        if unknown := sorted(set(tensors) - known):
            raise StateError(f"unknown parts of a row's state: {', '.join(unknown[:5])}")
        self._encoder, self._decoder = encoder, decoder
        self.reset(row)
        for machine, state in states.values():
            machine.import_row(row, state)
        self._rows[row] = progress

    # --- the weights -----------------------------------------------------------------------------

    @property
    def _spec(self) -> TokenizerSpec:
        return self._identity.spec

    def _check_weights(self) -> None:
        """Check that the tokenizer still has the weights that the session began with.

        Values are not sampled, which would be too slow for single frames. If weights were only
        moved, for example into shared memory, the session continues.

        Raises:
            StateError: they have changed.
        """
        now = self.tokenizer.identity(sampled=False)
        before = self._identity
        if now is before:
            return
        same = now.spec.tokens == before.spec.tokens and self._device == self.tokenizer.device
        if same and self._decoder is not None:
            same = self._full_digest == self.tokenizer.full_digest
        if not same:
            raise StateError(
                f"the weights of {before.spec.tokens.tokenizer} have changed, or were moved to "
                "another device, since this session began: open another one"
            )
        self._identity = now

    # --- streams, created on first use -----------------------------------------------------------

    def _encoder_at_work(self) -> EncoderStream:
        if self._encoder is None:
            self._encoder = self._start_encoder()
        return self._encoder

    def _start_encoder(self) -> EncoderStream:
        return self.tokenizer.start_encoder(self.batch_size, self.num_codebooks)

    def _decoder_at_work(self) -> DecoderStream:
        if self._decoder is None:
            self._decoder = self._start_decoder()
        return self._decoder

    def _start_decoder(self) -> DecoderStream:
        self._full_digest = self.tokenizer.full_digest
        return self.tokenizer.start_decoder(self.batch_size)

    def _row_index(self, row: int) -> int:
        try:
            index = operator.index(row)
        except TypeError:
            raise WaveError(f"a row is a whole number, got {row!r}") from None
        if not 0 <= index < self.batch_size:
            raise WaveError(f"this stream has rows 0 to {self.batch_size - 1}, got {index}")
        return index

    def _check_rate(self) -> None:
        if self._resamplers_in is not None:
            raise StateError(
                "rows that are resampled can't move, since soxr's state can't be read: resample "
                "outside of the session, which then works at the tokenizer's rate"
            )

    def _check_open(self, what: str) -> None:
        if self._closed:
            raise WaveError(f"this session has ended: it can't {what} any more; open another one")


def _samples(chunk: Chunk) -> Wave:
    """Return a chunk as a wave; bytes are 16-bit PCM."""
    if not isinstance(chunk, bytes | bytearray | memoryview):
        return chunk
    if len(chunk) % 2:
        raise WaveError(f"{len(chunk)} bytes end within a 16-bit sample")
    return np.frombuffer(chunk, "<i2")


def _without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Return a context without autocast; `plainly` has turned it off for the usual devices."""
    if device.type in ("cpu", "cuda"):
        return _nothing
    return torch.autocast(device.type, enabled=False)
