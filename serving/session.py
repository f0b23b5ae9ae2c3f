"""One client's stream as the server sees it: what came in, what went out, and where both stand.

Everything is numbered, so a row that is lost can be computed again: the input since its last
checkpoint is kept, and what comes out a second time must be what came out the first time.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from ..codecs.container import chunk_size
from ..codecs.container.layout import CHUNK, END
from ..typed_fields import from_json
from .held_bytes import HeldBytes
from .protocol import MOST_MESSAGES, PCM_FORMATS, Kind, Message, Refusal
from .worker_messages import Output, RowConfig, Totals

# What a log may hold besides its audio: messages of none, such as resets and headers, cost memory
# too, and so do large ones of little. Far beyond what any stream needs.
_SPARE_MESSAGES, _SPARE_BYTES, _BYTES_A_MS = 1000, 1 << 20, 1024


def is_too_much(ms: float, messages: int, size: int, most: float) -> bool:
    """Whether a log holds more than `most` milliseconds of audio, or than there may be to them.

    Args:
        ms: of audio.
        messages: number of them.
        size: of their payloads in bytes.
        most: milliseconds.
    """
    return (
        ms > most or messages > _SPARE_MESSAGES + most or size > _SPARE_BYTES + _BYTES_A_MS * most
    )


class Item(NamedTuple):
    """A message of the client; None: a reset.

    Attributes:
        units: samples or frames in it.
        ms: of audio.
    """

    message: Message | None
    units: int
    ms: float

    @property
    def size(self) -> int:
        """Bytes of its payload."""
        return 0 if self.message is None else len(self.message.payload)


@dataclass
class _Edge:
    """Where an utterance stands at one end of the log: position, and whether it has ended."""

    position: int = 0
    ended: bool = False

    def pass_(self, item: Item) -> None:
        if item.message is None:
            self.position, self.ended = 0, False
        else:
            self.position += item.units
            self.ended |= item.message.final


class InputLog:
    """The client's messages since the last checkpoint.

    Args:
        config: of the row.
        rate: of the input: samples or frames a second.

    Attributes:
        start: number of the first one kept.
        received: number of the next one to come.
        unacknowledged_ms: of audio that no `ack` covers.
        kept_ms: of audio in the log.
        kept_bytes: of payloads in the log.
    """

    def __init__(self, config: RowConfig, rate: float) -> None:
        self._pcm = config.input if config.task == "encode" else None
        self._rate = rate
        self.start = self.received = 0
        self._first, self._last = _Edge(), _Edge()
        self._items: deque[Item] = deque()
        self._open: deque[tuple[int, float]] = deque()
        self.unacknowledged_ms = self.kept_ms = 0.0
        self.kept_bytes = 0

    def exceeds(self, unacknowledged: float, kept: float) -> bool:
        """Whether more is not acknowledged, or kept, than so many milliseconds; `is_too_much`."""
        return is_too_much(
            self.unacknowledged_ms, len(self._open), 0, unacknowledged
        ) or is_too_much(self.kept_ms, len(self._items), self.kept_bytes, kept)

    def append(self, message: Message | None, seq: int) -> Item:
        """Take the client's next message, or None for a reset.

        Raises:
            Refusal: `sequence` or `malformed`.
        """
        if seq != self.received:
            raise Refusal("sequence", f"expected message {self.received}, got {seq}")
        units = 0
        if message is not None:
            if self._last.ended:
                raise Refusal("malformed", "the utterance has ended; `reset` begins another")
            units = self._units(message)
            if message.position != self._last.position:
                raise Refusal(
                    "sequence", f"expected position {self._last.position}, got {message.position}"
                )
        item = Item(message, units, 1000 * units / self._rate)
        self._items.append(item)
        self._last.pass_(item)
        self._open.append((seq, item.ms))
        self.unacknowledged_ms += item.ms
        self.kept_ms += item.ms
        self.kept_bytes += item.size
        self.received += 1
        return item

    def end(self, seq: int) -> Item:
        """Take an empty final message."""
        kind = Kind.PCM if self._pcm else Kind.SYL_CHUNK
        return self.append(Message(kind, seq, self._last.position, b"", final=True), seq)

    def ms_of(self, message: Message) -> float:
        """Return the milliseconds of audio in a message.

        Raises:
            Refusal: `malformed`.
        """
        return 1000 * self._units(message) / self._rate

    def _units(self, message: Message) -> int:
        size = len(message.payload)
        if self._pcm is not None:
            if message.kind != Kind.PCM:
                raise Refusal("malformed", f"this stream takes PCM, got kind {int(message.kind)}")
            units, rest = divmod(size, PCM_FORMATS[self._pcm.format])
            if rest:
                raise Refusal("malformed", f"{size} bytes are no whole samples")
            return units
        if message.kind == Kind.SYL_HEADER:
            return 0
        if message.kind != Kind.SYL_CHUNK:
            raise Refusal("malformed", f"this stream takes codes, got kind {int(message.kind)}")
        if not size and message.final:
            return 0
        if size < CHUNK.size or chunk_size(message.payload) != size:
            raise Refusal("malformed", "a message is exactly one chunk")
        mark, _, positions = CHUNK.unpack_from(message.payload)
        return 0 if mark == END else int(positions)

    def since(self, number: int) -> Iterator[tuple[int, Item]]:
        """Yield the items from a number on, with their numbers."""
        for index in range(number - self.start, len(self._items)):
            yield self.start + index, self._items[index]

    def acknowledge(self, next_: int) -> float:
        """Note that the client was told so; return the milliseconds that it covers anew."""
        covered = 0.0
        while self._open and self._open[0][0] < next_:
            covered += self._open.popleft()[1]
        self.unacknowledged_ms -= covered
        return covered

    def drop_before(self, number: int) -> None:
        """Forget what a checkpoint covers."""
        while self.start < number and self._items:
            item = self._items.popleft()
            self._first.pass_(item)
            self.kept_ms -= item.ms
            self.kept_bytes -= item.size
            self.start += 1

    def export(self, items: bool) -> tuple[dict[str, Any], list[bytes]]:
        """Return where the log begins, and its messages; a reset is no bytes.

        Args:
            items: with the messages; else they come again from the client.
        """
        kept = [item.message for item in self._items] if items else []
        fields = {"start": self.start, **asdict(self._first), "messages": len(kept)}
        return fields, [b"" if message is None else message.pack() for message in kept]

    def restore(self, fields: dict[str, Any], messages: list[bytes]) -> None:
        """Continue an exported log."""
        self.start = self.received = fields["start"]
        edge = fields["position"], fields["ended"]
        self._first, self._last = _Edge(*edge), _Edge(*edge)
        for data in messages:
            self.append(Message.unpack(data) if data else None, self.received)


class OutputLog:
    """Messages for the client that it has not acknowledged.

    Args:
        rate: samples or frames a second of the output.

    Attributes:
        rate: likewise.
        acknowledged: number of the first one that the client may lack.
        produced: number of the next one to be computed.
        ms: of audio in those kept.
        bytes: of payloads in those kept.
        ended: the totals of the latest complete utterance, and the number of its last message.
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.acknowledged = self.produced = 0
        self.ms, self.bytes = 0.0, 0
        self.ended: tuple[int, Totals] | None = None
        self._items: deque[Output] = deque()
        self._digests: deque[int] = deque()  # of the last so many before `produced`

    def add(self, output: Output) -> bool:
        """Take what was computed; return whether it is new to the client.

        Raises:
            Refusal: `fault`, it differs from what was computed the first time.
        """
        message = output.message
        digest = hash(message)  # 64 bits, with a key that no client knows
        back = self.produced - message.seq
        if back > 0:
            if back <= len(self._digests) and self._digests[-back] != digest:
                raise Refusal(
                    "fault", f"message {message.seq} came out different when computed again"
                )
            return False
        if back < 0:
            raise Refusal("fault", f"message {self.produced} is missing before {message.seq}")
        self._digests.append(digest)
        self.produced += 1
        if output.ended is not None:
            self.ended = message.seq, output.ended
        if message.seq < self.acknowledged:
            return False  # the client had it from another server
        self._items.append(output)
        self.ms += self._ms(output)
        self.bytes += len(message.payload)
        return True

    def exceeds(self, most: float) -> bool:
        """Whether more than so many milliseconds are not acknowledged; see `is_too_much`."""
        return is_too_much(self.ms, len(self._items), self.bytes, most)

    def _ms(self, output: Output) -> float:
        return 1000 * output.units / self.rate

    def acknowledge(self, next_: int, elsewhere: bool = False) -> None:
        """The client has all messages before this number.

        Args:
            elsewhere: it may have some from another server, that were not computed here yet.

        Raises:
            Refusal: `sequence`, they were never sent, or were acknowledged before.
        """
        most = MOST_MESSAGES if elsewhere else max(self.produced, self.acknowledged)
        if not self.acknowledged <= next_ <= most:
            raise Refusal(
                "sequence",
                f"{next_} messages acknowledged; expected {self.acknowledged} to {most}",
            )
        while self._items and self._items[0].message.seq < next_:
            output = self._items.popleft()
            self.ms -= self._ms(output)
            self.bytes -= len(output.message.payload)
        self.acknowledged = next_
        if not self._items:
            self.ms = 0.0

    def get(self, number: int) -> Output | None:
        """Return the message of this number, if it has been computed."""
        index = number - self.produced + len(self._items)
        return self._items[index] if 0 <= index < len(self._items) else None

    def checkpoint(self, out: int) -> None:
        """Forget the digests of what won't be computed again."""
        while len(self._digests) > self.produced - out:
            self._digests.popleft()

    def export(self) -> tuple[dict[str, Any], list[bytes]]:
        """Return the log, to be continued by another server."""
        fields: dict[str, Any] = {
            "acknowledged": self.acknowledged,
            "produced": self.produced,
            "units": [output.units for output in self._items],
            "ended": self.ended and [self.ended[0], asdict(self.ended[1])],
        }
        return fields, [output.message.pack() for output in self._items]

    def restore(self, fields: dict[str, Any], messages: list[bytes], out: int) -> None:
        """Continue an exported log, as of a checkpoint that stands for `out` messages."""
        self.acknowledged, self.produced = fields["acknowledged"], out
        if fields["ended"] and fields["ended"][0] < out:
            self.ended = fields["ended"][0], from_json(Totals, fields["ended"][1])
        for units, data in zip(fields["units"], messages, strict=True):
            message = Message.unpack(data)
            if message.seq < out:
                last = self.ended is not None and self.ended[0] == message.seq
                ended = self.ended[1] if last and self.ended else None
                self._items.append(Output(message, units, ended))
        self.ms = sum(map(self._ms, self._items))
        self.bytes = sum(len(output.message.payload) for output in self._items)


