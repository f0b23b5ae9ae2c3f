"""The protocol between server and client: messages, limits, and what can go wrong.

docs/serving-protocol.md describes it in words. A stream is a WebSocket at `STREAM_PATH` with the
subprotocol `SUBPROTOCOL`. Binary messages carry audio and codes behind a header of 16 bytes; text
messages are JSON and control the stream. Both directions number their binary messages from 0, and
every count of messages says how many there were: `ack.next` 5 means that messages 0 to 4 are done.

This module loads neither torch nor a web framework; server and clients share it.
"""

import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import IntEnum, IntFlag
from hashlib import sha256
from typing import Any, ClassVar, Literal, NamedTuple

from ..errors import ConfigError, ServingError
from ..typed_fields import from_json

SUBPROTOCOL = "syllabary.v1"
#: Browsers can't set headers: they send their token as a second subprotocol, base64url after this.
BEARER_SUBPROTOCOL = "bearer."
STREAM_PATH = "/v1/stream"

#: kind, flags, stream (0), sequence number, position in samples or frames; little-endian.
HEADER = struct.Struct("<BBHIQ")
#: Messages of a stream in one direction; 2.7 years of frames of 20 ms.
MOST_MESSAGES = 2**32 - 1

LEAST_RATE, MOST_RATE = 8_000, 48_000
#: All rates in use are multiples of it; others would need a resampling filter of thousands of taps.
RATE_STEP = 25
#: Bytes a sample of each PCM format: 16-bit integers, 32-bit floats, G.711 µ-law.
PCM_FORMATS = {"s16le": 2, "f32le": 4, "mulaw": 1}

Task = Literal["encode", "decode", "transcode"]


class Kind(IntEnum):
    """What a binary message holds."""

    PCM = 1  #: samples, mono, in the format that `open` named
    SYL_HEADER = 2  #: the header of a `.syl` file
    SYL_CHUNK = 3  #: one chunk of a `.syl` file
    STATE = 4  #: a part of a sealed state (see `goaway` and `resume`)


class Flag(IntFlag):
    """Flags of a binary message."""

    FINAL = 1  #: the last of its kind: the stream ends here
    REPLAYED = 2  #: sent before, on a connection that was lost


class Message(NamedTuple):
    """A binary message. A tuple, since servers make and pickle one for each frame of each stream.

    Attributes:
        kind: what the payload is.
        seq: number of the message in its direction, from 0.
        position: of the payload's first sample (PCM, at the rate of that direction) or frame
            (chunks); a `.syl` header has 0. For a sealed state: bytes before this part.
        payload: may be empty in a final PCM message.
        final: the stream ends with it.
        replayed: it was sent before, on a connection that was lost.
    """

    kind: Kind
    seq: int
    position: int
    payload: bytes
    final: bool = False
    replayed: bool = False

    def pack(self) -> bytes:
        """Return the header and the payload."""
        flags = self.final + 2 * self.replayed  # as `Flag` has them
        return HEADER.pack(self.kind, flags, 0, self.seq, self.position) + self.payload

    @classmethod
    def unpack(cls, data: bytes) -> "Message":
        """Read a message.

        Raises:
            Refusal: `malformed`.
        """
        if len(data) < HEADER.size:
            raise Refusal(
                "malformed",
                f"a binary message has a header of {HEADER.size} bytes, got {len(data)}",
            )
        kind, flags, stream, seq, position = HEADER.unpack_from(data)
        if kind not in _KINDS:
            raise Refusal("malformed", f"messages are of kinds 1 to 4, got {kind}")
        if flags & ~3 or stream:
            raise Refusal("malformed", f"flags {flags:#x} and stream {stream} are not known")
        return cls(_KINDS[kind], seq, position, data[HEADER.size :], flags & 1 == 1, flags > 1)


_KINDS = {int(kind): kind for kind in Kind}


