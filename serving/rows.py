"""One stream's computation, as a row of the sessions of a worker.

A row takes the client's messages and gives the server's. Between its two ends lie, as its task
needs them: a decoder, a resampler, an encoder. Decoder and encoder are rows of `StreamSession`s,
which the worker runs for all streams together; the rest is here. All state can be exported as
bytes and imported in any worker that has the same tokenizers.
"""

import struct
from collections import deque
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import torch

from ..audio.pcm import PCMDecoder, PCMEncoder
from ..audio.polyphase import PolyphaseResampler, PolyphaseState, polyphase_name
from ..codecs.spec import TokenizerSpec
from ..codecs.streaming.migration import pack, unpack
from ..errors import StateError, SyllabaryError
from ..typed_fields import from_json
from .protocol import Kind, Message, Refusal, chain
from .syl_messages import SylInput, SylOutput
from .worker_messages import Output, RowConfig, Totals

#: A message is computed in pieces of at most so much audio, so that one stream's long message does
#: not delay the frames of others.
PIECE_SECONDS = 0.08
# What a message counts besides its audio, so that a stream of empty ones has checkpoints too.
_MESSAGE_SECONDS = 0.001
#: More messages than this don't wait because they came together, but because the row is behind.
_MANY = 8
_STATE_FORMAT = "syllabary-serving-row"
_LENGTH = struct.Struct("<I")


