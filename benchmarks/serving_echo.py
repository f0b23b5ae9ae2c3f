"""Servers that answer each message with one of the size of a frame's codes, and do nothing else.

What they cost is the floor for any server with the same library: `serving.py transport` has a row
for each. `python serving_echo.py KIND PORT`.
"""

import asyncio
import contextlib
import sys
from collections.abc import Callable
from typing import Any

from syllabary.serving.event_loop import new_event_loop

ANSWER = bytes(64)  # a header and a chunk with one code
TICK_MS = 2.0
MOST = 32 << 20  # the longest message of Autobahn has 16 MiB


async def with_aiohttp(port: int) -> None:
    from aiohttp import WSMsgType, web

    async def echo(request: web.Request) -> web.WebSocketResponse:
        websocket = web.WebSocketResponse(protocols=("syllabary.v1",), compress=False)
        await websocket.prepare(request)
        async for message in websocket:
            if message.type == WSMsgType.BINARY:
                await websocket.send_bytes(ANSWER)
        return websocket

    await _serve(echo, port)


async def with_syllabary(port: int) -> None:
    """The server's own WebSocket, which sends every message back, for `serving_autobahn.py`."""
    from aiohttp import web

    from syllabary.serving.connection import no_delay
    from syllabary.serving.websocket import WebSocket

    async def echo(request: web.Request) -> web.WebSocketResponse:
        response = web.WebSocketResponse(compress=False, max_msg_size=MOST, timeout=2.0)
        await response.prepare(request)
        websocket = WebSocket(request, MOST)
        no_delay(request)
        websocket.listen(websocket.send)
        await websocket.ended
        return response

    await _serve(echo, port)


async def _serve(echo: Callable[..., Any], port: int) -> None:
    from aiohttp import web

    app = web.Application()
    app.router.add_get("/echo", echo)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


async def with_websockets(port: int) -> None:
    from websockets import ConnectionClosed
    from websockets.asyncio.server import ServerConnection, serve

    async def echo(websocket: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for _ in websocket:
                await websocket.send(ANSWER)

    async with serve(echo, "127.0.0.1", port, compression=None):
        await asyncio.Event().wait()


async def with_picows(port: int) -> None:
    from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_create_server

    class Echo(WSListener):
        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
            if frame.msg_type == WSMsgType.BINARY:
                frame.get_payload_as_bytes()
                transport.send(WSMsgType.BINARY, ANSWER)
            else:
                transport.disconnect()

    await ws_create_server(lambda _: Echo(), "127.0.0.1", port)
    await asyncio.Event().wait()


def main(kind: str, port: int) -> None:
    name, _, ticks = kind.partition("+")
    server = {
        "aiohttp": with_aiohttp,
        "syllabary": with_syllabary,
        "websockets": with_websockets,
        "picows": with_picows,
    }[name]
    with asyncio.Runner(loop_factory=lambda: new_event_loop(TICK_MS if ticks else 0.0)) as runner:
        runner.run(server(port))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
