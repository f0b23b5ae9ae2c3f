"""What RFC 6455 asks of a server, by raw bytes: own cases, in the order of Autobahn's sections.

Each case sends bytes behind a handshake, and names the frames that must come back, up to the end
of the connection. Where a case ends well, a close with 1000 follows, and its answer must come.
"""

import asyncio
import contextlib
import struct

import pytest
from serving_server import NULL

from syllabary.serving.websocket import WebSocket

from .running import Running
from .test_websocket import MOST, UPGRADE, SocketServer, run

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
FINAL = 128
SNOWMAN = "κόσμε ☃ 𝄞".encode()


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    final: bool = True,
    reserved: int = 0,
    masked: bool = True,
    length: bytes | None = None,
    key: bytes = b"\x11\x22\x83\xf4",
) -> bytes:
    """A frame. `length`: bytes of the length field in place of the right ones, without the mask."""
    size = len(payload)
    if length is None:
        length = bytes([size]) if size < 126 else b"\x7e" + struct.pack(">H", size)
    head = bytes([FINAL * final | reserved << 4 | opcode, FINAL * masked | length[0]]) + length[1:]
    if not masked:
        return head + payload
    return head + key + bytes(byte ^ key[n % 4] for n, byte in enumerate(payload))


def close(code: int | None = 1000, reason: bytes = b"") -> bytes:
    return frame(CLOSE, b"" if code is None else struct.pack(">H", code) + reason)


def text(data: bytes) -> tuple[int, bytes]:
    return TEXT, data


def binary(data: bytes) -> tuple[int, bytes]:
    return BINARY, data


def pong(data: bytes = b"") -> tuple[int, bytes]:
    return PONG, data


def closed(code: int | None = 1000) -> tuple[int, bytes]:
    return CLOSE, b"" if code is None else struct.pack(">H", code)