# --- what can go wrong ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Reason:
    """A way to fail.

    Attributes:
        close: WebSocket close code.
        status: HTTP status.
        resumable: whether the same stream may be resumed after this close.
        again: whether the same request may succeed later.
    """

    close: int
    status: int
    resumable: bool = False
    again: bool = False


#: Codes in `error` messages and in JSON answers, with the close code and status of each.
REASONS: dict[str, Reason] = {
    "malformed": Reason(4400, 400),
    "unauthorized": Reason(4401, 401),
    "forbidden_origin": Reason(4403, 403),
    "unknown_codec": Reason(4404, 404),
    "too_slow": Reason(4408, 408, resumable=True),
    "sequence": Reason(4409, 409),
    "expired": Reason(4410, 410),
    "superseded": Reason(4411, 409),
    "bad_state": Reason(4412, 400),
    "unsupported_format": Reason(4415, 415),
    "unprocessable": Reason(4422, 422),
    "too_much_input": Reason(4429, 429, resumable=True),
    "over_quota": Reason(4429, 429, resumable=True, again=True),
    "full": Reason(4503, 503, resumable=True, again=True),
    "too_big": Reason(1009, 413),
    "fault": Reason(1011, 500, again=True),
    "draining": Reason(1012, 503, resumable=True, again=True),
}
#: Close codes without an error: the client has what it wanted, or went away.
CLOSE_NORMAL, CLOSE_GOING_AWAY = 1000, 1001


