"""What a client has sent and received, by number, so that nothing is lost or taken twice."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from .input_pieces import Piece
from .protocol import CHAIN_START, Ack, End, Ended, Kind, Message, Ready, Refusal, Reset, chain


@dataclass(frozen=True)
class _Entry:
    message: Message | End | Reset
    ms: float


class InputLog:
    """Messages to the server that it may ask for again, and those not yet sent.

    Args:
        rate: samples or frames a second.
        limit_ms: of audio that may be unacknowledged.

    Attributes:
        next: number of the next message.
        acknowledged: messages that the server has consumed.
    """

    def __init__(self, rate: float, limit_ms: float) -> None:
        self._rate, self._limit = rate, limit_ms
        self.next = self.acknowledged = 0
        self._entries: deque[_Entry] = deque()
        self._start = 0  # number of the first entry
        self._cursor = 0  # of the next to send on this connection
        self._sent = 0  # sent on any connection
        self._position = 0
        self._open_ms = 0.0

    def room_for(self, piece: Piece) -> bool:
        """Whether the server takes this now."""
        return not self._open_ms or self._open_ms + self._ms(piece.units) <= self._limit

    def _ms(self, units: int) -> float:
        return 1000 * units / self._rate

    def append(self, piece: Piece) -> None:
        message = Message(piece.kind, self.next, self._position, piece.payload, piece.final)
        self._position += piece.units
        self._put(message, self._ms(piece.units))

    def append_control(self, make: Callable[[int], End | Reset]) -> None:
        """Append a control message that counts as one of these."""
        message = make(self.next)
        if isinstance(message, Reset):
            self._position = 0
        self._put(message, 0.0)

    def _put(self, message: Message | End | Reset, ms: float) -> None:
        self._entries.append(_Entry(message, ms))
        self._open_ms += ms
        self.next += 1

    def next_to_send(self) -> Message | End | Reset | None:
        if self._cursor == self.next:
            return None
        message = self._entries[self._cursor - self._start].message
        self._cursor += 1
        if self._cursor <= self._sent:
            return message._replace(replayed=True) if isinstance(message, Message) else message
        self._sent = self._cursor
        return message

    def acknowledge(self, ack: Ack) -> None:
        """Take an acknowledgement.

        Raises:
            Refusal: `sequence`, of messages that were never sent.
        """
        if not ack.safe <= ack.next <= self._sent:
            raise Refusal("sequence", f"{ack.next} messages acknowledged, {self._sent} were sent")
        if ack.next > self.acknowledged:
            self.acknowledged = ack.next
            self._count_open()
        while self._start < ack.safe:
            self._entries.popleft()
            self._start += 1

    def _count_open(self) -> None:
        first = max(0, self.acknowledged - self._start)
        self._open_ms = sum(self._entries[index].ms for index in range(first, len(self._entries)))

    def go_on(self, ready: Ready) -> None:
        """Send again what the server does not have.

        Raises:
            Refusal: `fault`, it lacks what it said was safe.
        """
        if not self._start <= ready.next <= self._sent:
            raise Refusal(
                "fault",
                f"the server asks for message {ready.next}; messages {self._start} to "
                f"{self._sent} are kept",
            )
        self._cursor = ready.next
        # A server that starts from an older state computes, and acknowledges, anew.
        self.acknowledged = min(self.acknowledged, ready.next)
        self._count_open()


class OutputLog:
    """Which messages have come, and a digest over each utterance's.

    Attributes:
        next: number of the next message to come.
        acknowledged: messages that the server knows have been taken.
    """

    def __init__(self) -> None:
        self.next = self.acknowledged = self._taken = 0
        self._digest = CHAIN_START
        self._ended = 0

    def add(self, message: Message) -> bool:
        """Take a message; return whether it is new.

        Raises:
            Refusal: `sequence`, one is missing before it.
        """
        if message.seq > self.next:
            raise Refusal("sequence", f"message {self.next} is missing before {message.seq}")
        if message.seq < self.next:
            return False
        if message.kind == Kind.SYL_HEADER or (message.kind == Kind.PCM and message.position == 0):
            self._digest = CHAIN_START
        self._digest = chain(self._digest, message.payload)
        self.next += 1
        return True

    def end(self, ended: Ended) -> bool:
        """Take the totals of an utterance; return whether they are new.

        Raises:
            Refusal: `sequence` or `fault`, something was lost or changed on the way.
        """
        if ended.next <= self._ended:
            return False
        if ended.next != self.next:
            raise Refusal("sequence", f"{ended.next} messages were sent, {self.next} came")
        if ended.digest != self._digest.hex():
            raise Refusal("fault", "the output is not what the server sent: its digest differs")
        self._ended, self._digest = ended.next, CHAIN_START
        return True

    def take(self, message: Message) -> int:
        """Note that the caller has a message; return how many are not acknowledged."""
        self._taken = message.seq + 1
        return self._taken - self.acknowledged

    def acknowledgement(self) -> Ack:
        self.acknowledged = max(self.acknowledged, self._taken)
        return Ack(self.acknowledged)

    def go_on(self, ready: Ready) -> None:
        """Resume: the server was told that `next` messages are here.

        Raises:
            Refusal: `fault`, it goes on later.
        """
        if ready.out > self.next:
            raise Refusal("fault", f"the server goes on at {ready.out}, {self.next} messages came")
        self.acknowledged = self.next
