"""The session that a user drives."""

import operator
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor

from ...errors import StateError, TokenError, WaveError
from ...plain_torch import plainly
from ..spec import TokenizerSpec
from ..tokens import Tokens
from .latency import StreamStats, StreamTiming
from .migration import check_identity, check_promise, identity, pack, unpack
from .protocol import DecoderStream, EncoderStream, RowStream, row_flags
from .rows import RowProgress
from .state import flatten, rebuild, size_in_bytes

if TYPE_CHECKING:
    from ..interface import AudioTokenizer


@dataclass(frozen=True)
class StreamEnd:
    """What a session still held when it was flushed.

    Attributes:
        tokens: the last frames, or None if the session never encoded.
        wave: (batch, samples) the last samples, those of `tokens` included, or None if the session
            never decoded.
    """

    tokens: Tokens | None
    wave: Tensor | None


class StreamSession:
    """Encode and decode piece by piece; the codes and samples are those of the offline calls.

    The pieces may have any size. Rows are strangers: each may begin, pause (by pieces of length 0),
    end (`final`) and begin afresh (`reset`) when it likes, and may move to another session
    (`export_row`, `import_row`).

    A session runs with the weights that it began with. When they have changed, its calls raise
    `StateError`: its state would be of one tokenizer and its next frames of another.

    One session serves one loop: if it encodes and decodes, `flush` takes the last tokens through
    its decoder too. It is not safe to share between threads; the tokenizer is, so give every thread
    its own session, or take a `StreamPool`.

    Attributes:
        samples_in, frames_out: (per row) what `encode` took and gave so far.
        frames_in, samples_out: (per row) what `decode` took and gave so far.
    """

    def __init__(self, tokenizer: "AudioTokenizer", batch_size: int, num_codebooks: int) -> None:
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self.num_codebooks = num_codebooks
        self.timing = StreamTiming()
        self._rows = [RowProgress() for _ in range(batch_size)]
        self._encoder: EncoderStream | None = None
        self._decoder: DecoderStream | None = None
        self._closed = False
        self._identity = tokenizer.identity()
        self._device = tokenizer.device
        self._full_digest: str | None = None
        self._hop = self._spec.tokens.hop  # a division of fractions, too slow for every call

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self._encoder = self._decoder = None
        self._closed = True

    # --- what is known of it ---------------------------------------------------------------------

    @property
    def samples_in(self) -> list[int]:
        return [row.samples_in for row in self._rows]

    @property
    def frames_out(self) -> list[int]:
        return [row.frames_out for row in self._rows]

    @property
    def frames_in(self) -> list[int]:
        return [row.frames_in for row in self._rows]

    @property
    def samples_out(self) -> list[int]:
        return [row.samples_out for row in self._rows]

    @property
    def stats(self) -> StreamStats:
        """How long the calls took so far, and the latency of the algorithm."""
        return self.timing.stats(self._spec)

    @property
    def state_bytes(self) -> list[int]:
        """(per row) bytes of the states of the machines that were used so far.

        Constant, but for tokenizers that declare that they can't keep `constant-memory`.
        """
        machines = [machine for machine in (self._encoder, self._decoder) if machine is not None]
        return [
            sum(size_in_bytes(machine.export_row(row)) for machine in machines)
            for row in range(self.batch_size)
        ]

    # --- encode and decode -----------------------------------------------------------------------

    @plainly
    def encode(
        self,
        chunk: Tensor | np.ndarray,
        lengths: Tensor | Sequence[int] | None = None,
        final: bool | np.bool_ | Sequence[bool | np.bool_] = False,
    ) -> Tokens:
        """Take more samples and return the frames that they settle, possibly none.

        Args:
            chunk: (batch, samples), or (samples,) for a session of one row, at the tokenizer's
                own sample rate.
            lengths: (batch,) valid samples of each row in this chunk; default: all. A row of 0
                pauses.
            final: this is the end of every row, or (batch,) of which. A row that has ended stays
                so.

        Returns:
            `Tokens` of the new frames only. `Tokens.concat` of all of them equals the offline
            result.

        Raises:
            WaveError: as in `AudioTokenizer.encode`, or samples for a row that has ended, or the
                session has.
            StateError: the tokenizer's weights have changed.
        """
        self._check_open("encode")
        begun = time.perf_counter()
        self._check_weights()
        tokenizer, spec = self.tokenizer, self._spec
        rows = tokenizer._rows(chunk, spec.sample_rate, lengths, spec, self.batch_size)
        finals = row_flags(final, self.batch_size)
        for index, (row, state) in enumerate(zip(rows, self._rows, strict=True)):
            if row.shape[0] and state.encode_ended:
                raise WaveError(f"row {index} has ended; reset it before it takes more samples")
        ending = [end and not row.encode_ended for end, row in zip(finals, self._rows, strict=True)]
        encoder = self._encoder_at_work()
        with torch.autocast(tokenizer.device.type, enabled=False):
            codes = encoder.push(rows, _uniform(ending))
        hop = self._hop
        num_samples = []
        for state, row, new, end in zip(self._rows, rows, codes, ending, strict=True):
            start = state.frames_out * hop
            state.samples_in += row.shape[0]
            state.frames_out += new.shape[1]
            state.encode_ended |= end
            num_samples.append(max(0, min(state.samples_in, state.frames_out * hop) - start))
        tokens = tokenizer._tokens(codes, num_samples, self.num_codebooks, spec)
        self.timing.encode.record(
            time.perf_counter() - begun,
            sum(new.shape[1] for new in codes),
            sum(row.shape[0] for row in rows),
        )
        return tokens

    @plainly
    def decode(
        self, tokens: Tokens, final: bool | np.bool_ | Sequence[bool | np.bool_] = False
    ) -> Tensor:
        """Take more frames and return the samples that they settle, possibly none.

        Args:
            tokens: of this tokenizer, as many rows as the session has.
            final: this is the end of every row, or (batch,) of which: the samples still owed come
                out.

        Returns:
            (batch, samples) float32, where rows that gave fewer samples are padded with zeros;
            `samples_out` counts the real ones.

        Raises:
            TokenError, TokenMismatchError: as in `AudioTokenizer.decode`; or frames follow one
                that stands for less than a whole frame of samples.
            WaveError: frames for a row that has ended, or the session has; or it has another
                number of rows.
            StateError: the tokenizer's weights have changed.
        """
        self._check_open("decode")
        begun = time.perf_counter()
        self._check_weights()
        rows = self.tokenizer._code_rows(tokens, self._spec)
        if len(rows) != self.batch_size:
            raise WaveError(f"this stream has {self.batch_size} rows, got {len(rows)}")
        finals = row_flags(final, self.batch_size)
        hop = self._hop
        for index, (row, state) in enumerate(zip(rows, self._rows, strict=True)):
            if row.shape[1] and state.decode_ended:
                raise WaveError(f"row {index} has ended; reset it before it takes more frames")
            if row.shape[1] and state.samples_due < state.frames_in * hop:
                raise TokenError(f"row {index} has ended already: its last frame was cut short")
        ending = [end and not row.decode_ended for end, row in zip(finals, self._rows, strict=True)]
        decoder = self._decoder_at_work()
        with torch.autocast(self.tokenizer.device.type, enabled=False):
            waves = decoder.push(rows, _uniform(ending))
        samples = []
        counts = tokens.num_samples.tolist()
        for index, (state, wave) in enumerate(zip(self._rows, waves, strict=True)):
            state.frames_in += rows[index].shape[1]
            state.samples_due += counts[index]
            wave = wave[: state.samples_due - state.samples_out]
            state.samples_out += wave.shape[0]
            state.decode_ended |= ending[index]
            samples.append(wave)
        if len(samples) == 1:
            out = samples[0][None]
        else:
            out = torch.nn.utils.rnn.pad_sequence(samples, batch_first=True)
        self.timing.decode.record(
            time.perf_counter() - begun, sum(row.shape[1] for row in rows), sum(counts)
        )
        return out

    def flush(self) -> StreamEnd:
        """End all rows and return what was still held, which is of those that had not ended.

        Raises:
            WaveError: the session has ended.
        """
        self._check_open("flush")
        tokens = wave = None
        if self._encoder is not None and not all(row.encode_ended for row in self._rows):
            tokens = self.encode(torch.zeros(self.batch_size, 0), final=True)
        if self._decoder is not None and not all(row.decode_ended for row in self._rows):
            wave = self.decode(self._for_open_rows(tokens), final=True)
        return StreamEnd(tokens, wave)

    def _for_open_rows(self, tokens: Tokens | None) -> Tokens:
        """The tokens without the frames of rows that decode no more."""
        if tokens is None:
            device = self.tokenizer.device
            nothing = torch.zeros(self.num_codebooks, 0, dtype=torch.long, device=device)
            return self.tokenizer._tokens(
                [nothing] * self.batch_size,
                [0] * self.batch_size,
                self.num_codebooks,
                self._spec,
            )
        going = torch.tensor([not row.decode_ended for row in self._rows], device=tokens.device)
        return replace(
            tokens, lengths=tokens.lengths * going, num_samples=tokens.num_samples * going
        )

    # --- rows that come and go -------------------------------------------------------------------

    def reset(self, rows: int | Sequence[int] | None = None) -> None:
        """Make rows as if they had heard nothing, whatever they did before; the others go on.

        Args:
            rows: an index or several; default: all.

        Raises:
            WaveError: there is no such row, or the session has ended.
            StateError: the tokenizer's streams can't.
        """
        self._check_open("reset")
        if rows is None:
            rows = range(self.batch_size)
        chosen = [self._row_index(row) for row in (rows if isinstance(rows, Sequence) else [rows])]
        for row in chosen:
            for machine in (self._encoder, self._decoder):
                if machine is not None:
                    machine.reset(row)
            self._rows[row] = RowProgress()

    def export_row(self, row: int) -> bytes:
        """The whole state of a row. It goes on here as well, or is `reset` to make room.

        Returns:
            Bytes that `import_row` of a session of the same tokenizer takes, in another process or
            on another machine, on the same kind of device. The codes and samples that follow are
            those that would have followed here, to the bit where the build and the kind of
            processor are the same. They hold the last moments of the audio.

        Raises:
            WaveError: there is no such row, or the session has ended.
            StateError: the tokenizer declares that it can't keep `migration`, or its weights have
                changed.
        """
        self._check_open("export")
        row = self._row_index(row)
        self._check_weights()
        check_promise(self.tokenizer)
        tensors = flatten(self._rows[row], "progress")
        parts: list[tuple[str, RowStream[Any] | None]] = [
            ("encoder", self._encoder),
            ("decoder", self._decoder),
        ]
        for name, machine in parts:
            if machine is not None:
                tensors |= flatten(machine.export_row(row), name)
        used = [name for name, machine in parts if machine is not None]
        return pack(identity(self.tokenizer, self.num_codebooks, used), tensors)

    @plainly
    def import_row(self, row: int, data: bytes) -> None:
        """Go on where an exported row was; what this row did before is forgotten.

        Args:
            row: which of this session's.
            data: from `export_row`.

        Raises:
            WaveError: there is no such row, or the session has ended.
            StateError: the bytes are damaged, or of another tokenizer, number of codebooks, version
                or kind of device, or the tokenizer declares that it can't keep `migration`, or its
                weights have changed. Nothing has changed then.
        """
        self._check_open("import")
        row = self._row_index(row)
        self._check_weights()
        check_promise(self.tokenizer)
        header, tensors = unpack(data)
        parts = check_identity(header, self.tokenizer, self.num_codebooks)
        progress = rebuild(RowProgress(), tensors, "progress")
        progress.check(self._hop)
        known = set(flatten(progress, "progress"))
        # Machines that were not at work are started, but are the session's only if nothing fails.
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
            fresh = machine.init_row()  # also where the row has no such part: it will be reset
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
        """Look at whether the tokenizer is the one that the session began with.

        Not at samples of its values, for which a single frame's time is too dear. Where weights
        were only moved, as when they are shared with another process, the session goes on.

        Raises:
            StateError: it is not.
        """
        now = self.tokenizer.identity(sampled=False)
        before = self._identity
        if now is before:
            return
        same = now.spec.tokens == before.spec.tokens and self._device == self.tokenizer.device
        if same and self._decoder is not None:
            same = self._full_digest == now.full_digest(self.tokenizer)
        if not same:
            raise StateError(
                f"the weights of {before.spec.tokens.tokenizer} have changed, or were moved to "
                "another device, since this session began: open another one"
            )
        self._identity = now

    # --- the machines ----------------------------------------------------------------------------

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
        self._full_digest = self._identity.full_digest(self.tokenizer)
        return self.tokenizer.start_decoder(self.batch_size)

    def _row_index(self, row: int) -> int:
        try:
            index = operator.index(row)
        except TypeError:
            raise WaveError(f"a row is a whole number, got {row!r}") from None
        if not 0 <= index < self.batch_size:
            raise WaveError(f"this stream has rows 0 to {self.batch_size - 1}, got {index}")
        return index

    def _check_open(self, what: str) -> None:
        if self._closed:
            raise WaveError(f"this session has ended: it can't {what} any more; open another one")


def _uniform(flags: list[bool]) -> bool | list[bool]:
    """One flag where all are the same: all that some machines know."""
    return flags[0] if len(set(flags)) == 1 else flags
