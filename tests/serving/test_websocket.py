"""The server's end of a WebSocket, as clients of two libraries and raw bytes find it."""

import asyncio
import gc
import struct
import weakref
from functools import partial
from typing import Self

import aiohttp
import pytest
import websockets
from aiohttp import web

from syllabary.serving.websocket import BROKEN, WebSocket

MOST = 1000
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def frame(first: int, payload: bytes, size: int | None = None) -> bytes:
    """A frame as a client sends it."""
    size = len(payload) if size is None else size
    head = bytes([first, 128 | (size if size < 126 else 126)])
    if size >= 126:
        head += struct.pack(">H", size)
    key = b"\1\2\3\4"
    return head + key + bytes(byte ^ key[n % 4] for n, byte in enumerate(payload))


class SocketServer:
    """A server of WebSockets; what it does with each is a subclass's `talk`."""

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        self.url = f"ws://127.0.0.1:{self.port}/"
        return self

    async def __aexit__(self, *_) -> None:
        await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        response = web.WebSocketResponse(compress=False, timeout=0.1)
        await response.prepare(request)
        websocket = WebSocket(request, MOST)
        await self.talk(websocket)
        await websocket.ended
        return response


class Echo(SocketServer):
    """A server that takes the first message with `receive`, and hands all others back."""

    def __init__(self) -> None:
        self.sockets: list[WebSocket] = []
        self.first: list[str | bytes | None] = []

    async def talk(self, websocket: WebSocket) -> None:
        self.sockets.append(websocket)
        self.first.append(await websocket.receive(30))
        websocket.listen(partial(self._answer, websocket))

    def _answer(self, websocket: WebSocket, data: str | bytes) -> None:
        if data == "close":
            websocket.close(4429, "too much", 5.0)
        else:
            websocket.send(data, f"{len(data)}")


def run(work) -> None:
    asyncio.run(asyncio.wait_for(work, 60))