class Refusal(ServingError):
    """The server refuses a request, or ends a stream.

    Args:
        code: one of `REASONS`.
        message: what was wrong and what was expected; never a secret.
        retry_after: seconds after which a second try may succeed.
    """

    def __init__(self, code: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.retry_after = code, message, retry_after
        self.reason = REASONS[code]


# --- control messages ----------------------------------------------------------------------------


@dataclass(frozen=True)
class PCM:
    """A format of samples: mono, `format` one of `PCM_FORMATS`, `rate` in Hz."""

    format: str = "s16le"
    rate: int = 16_000

    def __post_init__(self) -> None:
        if self.format not in PCM_FORMATS:
            raise ValueError(f"formats are {', '.join(PCM_FORMATS)}; got {self.format!r}")
        if not LEAST_RATE <= self.rate <= MOST_RATE:
            raise ValueError(f"rates are {LEAST_RATE} to {MOST_RATE} Hz, got {self.rate}")
        if self.rate % RATE_STEP:
            raise ValueError(f"rates are whole multiples of {RATE_STEP} Hz, got {self.rate}")

    def bytes_of(self, samples: int) -> int:
        return samples * PCM_FORMATS[self.format]


@dataclass(frozen=True)
class Open:
    """Client: start a stream; the first message.

    Attributes:
        task: `encode` (PCM to codes), `decode` (codes to PCM), or `transcode` (codes of one
            tokenizer to those of another, through sound).
        codec: the tokenizer of the outgoing codes; for `decode`, of the incoming ones.
        source: the tokenizer of the incoming codes, for `transcode`.
        digest: refuse the stream if the codec's digest is another.
        codebooks: keep the first so many; for `decode`, those that the `.syl` header will name.
            None: all.
        input: of the samples that the client sends, for `encode`.
        output: of the samples that it gets, for `decode`.
        frames: frames in an outgoing chunk: each more is a frame more of latency.
    """

    type: ClassVar[str] = "open"
    task: Task
    codec: str
    source: str | None = None
    digest: str | None = None
    codebooks: int | None = None
    input: PCM = field(default_factory=PCM)
    output: PCM = field(default_factory=PCM)
    frames: int = 1

    def __post_init__(self) -> None:
        if (self.source is not None) != (self.task == "transcode"):
            raise ValueError("`source` names the incoming codes of a transcode, and only of that")
        if self.codebooks is not None and self.codebooks < 1:
            raise ValueError(f"codebooks must be at least 1, got {self.codebooks}")
        if not 1 <= self.frames <= 250:
            raise ValueError(f"a chunk has 1 to 250 frames, got {self.frames}")


@dataclass(frozen=True)
class Resume:
    """Client: go on with a stream; the first message of a new connection.

    Attributes:
        token: of the last `ready`.
        next: binary messages of the server that the client has.
        state: whether parts of a sealed state (`Kind.STATE`) follow, from a server that drained.
    """

    type: ClassVar[str] = "resume"
    token: str
    next: int = 0
    state: bool = False

    def __post_init__(self) -> None:
        _check_count("next", self.next)


@dataclass(frozen=True)
class Ack:
    """Either side: so many binary messages of the other are done with.

    Attributes:
        next: messages consumed. The server has computed with them, the client has used them.
        safe: (server only) messages that the client may forget: whatever happens to the server,
            it won't ask for them again. At most `next`.
    """

    type: ClassVar[str] = "ack"
    next: int
    safe: int = 0

    def __post_init__(self) -> None:
        _check_count("next", self.next)
        _check_count("safe", self.safe)


@dataclass(frozen=True)
class End:
    """Client: the input ends. Counts as an empty final binary message with this number."""

    type: ClassVar[str] = "end"
    seq: int

    def __post_init__(self) -> None:
        _check_count("seq", self.seq)


@dataclass(frozen=True)
class Reset:
    """Client: drop the rest of this utterance and start another; counts as message `seq`.

    Output that was computed before comes first, without `ended`; the next has position 0.
    """

    type: ClassVar[str] = "reset"
    seq: int

    def __post_init__(self) -> None:
        _check_count("seq", self.seq)


@dataclass(frozen=True)
class Limits:
    """What a server allows.

    Attributes:
        message_bytes, control_bytes: of a binary, and of a text message.
        handshake_seconds: from the connection to `open` or `resume`.
        idle_seconds: without any message of the client, until 4408.
        input_ms: unacknowledged input; more closes with 4429.
        output_ms: unacknowledged output, in ms of audio, at which the row pauses.
        output_stall_seconds: a row may be paused, until 4408.
        park_seconds: a session waits for its client to resume.
        state_bytes: of a sealed state.
    """

    message_bytes: int = 65_536
    control_bytes: int = 8_192
    handshake_seconds: float = 5.0
    idle_seconds: float = 60.0
    input_ms: float = 1_000.0
    output_ms: float = 2_000.0
    output_stall_seconds: float = 10.0
    park_seconds: float = 60.0
    state_bytes: int = 8 << 20


@dataclass(frozen=True)
class Tokenizer:
    """A tokenizer that a server has, as `ready` and `/v1/codecs` tell it.

    Attributes:
        name, digest, sample_rate: of its spec.
        frame_rate: frames a second, as numerator and denominator.
        hop: samples a frame.
        codebook_sizes: of each codebook.
        min_codebooks: the least that `open.codebooks` may say.
        encoder_latency, decoder_latency: algorithmic, in samples.
    """

    name: str
    digest: str
    sample_rate: int
    frame_rate: tuple[int, int]
    hop: int
    codebook_sizes: tuple[int, ...]
    min_codebooks: int
    encoder_latency: int | None
    decoder_latency: int | None


@dataclass(frozen=True)
class Ready:
    """Server: the stream is open.

    Attributes:
        session: id, for logs; no secret.
        token: to resume; a secret. Each `ready` has a new one, and the former is void once the
            client has sent anything after it.
        next: binary messages of the client that the server has: the next one has this number.
            After a resume, the client sends again from here.
        out: number of the first binary message that the server will send.
        codec, source: the tokenizers.
        codebooks: of the codes.
        latency_ms: algorithmic latency by part (`resampler`, `encoder`, `decoder`, `chunk`), and
            `total`; a part that needs the whole utterance is None.
        limits: of this server.
        resumable: True, or why the stream can't be resumed.
        resumed: whether this answers `resume`.
    """

    type: ClassVar[str] = "ready"
    session: str
    token: str
    codec: Tokenizer
    codebooks: int
    latency_ms: dict[str, float | None]
    limits: Limits
    source: Tokenizer | None = None
    next: int = 0
    out: int = 0
    resumable: bool | str = True
    resumed: bool = False


@dataclass(frozen=True)
class Ended:
    """Server: all output of an utterance has been sent.

    Attributes:
        next: binary messages of the server up to the last one of the utterance.
        samples_in, frames_in: of this utterance, PCM at the input's rate.
        samples_out, frames_out: of this utterance, PCM at the output's rate.
        digest: see `chain`, over the payloads of the utterance's output messages, hexadecimal.
        complete: whether a decoded `.syl` stream had its end mark; True for `encode`.
    """

    type: ClassVar[str] = "ended"
    next: int
    samples_in: int
    frames_in: int
    samples_out: int
    frames_out: int
    digest: str
    complete: bool = True


@dataclass(frozen=True)
class GoAway:
    """Server: it will stop. Streams go on for `ms`; then come a sealed state and close 1012.

    Attributes:
        ms: until the hand-over.
        servers: URLs of others that can take the stream.
    """

    type: ClassVar[str] = "goaway"
    ms: int
    servers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Error:
    """Server: why it closes the connection.

    Attributes:
        code: one of `REASONS`.
        message: for a person.
        retry_after: seconds, or None.
    """

    type: ClassVar[str] = "error"
    code: str
    message: str
    retry_after: float | None = None


Control = Open | Resume | Ack | End | Reset | Ready | Ended | GoAway | Error
FROM_CLIENT: dict[str, type] = {kind.type: kind for kind in (Open, Resume, Ack, End, Reset)}
FROM_SERVER: dict[str, type] = {kind.type: kind for kind in (Ready, Ack, Ended, GoAway, Error)}


def dump(message: Control) -> str:
    """Return a control message as JSON text."""
    if type(message) is Ack:  # most of them, and `asdict` is slow
        return f'{{"type":"ack","next":{message.next},"safe":{message.safe}}}'
    return json.dumps({"type": message.type, **asdict(message)}, separators=(",", ":"))


def parse(text: str, known: Mapping[str, type] = FROM_CLIENT) -> Any:
    """Read a control message.

    Args:
        text: JSON.
        known: `FROM_CLIENT`, or `FROM_SERVER`.

    Raises:
        Refusal: `malformed`; or `unsupported_format`, for an `open` with an unknown format or rate.
    """
    try:
        fields = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise Refusal("malformed", f"a text message is JSON: {_short(error)}") from None
    if not isinstance(fields, dict):
        raise Refusal("malformed", "a text message is a JSON object with a `type`")
    name = fields.pop("type", None)
    kind = known.get(name) if isinstance(name, str) else None
    if kind is None:
        raise Refusal("malformed", f"types are {', '.join(known)}; got {_short(repr(name))}")
    try:
        return from_json(kind, fields, kind.__name__.lower())
    except (ConfigError, RecursionError) as error:
        text = _short(error)
        wrong = "formats are" in text or "rates are" in text
        raise Refusal("unsupported_format" if wrong else "malformed", text) from None


def chain(digest: bytes, payload: bytes) -> bytes:
    """Return the digest of a stream's output after one more message.

    A chain of SHA-256 instead of one hash over everything, since its 32 bytes move with a row:
    SHA-256(digest before + payload), beginning with `CHAIN_START`.
    """
    return sha256(digest + payload).digest()


CHAIN_START = bytes(32)


def _check_count(name: str, value: int) -> None:
    if not 0 <= value <= MOST_MESSAGES:
        raise ValueError(f"{name} is 0 to {MOST_MESSAGES}, got {value}")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _short(text: object) -> str:
    return str(text)[:200]