#: Name: bytes sent, frames that come back. The end is `closed(…)`.
CASES: dict[str, tuple[bytes, list[tuple[int, bytes]]]] = {
    # 1: framing
    "1.1 empty text": (frame(TEXT), [text(b"")]),
    "1.1 text of 125": (frame(TEXT, b"*" * 125), [text(b"*" * 125)]),
    "1.1 text of 126": (frame(TEXT, b"*" * 126), [text(b"*" * 126)]),
    "1.1 text of 128": (frame(TEXT, b"*" * 128), [text(b"*" * 128)]),
    "1.2 empty binary": (frame(BINARY), [binary(b"")]),
    "1.2 binary of 127": (frame(BINARY, b"\xfe" * 127), [binary(b"\xfe" * 127)]),
    "1.2 the longest message": (frame(BINARY, b"\0" * MOST), [binary(b"\0" * MOST)]),
    "1.3 a mask of zeros": (frame(BINARY, b"abcde", key=bytes(4)), [binary(b"abcde")]),
    "1.4 without a mask, text": (frame(TEXT, b"x", masked=False), [closed(1002)]),
    "1.4 without a mask, empty": (frame(BINARY, masked=False), [closed(1002)]),
    "1.4 without a mask, long": (frame(BINARY, b"x" * 500, masked=False), [closed(1002)]),
    "1.4 without a mask, ping": (frame(PING, b"x", masked=False), [closed(1002)]),
    "1.4 without a mask, close": (
        frame(CLOSE, struct.pack(">H", 1000), masked=False),
        [closed(1002)],
    ),
    "1.4 without a mask, continuation": (
        frame(TEXT, b"a", final=False) + frame(CONTINUATION, b"b", masked=False),
        [closed(1002)],
    ),
    "1.4 without a mask, after a good one": (
        frame(TEXT, b"good") + frame(TEXT, b"bad", masked=False),
        [text(b"good"), closed(1002)],
    ),
    "1.5 short length in 16 bits": (
        frame(BINARY, b"x" * 125, length=b"\x7e\x00\x7d"),
        [closed(1002)],
    ),
    "1.5 short length in 64 bits": (
        frame(BINARY, b"x", length=b"\x7f" + struct.pack(">Q", 1)),
        [closed(1002)],
    ),
    "1.5 16 bits of length in 64": (
        frame(BINARY, b"x" * 200, length=b"\x7f" + struct.pack(">Q", 65_535)),
        [closed(1002)],
    ),
    "1.5 a length of 2^63": (
        frame(BINARY, b"x", length=b"\x7f" + struct.pack(">Q", 1 << 63)),
        [closed(1002)],
    ),
    "1.5 a length of 2^63 - 1": (
        frame(BINARY, b"x", length=b"\x7f" + struct.pack(">Q", (1 << 63) - 1)),
        [closed(1009)],
    ),
    "1.6 too long": (frame(BINARY, b"x" * (MOST + 1)), [closed(1009)]),
    "1.6 too long in parts": (
        frame(TEXT, b"x" * MOST, final=False) + frame(CONTINUATION, b"x"),
        [closed(1009)],
    ),
    # 2: pings and pongs
    "2.1 empty ping": (frame(PING), [pong()]),
    "2.2 ping with text": (frame(PING, b"there?"), [pong(b"there?")]),
    "2.3 ping with bytes": (frame(PING, b"\0\xff\xfe"), [pong(b"\0\xff\xfe")]),
    "2.4 ping of 125": (frame(PING, b"x" * 125), [pong(b"x" * 125)]),
    "2.5 ping of 126": (frame(PING, b"x" * 126), [closed(1002)]),
    "2.7 unsolicited pong": (frame(PONG), []),
    "2.8 unsolicited pong of 125": (frame(PONG, b"x" * 125), []),
    "2.9 pong, then ping": (frame(PONG, b"a") + frame(PING, b"b"), [pong(b"b")]),
    "2.10 ten pings": (
        b"".join(frame(PING, b"%d" % n) for n in range(10)),
        [pong(b"%d" % n) for n in range(10)],
    ),
    "2.11 pong of 126": (frame(PONG, b"x" * 126), [closed(1002)]),
    # 3: reserved bits
    **{
        f"3.1 reserved bits {bits:03b} of opcode {opcode}": (
            frame(opcode, b"", reserved=bits),
            [closed(1002)],
        )
        for opcode, bits in [(TEXT, 1), (TEXT, 4), (BINARY, 2), (PING, 4), (PONG, 7), (CLOSE, 1)]
    },
    "3.2 reserved bit after a good message": (
        frame(TEXT, b"good") + frame(TEXT, b"bad", reserved=4),
        [text(b"good"), closed(1002)],
    ),
    "3.3 reserved bit of a continuation": (
        frame(TEXT, b"a", final=False) + frame(CONTINUATION, b"b", reserved=2),
        [closed(1002)],
    ),
    # 4: opcodes
    **{
        f"4.1 opcode {opcode}": (
            frame(TEXT, b"good") + frame(opcode),
            [text(b"good"), closed(1002)],
        )
        for opcode in (3, 4, 7, 11, 12, 15)
    },
    # 5: parts
    "5.1 half a ping": (frame(PING, b"x", final=False), [closed(1002)]),
    "5.2 half a pong": (frame(PONG, b"x", final=False), [closed(1002)]),
    "5.2 half a close": (
        frame(CLOSE, struct.pack(">H", 1000), final=False),
        [closed(1002)],
    ),
    "5.3 text in two parts": (
        frame(TEXT, b"one ", final=False) + frame(CONTINUATION, b"two"),
        [text(b"one two")],
    ),
    "5.4 binary in three parts, one empty": (
        frame(BINARY, b"a", final=False)
        + frame(CONTINUATION, final=False)
        + frame(CONTINUATION, b"b"),
        [binary(b"ab")],
    ),
    "5.5 all parts empty": (
        frame(TEXT, final=False) + frame(CONTINUATION, final=False) + frame(CONTINUATION),
        [text(b"")],
    ),
    "5.6 a ping between parts": (
        frame(TEXT, b"one ", final=False) + frame(PING, b"now") + frame(CONTINUATION, b"two"),
        [pong(b"now"), text(b"one two")],
    ),
    "5.7 a continuation of nothing": (frame(CONTINUATION, b"x"), [closed(1002)]),
    "5.8 a continuation of nothing, not final": (
        frame(CONTINUATION, b"x", final=False),
        [closed(1002)],
    ),
    "5.9 a continuation after the end": (
        frame(TEXT, b"whole") + frame(CONTINUATION, b"x"),
        [text(b"whole"), closed(1002)],
    ),
    "5.10 a continuation after the end of parts": (
        frame(TEXT, b"a", final=False) + frame(CONTINUATION, b"b") + frame(CONTINUATION, b"c"),
        [text(b"ab"), closed(1002)],
    ),
    "5.11 a message within another": (
        frame(TEXT, b"a", final=False) + frame(TEXT, b"b"),
        [closed(1002)],
    ),
    "5.12 a message within one that is empty so far": (
        frame(TEXT, final=False) + frame(BINARY, b"b"),
        [closed(1002)],
    ),
    "5.13 parts within another message": (
        frame(BINARY, b"a", final=False) + frame(BINARY, b"b", final=False),
        [closed(1002)],
    ),
    "5.14 the next message after parts": (
        frame(TEXT, b"a", final=False) + frame(CONTINUATION, b"b") + frame(BINARY, b"c"),
        [text(b"ab"), binary(b"c")],
    ),
    # 6: UTF-8
    "6.2 more than ASCII": (frame(TEXT, SNOWMAN), [text(SNOWMAN)]),
    "6.2 a character in two parts": (
        frame(TEXT, SNOWMAN[:1], final=False) + frame(CONTINUATION, SNOWMAN[1:]),
        [text(SNOWMAN)],
    ),
    "6.22 the last code point": (frame(TEXT, b"\xf4\x8f\xbf\xbf"), [text(b"\xf4\x8f\xbf\xbf")]),
    **{
        f"6.3 {why}": (frame(TEXT, data), [closed(1007)])
        for why, data in {
            "a byte that never is": b"a\xff",
            "a start only": b"\xe2\x98",
            "a continuation only": b"\x80",
            "overlong": b"\xc0\xaf",
            "a surrogate": b"\xed\xa0\x80",
            "beyond the last code point": b"\xf4\x90\x80\x80",
        }.items()
    },
    "6.4 wrong in the second part": (
        frame(TEXT, SNOWMAN, final=False) + frame(CONTINUATION, b"\xfe"),
        [closed(1007)],
    ),
    "6.5 any bytes in binary": (frame(BINARY, b"\xff\xfe\x80"), [binary(b"\xff\xfe\x80")]),
    # 7: the end
    "7.1 a message after a close": (close() + frame(TEXT, b"late"), [closed(1000)]),
    "7.1 a ping after a close": (close() + frame(PING, b"late"), [closed(1000)]),
    "7.1 two closes": (close(1001) + close(1000), [closed(1001)]),
    "7.1 nonsense after a close": (close() + b"\xff" * 40, [closed(1000)]),
    "7.1 a close between parts": (frame(TEXT, b"a", final=False) + close(), [closed(1000)]),
    "7.3 without a code": (close(None), [closed(None)]),
    "7.3 half a code": (frame(CLOSE, b"\3"), [closed(1002)]),
    "7.3 a reason": (close(1000, SNOWMAN), [closed(1000)]),
    "7.3 a reason of 123": (close(1000, b"*" * 123), [closed(1000)]),
    "7.3 a reason of 124": (close(1000, b"*" * 124), [closed(1002)]),
    "7.5 a reason that is no UTF-8": (close(1000, b"\xce\xba\xff"), [closed(1007)]),
    **{
        f"7.7 code {code}": (close(code), [closed(code)])
        for code in (1000, 1001, 1003, 1007, 1011, 1012, 1014, 3000, 4000, 4999)
    },
    **{
        f"7.9 code {code}": (close(code), [closed(1002)])
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535)
    },
}