async def raw(port: int, data: bytes, until: int) -> bytes:
    """Send bytes behind a handshake; return so many bytes of the answer, or all before the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(UPGRADE)
    await reader.readuntil(b"\r\n\r\n")
    writer.write(data)
    found = b""
    while len(found) < until and (piece := await reader.read(until - len(found))):
        found += piece
    writer.close()
    return found


def test_pings_of_one_that_does_not_read_fill_no_memory():
    async def test():
        async with Echo() as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(UPGRADE)
            await reader.readuntil(b"\r\n\r\n")
            writer.transport.pause_reading()
            writer.write(frame(0x81, b"first"))
            pings = frame(0x89, bytes(125)) * 500
            for _ in range(500):  # 33 MB, far more than the system's own buffers hold
                writer.write(pings)
                await writer.drain()
            (websocket,) = server.sockets
            assert 0 < websocket._transport.get_write_buffer_size() < 200_000
            writer.transport.resume_reading()
            while websocket._transport.get_write_buffer_size() != 0:
                await reader.read(1 << 20)
            writer.write(frame(0x89, b"again"))
            found = b""
            while b"again" not in found:
                found = found[-20:] + await reader.read(1 << 20)
            writer.close()

    run(test())


def test_messages_come_whole_in_order_and_in_both_kinds():
    async def test():
        async with Echo() as server, websockets.connect(server.url, compression=None) as client:
            for sent in ("first", b"\0" * MOST, "é" * 100, [b"in ", b"three ", b"parts"], b""):
                await client.send(sent)
            assert await client.recv() == b"\0" * MOST and await client.recv() == str(MOST)
            assert await client.recv() == "é" * 100 and await client.recv() == "100"
            assert await client.recv() == b"in three parts"
            await client.recv()
            assert await client.recv() == b"" and await client.recv() == "0"
            assert server.first == ["first"]
            await (await client.ping(b"there?"))
        assert server.sockets[0].close_code == 1000

    run(test())


def test_what_comes_before_anybody_listens_waits():
    async def test():
        async with Echo() as server:
            data = b"".join(frame(0x82, bytes([n]) * 10) for n in range(5))
            found = await raw(server.port, data, 4 * (12 + 4))
            assert [found[at + 2] for at in range(0, len(found), 16)] == [1, 2, 3, 4]
            assert server.first == [bytes(10)]

    run(test())


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(0xC2, b"x"), 1002),  # a reserved bit
        (frame(0x83, b"x"), 1002),  # a reserved opcode
        (frame(0x80, b"x"), 1002),  # a continuation of nothing
        (frame(0x02, b"x") + frame(0x82, b"x"), 1002),  # a message within another
        (frame(0x89, bytes(126)), 1002),  # a long ping
        (frame(0x09, b"x"), 1002),  # half a ping
        (frame(0x88, b"\3"), 1002),  # half a close code
        (frame(0x88, struct.pack(">H", 1005)), 1002),  # one that is never sent
        (frame(0x81, b"\xff\xfe"), 1007),
        (frame(0x82, bytes(MOST + 1)), 1009),
        (frame(0x82, b"x", size=60_000), 1009),  # announced only
        (frame(0x02, bytes(MOST)) + frame(0x80, b"x"), 1009),
    ],
)
def test_frames_that_are_none_close_with_the_code_of_rfc_6455(sent, code):
    async def test():
        async with Echo() as server:
            found = await raw(server.port, frame(0x81, b"first") + sent, 1 << 16)
            assert found[0] == 0x88 and struct.unpack(">H", found[2:4]) == (code,)
            assert server.sockets[0].close_code == BROKEN and not server.sockets[0].open
            await server.sockets[0].ended

    run(test())


@pytest.mark.parametrize("cut", ["FIN", "RST", "in a frame"])
def test_a_connection_that_breaks_ends_it(cut):
    async def test():
        async with Echo() as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(UPGRADE)
            await reader.readuntil(b"\r\n\r\n")
            if cut == "in a frame":
                writer.write(frame(0x82, b"x", size=500))
            await writer.drain()
            while not server.sockets:
                await asyncio.sleep(0.01)
            if cut == "RST":
                writer.transport.abort()
            else:
                writer.close()
            await server.sockets[0].ended
            assert server.sockets[0].close_code == BROKEN and not server.sockets[0].open
            server.sockets[0].send(b"nobody hears this")
            while len(server.first) < 1:
                await asyncio.sleep(0.01)
            assert server.first == [None]

    run(test())


@pytest.mark.parametrize("client", ["aiohttp", "websockets"])
def test_it_closes_with_a_code_and_takes_the_answer(client):
    async def test():
        async with Echo() as server:
            if client == "aiohttp":
                async with aiohttp.ClientSession() as http, http.ws_connect(server.url) as one:
                    await one.send_str("first")
                    await one.send_str("close")
                    await one.send_bytes(b"too late")
                    assert (await one.receive()).type == aiohttp.WSMsgType.CLOSE
                    assert one.close_code == 4429
            else:
                async with websockets.connect(server.url) as one:
                    await one.send("first")
                    await one.send("close")
                    with pytest.raises(websockets.ConnectionClosed) as closed:
                        await one.recv()
                    assert closed.value.rcvd.code == 4429
                    assert closed.value.rcvd.reason == "too much"
            await server.sockets[0].ended
            # aiohttp's client answers with a code of its own.
            assert server.sockets[0].close_code == (1000 if client == "aiohttp" else 4429)

    run(test())


def test_a_connection_that_has_ended_leaves_no_garbage():
    async def test():
        async with Echo() as server:
            async with websockets.connect(server.url) as client:
                await client.send("first")
                await client.send("second")
                await client.recv()
            await server.sockets[0].ended
            left = weakref.ref(server.sockets.pop())
            for _ in range(500):
                if left() is None:
                    break
                await asyncio.sleep(0.01)
            assert left() is None, gc.get_referrers(left())

    gc.collect()
    gc.disable()
    try:
        run(test())
    finally:
        gc.enable()
