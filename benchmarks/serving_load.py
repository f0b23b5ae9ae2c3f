"""Open-loop load over plain sockets: many streams out of one thread, for a few microseconds each.

`serving_caller` is an independent client that can do everything; it also costs more than the server
that it measures. This one sends messages that were packed before, at the times when their audio
would have been spoken, and notes when what came back came. It sleeps half a millisecond at a time
and then looks at all sockets: a server's write then wakes nobody, as on a network.
"""

import gc
import heapq
import json
import random
import select
import socket
import struct
import time
from dataclasses import dataclass

from serving_caller import Call

from syllabary.serving.protocol import (
    FROM_SERVER,
    STREAM_PATH,
    SUBPROTOCOL,
    Ack,
    Ended,
    Message,
    Ready,
    dump,
    parse,
)

_SLEEP = 0.0005
_ACK_EVERY = 10
_TEXT, _BINARY, _CLOSE = 0x81, 0x82, 0x88


def frame(first: int, payload: bytes) -> bytes:
    """A client's WebSocket frame; its mask is zero, so the payload is sent as it is."""
    size = len(payload)
    if size < 126:
        return struct.pack(">BBI", first, 0x80 | size, 0) + payload
    return struct.pack(">BBHI", first, 0x80 | 126, size, 0) + payload


@dataclass
class Stream:
    """A call on its connection.

    Attributes:
        pause: after so many answers, no more are read for so many seconds.
    """

    call: Call
    frames: list[bytes]
    socket: socket.socket
    step: float
    start: float = 0.0
    sent: int = 0
    acknowledged: int = 0
    buffer: bytes = b""
    out: bytes = b""
    answers: int = 0
    closed: bool = False
    pause: tuple[int, float] | None = None

    def due(self) -> float:
        return self.start + self.sent * self.step


class Load:
    """Streams to one server.

    Args:
        url: of the server.
        path: of the WebSocket; another than a syllabary server's is an echo, which is not read.
        speed: of the audio; beyond what the server takes, as fast as it acknowledges.
    """

    def __init__(self, url: str, path: str = STREAM_PATH, speed: float = 1.0) -> None:
        host, _, port = url.rpartition("/")[2].partition(":")
        self._address, self._path = (host, int(port)), path
        self._speaks, self._speed = path == STREAM_PATH, speed
        self._known: dict[int, list[bytes]] = {}
        self.behind = 0.0  # the longest that a message was sent after it was due

    def connect(self, calls: list[Call]) -> list["Stream"]:
        """Open a connection for each call, and its stream."""
        return [self._connect(call) for call in calls]

    def run(self, streams: list["Stream"], spread: float = 1.0, seed: int = 0) -> None:
        """Make the calls, at random phases; return when all have ended."""
        gc.collect()
        gc.disable()  # its pauses would be counted as the server's
        rng = random.Random(seed)
        begin = time.perf_counter() + 0.05
        for stream in streams:
            stream.start = begin + spread * rng.random()
        try:
            self._exchange(streams)
        finally:
            gc.enable()

    def _connect(self, call: Call) -> Stream:
        found = socket.create_connection(self._address)
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        found.sendall(
            f"GET {self._path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n".encode()
        )
        head = b""
        while b"\r\n\r\n" not in head:
            piece = found.recv(1)
            assert piece, head
            head += piece
        assert b" 101 " in head.partition(b"\r\n")[0], head
        key = id(call.messages)
        if key not in self._known:
            self._known[key] = [frame(_BINARY, message.pack()) for message in call.messages]
        ms = call.ms[min(1, len(call.ms) - 1)]
        stream = Stream(call, self._known[key], found, ms / self._speed / 1000)
        if self._speaks:
            found.sendall(frame(_TEXT, dump(call.open).encode()))
            while call.ready is None:
                stream.buffer += found.recv(65_536)
                self._read(stream, 0.0)
        found.setblocking(False)
        return stream

    def _exchange(self, streams: list[Stream]) -> None:
        poll = select.epoll()
        by_number = {stream.socket.fileno(): stream for stream in streams}
        for number in by_number:
            poll.register(number, select.EPOLLIN)
        due = [(stream.due(), number) for number, stream in by_number.items()]
        heapq.heapify(due)
        asleep: list[tuple[float, int]] = []
        left = len(streams)
        while left:
            now = time.perf_counter()
            while asleep and asleep[0][0] <= now:
                poll.register(heapq.heappop(asleep)[1], select.EPOLLIN)
            while due and due[0][0] <= now:
                _, number = heapq.heappop(due)
                stream = by_number[number]
                if stream.closed:
                    continue
                limit = stream.call.ready.limits.input_ms if stream.call.ready else 1e9
                ms = stream.call.ms[min(1, len(stream.call.ms) - 1)]
                if (stream.sent - stream.acknowledged + 1) * ms > limit and self._speaks:
                    heapq.heappush(due, (now + 0.002, number))  # no credit; it stays due
                    continue
                when = stream.due()
                self.behind = max(self.behind, now - when)
                stream.call.due.append(when)
                self._write(stream, stream.frames[stream.sent])
                stream.sent += 1
                if stream.sent < len(stream.frames):
                    heapq.heappush(due, (stream.due(), number))
            time.sleep(_SLEEP)
            for number, _ in poll.poll(0):
                stream = by_number[number]
                now = time.perf_counter()
                data = stream.socket.recv(1 << 18)
                stream.buffer += data
                self._read(stream, now)
                over = stream.call.ended is not None or not data
                if not self._speaks and stream.answers >= len(stream.frames):
                    over = True
                if over:
                    assert data or stream.call.ended, "the server closed"
                    self._write(stream, frame(_CLOSE, (1000).to_bytes(2)))
                    poll.unregister(number)
                    stream.closed = True
                    stream.socket.close()
                    left -= 1
                elif stream.pause is not None and len(stream.call.received) >= stream.pause[0]:
                    poll.unregister(number)
                    heapq.heappush(asleep, (now + stream.pause[1], number))
                    stream.pause = None

    def _write(self, stream: Stream, data: bytes) -> None:
        data = stream.out + data
        try:
            count = stream.socket.send(data)
        except BlockingIOError:
            count = 0
        stream.out = data[count:]

    def _read(self, stream: Stream, now: float) -> None:
        buffer, at, call = stream.buffer, 0, stream.call
        while len(buffer) - at >= 2:
            first, size, start = buffer[at], buffer[at + 1], at + 2
            if size == 126:
                size, start = int.from_bytes(buffer[at + 2 : at + 4]), at + 4
            if len(buffer) < start + size or len(buffer) < start:
                break
            payload = buffer[start : start + size]
            at = start + size
            if not self._speaks:
                stream.answers += 1
            elif first == _BINARY:
                call.received.append(Message.unpack(payload))
                call.came.append(now)
                if len(call.received) % _ACK_EVERY == 0:
                    self._write(stream, frame(_TEXT, dump(Ack(len(call.received))).encode()))
            elif first == _TEXT:
                self._control(stream, payload)
            else:
                raise AssertionError(f"{first:#x} {payload!r} after {call.errors}")
        stream.buffer = buffer[at:]

    def _control(self, stream: Stream, payload: bytes) -> None:
        fields = json.loads(payload)
        if fields["type"] == "ack":
            stream.acknowledged = fields["next"]
            return
        message = parse(payload.decode(), FROM_SERVER)
        if isinstance(message, Ready):
            stream.call.ready = message
        elif isinstance(message, Ended):
            stream.call.ended = message
        else:
            stream.call.errors.append(f"{message}")