@dataclass
class Checkpoint:
    """A row's state, and the numbers of messages in and out that it stands for.

    Without `data`, it is the start of a stream.
    """

    data: bytes | HeldBytes | None = None
    next: int = 0
    out: int = 0

    def read(self) -> bytes | None:
        return self.data.read() if isinstance(self.data, HeldBytes) else self.data


@dataclass
class Session:
    """A stream, whether or not it has a connection or a place.

    Attributes:
        id: for logs.
        client: to whom it belongs.
        config: what it computes.
        input, output: the logs.
        generation: connections so far.
        confirmed: whether the client has sent anything on the latest.
        consumed: messages of the client that a row has computed with.
        forwarded: messages given to the row that computes now.
        sent: messages sent to the client on any connection.
        safe: messages that the client may forget.
        on_disk: messages that the checkpoint stands for that has been written; -1: there is none.
        resumable: True, or why not.
        placement: where the row is; the engine's.
        connection: the server's; None while it is parked.
        parked_at: since when.
        arriving: connections for which a place is being found: it is not parked then, either.
        stalled_at: since when its row is paused; None: it isn't.
        stamp: number of a message that had to wait for nobody but others, and when it came.
        deaths: of workers while they had something of it to compute, since it got on.
        deaths_alone: of those, while they had nothing else to compute, at the message `alone_at`.
        died_at, died_with: what was consumed, and what its row had been given, at the last of them.
        failure: why it can't go on.
        handed: its client has its sealed state, and goes on at another server.
    """

    id: str
    client: Any
    config: RowConfig
    input: InputLog
    output: OutputLog
    generation: int = 0
    confirmed: bool = True
    consumed: int = 0
    forwarded: int = 0
    sent: int = 0
    safe: int = 0
    on_disk: int = -1
    resumable: bool | str = True
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    placement: Any = None
    connection: Any = None
    parked_at: float = 0.0
    arriving: int = 0
    stalled_at: float | None = None
    stamp: tuple[int, float] | None = None
    deaths: int = 0
    deaths_alone: int = 0
    alone_at: int = -1
    died_at: int = -1
    died_with: int = 0
    failure: Refusal | None = None
    handed: bool = False
    on_change: Callable[[], None] = lambda: None

    def take_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Note a new state of the row."""
        self.checkpoint = checkpoint
        self.input.drop_before(checkpoint.next)
        self.output.checkpoint(checkpoint.out)

    @property
    def stored(self) -> bool:
        """Whether the latest checkpoint is on disk."""
        return self.on_disk >= self.checkpoint.next

    @property
    def parked(self) -> bool:
        """Whether it waits for its client to come back."""
        return self.connection is None and not self.arriving

    def park(self) -> None:
        self.connection, self.parked_at, self.stalled_at = None, time.monotonic(), None

    def export(self, with_input: bool) -> tuple[dict[str, Any], list[bytes]]:
        """Return everything, as of the checkpoint, as JSON fields and bytes for `resume.seal`.

        Args:
            with_input: since the checkpoint; without, the client must have kept it.
        """
        input_, inputs = self.input.export(with_input)
        output, outputs = self.output.export()
        fields = {
            "session": self.id,
            "client": self.client.name,
            "generation": self.generation,
            "config": asdict(self.config),
            "input": input_,
            "output": output,
            "next": self.checkpoint.next,
            "out": self.checkpoint.out,
            "started": self.checkpoint.data is not None,
        }
        return fields, [self.checkpoint.read() or b"", *inputs, *outputs]

    def restore(self, fields: dict[str, Any], parts: list[bytes]) -> None:
        """Continue what `export` of another server returned."""
        self.generation = fields["generation"]
        data = parts[0] if fields["started"] else None
        self.checkpoint = Checkpoint(data, fields["next"], fields["out"])
        first = 1 + fields["input"]["messages"]
        self.input.restore(fields["input"], parts[1:first])
        self.output.restore(fields["output"], parts[first:], fields["out"])
        self.consumed = self.forwarded = self.safe = self.checkpoint.next
