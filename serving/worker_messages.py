"""What the server and its workers tell each other. Loads no torch, as the server doesn't.

What is sent for each frame of each stream is a tuple, which is pickled faster.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .held_bytes import HeldBytes
from .protocol import CHAIN_START, PCM, Message, Task, Tokenizer


@dataclass(frozen=True)
class RowConfig:
    """What a row computes; see `protocol.Open`, whose fields these are with defaults filled in."""

    task: Task
    codec: str
    codebooks: int
    source: str | None = None
    source_codebooks: int = 0
    input: PCM = field(default_factory=PCM)
    output: PCM = field(default_factory=PCM)
    frames: int = 1


@dataclass
class Totals:
    """Counts of an utterance, for `protocol.Ended`, and the chain over its output (hexadecimal)."""

    samples_in: int = 0
    frames_in: int = 0
    samples_out: int = 0
    frames_out: int = 0
    digest: str = CHAIN_START.hex()
    complete: bool = True


class Output(NamedTuple):
    """A message for the client.

    Attributes:
        message: with its number.
        units: samples or frames in it.
        ended: after it, the utterance is complete.
    """

    message: Message
    units: int
    ended: Totals | None = None


# --- from the server -----------------------------------------------------------------------------


@dataclass
class OpenRow:
    """Start a row, from a state if one is given. `tag` tells it from the place's other rows.

    One that is `careful` computes message by message, so that it shows which one ends the process.
    """

    place: int
    tag: int
    config: RowConfig
    state: bytes | None
    careful: bool = False


class Inputs(NamedTuple):
    """Messages of a client; None: a reset. `sent` is `time.monotonic()`."""

    place: int
    tag: int
    messages: list[Message | None]
    sent: float


@dataclass
class ExportRow:
    """Compute all its input, then return the row's state, and free the place."""

    place: int
    tag: int


@dataclass
class CloseRow:
    """Free the place."""

    place: int
    tag: int


@dataclass
class FileJob:
    """Encode, decode or transcode a file; see `file_jobs`."""

    number: int
    job: Any


# --- to the server -------------------------------------------------------------------------------


@dataclass
class Hello:
    """The worker is warm.

    Attributes:
        tokenizers: by the name under which the configuration has them.
        immovable: why a tokenizer's rows can't be exported, where they can't.
        pid: number of the process.
    """

    tokenizers: dict[str, Tokenizer]
    immovable: dict[str, str]
    pid: int = 0


@dataclass
class Unusable:
    """The worker can't start: why."""

    message: str


@dataclass
class Unforkable:
    """No workers can be forked from this process: why."""

    message: str


@dataclass
class Failed:
    """A row is gone: a `Refusal`'s code and message."""

    place: int
    tag: int
    code: str
    message: str


class Progress(NamedTuple):
    """What a row has consumed, and what came out."""

    place: int
    tag: int
    next: int
    outputs: list[Output]
    waited: float = 0.0


@dataclass
class State:
    """A row's state: a checkpoint, or with `gone` the answer to `ExportRow`.

    On its way, `data` is empty if it was given with `held_bytes`.
    """

    place: int
    tag: int
    next: int
    out: int
    data: bytes | HeldBytes
    gone: bool


@dataclass
class FileGoesOn:
    """A `FileJob` has got on."""


@dataclass
class FileDone:
    """The answer to `FileJob`: a result, or a `Refusal`'s code and message."""

    number: int
    result: Any = None
    refusal: tuple[str, str] | None = None