class Row:
    """The state of one stream, apart from those of the decoder and the encoder.

    Args:
        config: what to compute.
        spec: of `config.codec`.
        source: of `config.source`, for a transcode.

    Attributes:
        next: messages of the client consumed so far.
        out: messages for the client so far.
        since: seconds of input since the last checkpoint.
        joins: whether messages that wait are computed together.
    """

    def __init__(
        self, config: RowConfig, spec: TokenizerSpec, source: TokenizerSpec | None = None
    ) -> None:
        self.config = config
        self._spec, self._source = spec, source
        self.next = self.out = 0
        self.since = 0.0
        self.joins = True
        self.inputs: deque[Message | None] = deque()  # None: reset
        self.outputs: list[Output] = []
        self.encodes = config.task != "decode"
        self.decodes = config.task != "encode"
        #: Rates before the resampler and after it.
        self._rates = {
            "encode": (config.input.rate, spec.sample_rate),
            "decode": (spec.sample_rate, config.output.rate),
            "transcode": (source.sample_rate if source else 0, spec.sample_rate),
        }[config.task]
        self._code_source = self._source if self.config.task == "transcode" else self._spec
        self._lag = self._code_source.decoder_latency if self._code_source else None
        #: Samples, or frames of codes, a second; and those of a piece.
        self._input_rate = float(self._rates[0])
        if self.decodes:
            assert self._code_source is not None
            self._input_rate = float(self._code_source.frame_rate)
        self._most = max(1, int(PIECE_SECONDS * self._input_rate))
        self._start()

    def _start(self) -> None:
        """Begin an utterance."""
        config = self.config
        self.totals = Totals()
        self.ended = False
        self._piece = np.zeros(0, np.float32)  # of the current message, samples or codes
        self._final: bool | None = None  # whether the current message is final; None: there is none
        self._refused: Refusal | None = None  # why the next message is
        self._resampler = None
        if self._rates[0] != self._rates[1]:
            self._resampler = PolyphaseResampler(*self._rates)
        self._pcm_in, self._pcm_out = (
            PCMDecoder(config.input.format),
            PCMEncoder(config.output.format),
        )
        self._frames_of_parts: list[int] = []  # of the latest piece
        self._held = np.zeros(0, np.float32)
        self._settled = 0  # samples of the decoder passed on
        self._codes_in: SylInput | None = None
        self._codes_out: SylOutput | None = None
        if self.decodes:
            assert self._code_source is not None
            count = config.source_codebooks or config.codebooks
            self._codes_in = SylInput(self._code_source.tokens, count)
        if self.encodes:
            self._codes_out = SylOutput(
                self._spec.tokens, config.codebooks, config.frames, self._metadata()
            )

    def _metadata(self) -> dict[str, Any]:
        """The same as `syllabary stream encode` writes, where nothing is resampled."""
        config = self.config
        rate = self._rates[0]
        metadata: dict[str, Any] = {
            "source": {"name": "-", "sample_rate": rate, "channels": 1},
            "options": {"frames_per_chunk": config.frames},
        }
        if self._resampler is not None:
            metadata["resampler"] = polyphase_name()
        if config.task == "transcode":
            metadata["source"]["tokenizer"] = config.source
        return metadata

    # --- from the client -------------------------------------------------------------------------

    @property
    def waiting(self) -> bool:
        """Whether there is input to compute with."""
        return self._final is not None or bool(self.inputs)

    @property
    def resets(self) -> bool:
        """Whether the next thing to do is to `reset`."""
        return self._final is None and bool(self.inputs) and self.inputs[0] is None

    def reset(self) -> None:
        """Begin another utterance; the worker resets the row in its sessions."""
        self.inputs.popleft()
        self.next += 1
        self.since += _MESSAGE_SECONDS
        self._start()

    @property
    def between_messages(self) -> bool:
        """Whether no message is half consumed, so that the state can be exported."""
        return self._final is None

    @property
    def is_behind(self) -> bool:
        """Whether so much waits that it is no longer a frame or few that came together."""
        return len(self.inputs) > _MANY or self._piece.shape[-1] > self._most

    def take(self) -> tuple[np.ndarray, bool]:
        """Return a piece of input, and whether the utterance ends with it.

        A piece is a message, or a part of a long one. Where several wait, it is all of them up to
        `PIECE_SECONDS`: they take hardly longer than one, and what goes out is the same.

        Returns:
            samples (n,) float32 at the encoder's rate, or codes (codebooks, frames) int64.

        Raises:
            Refusal: what the client sent is not valid.
        """
        if self._refused is not None:
            raise self._refused
        if self._final is None:
            self._begin_message()
        most = self._most
        piece, final = self._part(most)
        parts, count = [piece], piece.shape[-1]
        while not final and count < most and self._next_joins(most - count):
            try:
                self._begin_message()
            except Refusal as refused:
                self._refused = refused  # what came before it is computed first
                break
            piece, final = self._part(most)
            parts.append(piece)
            count += piece.shape[-1]
        piece = parts[0] if len(parts) == 1 else np.concatenate(parts, -1)
        self.since += count / self._input_rate + _MESSAGE_SECONDS * len(parts)
        if self.config.task == "encode":
            self.totals.samples_in += count
            if self._resampler is not None:
                piece = self._resampler.push(piece, final)
        else:
            self._frames_of_parts = [part.shape[-1] for part in parts]
        return piece, final

    def _begin_message(self) -> None:
        message = self.inputs[0]
        assert message is not None
        self._piece = self._read(message)
        self._final = message.final

    def _part(self, most: int) -> tuple[np.ndarray, bool]:
        """Return up to so much of the current message, and whether the utterance ends with it."""
        piece, self._piece = self._piece[..., :most], self._piece[..., most:]
        if self._piece.shape[-1]:
            return piece, False
        final, self._final = self._final, None
        self.inputs.popleft()
        self.next += 1
        return piece, bool(final)

    def _next_joins(self, samples: int) -> bool:
        """Whether another message waits that may be computed with the ones before it: of an
        encoder's, it has no more than so many samples.
        """
        if not self.joins or self._final is not None or not self.inputs:
            return False
        message = self.inputs[0]
        if message is None or self.config.task != "encode":
            return message is not None and self._lag is not None
        return len(message.payload) <= self.config.input.bytes_of(samples)

    def _read(self, message: Message) -> np.ndarray:
        if self.ended:
            raise Refusal("malformed", "the utterance has ended; `reset` begins another")
        if self._codes_in is not None:
            codes = self._codes_in.push(message.kind, message.payload)
            if self._codes_in.num_samples is not None and not message.final:
                raise Refusal("malformed", "a message with the end mark is final")
            return codes
        if message.kind != Kind.PCM:
            raise Refusal("malformed", f"this stream takes PCM, got kind {int(message.kind)}")
        samples = self._pcm_in.push(message.payload)
        if self._pcm_in.leftover:
            raise Refusal("malformed", "a message holds whole samples")
        # Beyond this, sums of squares overflow.
        if not np.all(np.abs(samples) < 1e15):
            raise Refusal("malformed", "the samples hold NaN, infinity, or values beyond 1e15")
        return samples

    # --- between the sessions and to the client --------------------------------------------------

    def decoded(self, wave: np.ndarray, final: bool) -> np.ndarray | None:
        """Take samples of the decoder, of the latest piece; return those for the encoder, in a
        transcode.

        What is said after a frame depends on the frames so far alone, and not on which messages
        were computed together. Only the end mark tells how many samples of the last frame are
        valid, so those of the latest frame are held back.
        """
        assert self._codes_in is not None and self._code_source is not None
        hop, end = self._code_source.tokens.hop, self._codes_in.num_samples
        self._held = np.concatenate([self._held, wave])
        parts = []
        for number, frames in enumerate(self._frames_of_parts, 1):
            self.totals.frames_in += frames
            ends = final and number == len(self._frames_of_parts)
            most = self.totals.frames_in * hop
            if ends:
                self.totals.complete = end is not None
                most = most if end is None else end
            else:
                most -= max(hop, self._lag or 0)
            ready = self._held[: max(0, most - self._settled)]
            self._held = self._held[len(ready) :]
            self._settled += len(ready)
            if self._resampler is not None:
                ready = self._resampler.push(ready, ends)
            if self.config.task == "transcode":
                parts.append(ready)
            elif len(ready) or ends:
                self._say(Kind.PCM, len(ready), self._pcm_out.push(ready), ends)
        return np.concatenate(parts) if parts else None

    def encoded(self, codes: np.ndarray | None, samples: int, final: bool) -> None:
        """Take codes (frames, codebooks) of the encoder, and the number of samples they are of.

        With None, only what a new utterance begins with: a `.syl` header goes out before the first
        sample has come in.
        """
        if self._codes_out is None:
            return
        messages = self._codes_out.push(codes, samples, final)
        for number, (kind, frames, payload) in enumerate(messages, 1):
            self._say(kind, frames, payload, final and number == len(messages))

    def _say(self, kind: Kind, units: int, payload: bytes, final: bool) -> None:
        totals = self.totals
        name = "samples_out" if kind == Kind.PCM else "frames_out"
        position = getattr(totals, name)
        setattr(totals, name, position + units)
        totals.digest = chain(bytes.fromhex(totals.digest), payload).hex()
        message = Message(kind, self.out, position, payload, final)
        self.out += 1
        self.ended = final
        self.outputs.append(Output(message, units, Totals(**asdict(totals)) if final else None))

    # --- moving ----------------------------------------------------------------------------------

    def export_state(self, sessions: dict[str, bytes]) -> bytes:
        """Return all state as bytes: its length, what `pack` gives, and what the sessions gave.

        Args:
            sessions: of the `decoder` and the `encoder`, by `StreamSession.export_row`.
        """
        assert self.between_messages
        tensors = {}
        header: dict[str, Any] = {
            "format": _STATE_FORMAT,
            "config": asdict(self.config),
            "sessions": {name: len(data) for name, data in sessions.items()},
            "next": self.next,
            "out": self.out,
            "ended": self.ended,
            "totals": asdict(self.totals),
            "settled": self._settled,
        }
        if self._resampler is not None:
            state = self._resampler.export_state()
            header["resampler"] = [state.taken, state.given, state.ended]
            tensors["tail"] = torch.from_numpy(state.tail)
        tensors["held"] = torch.from_numpy(self._held)
        for name, part in (("codes_in", self._codes_in), ("codes_out", self._codes_out)):
            if part is not None:
                header[name], found = part.export_state()
                tensors |= {f"{name}.{key}": tensor for key, tensor in found.items()}
        own = pack(header, tensors)
        return b"".join([_LENGTH.pack(len(own)), own, *sessions.values()])

    def import_state(self, header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        """Go on from `read_state`'s results, in a new row of the same configuration.

        Raises:
            StateError: they are not of a row of this configuration.
        """
        try:
            self.next, self.out, self.ended = header["next"], header["out"], header["ended"]
            self.totals = from_json(Totals, header["totals"])
            self._settled = header["settled"]
            self._held = tensors["held"].numpy().astype(np.float32)
            if self._resampler is not None:
                taken, given, ended = header["resampler"]
                tail = tensors["tail"].numpy()
                self._resampler.import_state(PolyphaseState(tail, taken, given, ended))
            for name, part in (("codes_in", self._codes_in), ("codes_out", self._codes_out)):
                if part is not None:
                    prefix = f"{name}."
                    found = {
                        key.removeprefix(prefix): tensor
                        for key, tensor in tensors.items()
                        if key.startswith(prefix)
                    }
                    part.import_state(header[name], found)
        except (KeyError, TypeError, ValueError, AttributeError, SyllabaryError) as error:
            raise StateError(f"a row's state can't be used: {error}") from None


class RowState(NamedTuple):
    """An exported state.

    Attributes:
        config: of the row.
        header, tensors: what `Row.import_state` takes.
        sessions: what `StreamSession.import_row` takes, by `decoder` and `encoder`.
    """

    config: RowConfig
    header: dict[str, Any]
    tensors: dict[str, torch.Tensor]
    sessions: dict[str, bytes]


def read_state(data: bytes) -> RowState:
    """Read what `Row.export_state` returned.

    Raises:
        StateError: the bytes are not the state of a row.
    """
    at = _LENGTH.size
    end = at + int.from_bytes(data[:at], "little")
    header, tensors = unpack(data[at:end])
    if header.get("format") != _STATE_FORMAT:
        raise StateError("these bytes are not the state of a server's row")
    try:
        config, sessions = from_json(RowConfig, header["config"]), {}
        for name, size in header["sessions"].items():
            sessions[name] = data[end : end + size]
            end += size
    except (KeyError, TypeError, AttributeError, SyllabaryError) as error:
        raise StateError(f"a row's state can't be used: {error}") from None
    if end != len(data):
        raise StateError(f"a row's state has {len(data)} bytes, expected {end}")
    return RowState(config, header, tensors, sessions)