class Echo(SocketServer):
    """A server that sends back each message."""

    async def talk(self, websocket: WebSocket) -> None:
        websocket.listen(websocket.send)


def frames_of(data: bytes) -> list[tuple[int, bytes]]:
    """A server's frames: final, without a mask, as short as they can be."""
    found = []
    while data:
        opcode, size, start = data[0] & 15, data[1], 2
        assert data[0] == FINAL | opcode and size < 127
        if size == 126:
            size, start = struct.unpack(">H", data[2:4])[0], 4
            assert size >= 126
        assert len(data) >= start + size
        found.append((opcode, data[start : start + size]))
        data = data[start + size :]
    return found


async def answers(port: int, data: bytes, step: int) -> list[tuple[int, bytes]]:
    """Send bytes in steps of so many; return the frames that come until the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(UPGRADE)
    await reader.readuntil(b"\r\n\r\n")
    with contextlib.suppress(ConnectionError):  # it may end before it has everything
        for at in range(0, len(data), step):
            writer.write(data[at : at + step])
            await writer.drain()
            if step < len(data):
                await asyncio.sleep(0)
    found = b""
    with contextlib.suppress(ConnectionError):
        while piece := await reader.read(1 << 16):
            found += piece
    writer.close()
    return frames_of(found)


@pytest.mark.parametrize("step", [1 << 16, 7, 1])
def test_every_case_is_answered_as_rfc_6455_says(step):
    assert len(CASES) >= 90
    wrong = {}

    async def test():
        async with Echo() as server:
            for name, (sent, expected) in CASES.items():
                if name.startswith("7.1") and step < 1 << 16:
                    continue  # TCP may reset who goes on sending when all is over
                ends = bool(expected) and expected[-1][0] == CLOSE
                data = sent if ends else sent + close()
                if not ends:
                    expected = [*expected, closed()]
                async with asyncio.timeout(20):
                    found = await answers(server.port, data, step)
                if found != expected:
                    wrong[name] = found

    run(test())
    assert not wrong


@pytest.fixture
def server(loop):
    running = Running(loop, codecs=(NULL,), workers=1, spares=0, places=1)
    yield running
    running.close()


def test_another_version_is_told_the_right_one(server):
    """4.2.2: not an upgrade, and the version that would be."""

    async def test(version: bytes) -> bytes:
        port = int(server.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        asked = UPGRADE.replace(b"GET / ", b"GET /v1/stream ").replace(b": 13", b": " + version)
        writer.write(asked)
        answer = await reader.readuntil(b"\r\n\r\n")
        writer.close()
        return answer

    for version in (b"8", b"7", b"12", b"14", b"x"):
        answer = asyncio.run(test(version))
        assert answer.startswith(b"HTTP/1.1 426 "), answer
        assert b"\r\nSec-WebSocket-Version: 13\r\n" in answer
