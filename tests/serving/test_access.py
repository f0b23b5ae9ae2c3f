"""Who gets in: tokens, origins, sizes and times, as a server refuses them over the network."""

import asyncio
import base64
import hashlib
import json
import logging
import time

import aiohttp
import pytest

from syllabary.serving.logs import JSONFormatter
from syllabary.serving.protocol import STREAM_PATH, SUBPROTOCOL, Limits, Open, Resume, dump

from .conftest import CODECS
from .running import Running

#: A server with compute processes: its kernels alone take minutes of a shared core to compile.
pytestmark = pytest.mark.slow

ALICE, BOB, OLD = "alice-" + "a1" * 16, "bob." + "b2" * 16, "old~" + "c3" * 16
OPEN = dump(Open("encode", "dmel"))


@pytest.fixture(scope="module")
def logged():
    """All that is logged, as a server writes it."""
    found = []

    class Handler(logging.Handler):
        def emit(self, record):
            found.append(self.format(record))

    handler = Handler()
    handler.setFormatter(JSONFormatter())
    root, own = logging.getLogger(), logging.getLogger("syllabary.serving")
    root.addHandler(handler)
    level = own.level
    own.setLevel(logging.DEBUG)  # not the attribute: loggers remember what is enabled
    yield found
    own.setLevel(level)
    root.removeHandler(handler)


@pytest.fixture(scope="module")
def guarded(loop, tmp_path_factory, logged):
    path = tmp_path_factory.mktemp("access") / "tokens"
    digest = hashlib.sha256(ALICE.encode()).hexdigest()
    path.write_text(f"alice sha256:{digest}\nbob {BOB}\nold {OLD} 2020-01-01T00:00:00Z\n")
    running = Running(
        loop,
        codecs=CODECS[:1],
        workers=1,
        spares=0,
        places=8,
        token_file=str(path),
        origins=("https://app.example.org",),
        sessions_per_token=2,
        limits=Limits(handshake_seconds=0.4, message_bytes=4096, control_bytes=2048),
    )
    yield running
    running.close()


def bearer(token):
    return "bearer." + base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")


def run(work):
    return asyncio.run(asyncio.wait_for(work, 30))


class Caller:
    """A raw WebSocket."""

    def __init__(self, server, token=None, origin=None, protocols=(SUBPROTOCOL,), path=STREAM_PATH):
        self.url, self.protocols = server.url + path, protocols
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}
        if origin:
            self.headers["Origin"] = origin

    async def __aenter__(self):
        self.http = aiohttp.ClientSession()
        try:
            self.socket = await self.http.ws_connect(
                self.url, headers=self.headers, protocols=self.protocols
            )
        except BaseException:
            await self.http.close()
            raise
        return self

    async def __aexit__(self, *_):
        await self.socket.close()
        await self.http.close()

    async def refused(self):
        """The code in `error`, and the close code."""
        told = None
        while (message := await self.socket.receive()).type in (
            aiohttp.WSMsgType.TEXT,
            aiohttp.WSMsgType.BINARY,
        ):
            if message.type == aiohttp.WSMsgType.TEXT:
                found = json.loads(message.data)
                told = found["code"] if found["type"] == "error" else told
        return told, self.socket.close_code

    async def ready(self, first=OPEN):
        await self.socket.send_str(first)
        found = json.loads(await self.socket.receive_str())
        assert found["type"] == "ready", found
        return found


@pytest.mark.parametrize(
    ("token", "path"),
    [
        (None, STREAM_PATH),
        ("wrong-" + "w" * 30, STREAM_PATH),
        (OLD, STREAM_PATH),
        (None, f"{STREAM_PATH}?token={ALICE}"),
        (None, f"{STREAM_PATH}?access_token={ALICE}&authorization=Bearer%20{ALICE}"),
    ],
    ids=["missing", "wrong", "expired", "in the URL", "in the URL again"],
)
def test_tokens_that_are_refused(guarded, token, path):
    async def test():
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            async with Caller(guarded, token, path=path):
                pass
        assert caught.value.status == 401
        assert caught.value.headers["WWW-Authenticate"] == "Bearer"
        async with Caller(guarded, token, origin=guarded.url, path=path) as caller:
            assert await caller.refused() == ("unauthorized", 4401), "a browser sees why"
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with aiohttp.ClientSession(headers=headers) as http:
            url = f"{guarded.url}/v1/encode?codec=dmel&token={ALICE}"
            async with http.post(url, data=b"x") as answer:
                assert answer.status == 401
                assert (await answer.json())["error"]["code"] == "unauthorized"

    run(test())


def test_tokens_that_are_taken(guarded):
    async def test():
        async with Caller(guarded, ALICE) as caller:
            await caller.ready()
        protocols = (SUBPROTOCOL, bearer(BOB))
        async with Caller(guarded, origin=guarded.url, protocols=protocols) as caller:
            assert caller.socket.protocol == SUBPROTOCOL, "the token is not sent back"
            await caller.ready()

    run(test())


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1"])
def test_foreign_origins(guarded, origin):
    async def test():
        async with Caller(guarded, ALICE, origin) as caller:
            assert await caller.refused() == ("forbidden_origin", 4403)
        headers = {"Authorization": f"Bearer {ALICE}", "Origin": origin}
        async with (
            aiohttp.ClientSession(headers=headers) as http,
            http.post(f"{guarded.url}/v1/encode?codec=dmel", data=b"x") as answer,
        ):
            assert answer.status == 403

    run(test())


def test_own_and_listed_origins(guarded):
    async def test():
        for origin in (guarded.url, "https://app.example.org"):
            async with Caller(guarded, ALICE, origin) as caller:
                await caller.ready()

    run(test())


def test_resume_tokens_are_used_once_and_by_their_client_only(guarded):
    async def test():
        async with Caller(guarded, ALICE) as caller:
            first = (await caller.ready())["token"]
            caller.socket._response.connection.transport.abort()
        async with Caller(guarded, BOB) as caller:
            await caller.socket.send_str(dump(Resume(first)))
            assert await caller.refused() == ("unauthorized", 4401), "another client's"
        async with Caller(guarded, ALICE) as caller:
            second = (await caller.ready(dump(Resume(first))))["token"]
            assert second != first
            await caller.socket.send_str('{"type":"ack","next":0}')
            await asyncio.sleep(0.1)
            caller.socket._response.connection.transport.abort()
        async with Caller(guarded, ALICE) as caller:
            await caller.socket.send_str(dump(Resume(first)))
            assert await caller.refused() == ("expired", 4410), "replayed"
        for broken in (second[:-2] + "AA", second[5:], "x", "."):
            async with Caller(guarded, ALICE) as caller:
                await caller.socket.send_str(dump(Resume(broken)))
                assert await caller.refused() == ("unauthorized", 4401), "forged"
        async with Caller(guarded, ALICE) as caller:
            await caller.ready(dump(Resume(second)))

    run(test())


def test_sessions_of_a_token(guarded):
    async def test():
        async with Caller(guarded, ALICE) as one, Caller(guarded, ALICE) as two:
            await one.ready()
            await two.ready()
            async with Caller(guarded, ALICE) as three:
                await three.socket.send_str(OPEN)
                assert await three.refused() == ("over_quota", 4429)
            async with Caller(guarded, BOB) as other:
                await other.ready()

    run(test())


def test_oversized_messages(guarded):
    async def test():
        async with Caller(guarded, ALICE) as caller:
            await caller.ready()
            await caller.socket.send_bytes(bytes(5000))
            assert (await caller.refused())[1] == 1009
        async with Caller(guarded, ALICE) as caller:
            await caller.ready()
            await caller.socket.send_str(" " * 3000)
            assert await caller.refused() == ("too_big", 1009)
        async with Caller(guarded, ALICE) as caller:
            await caller.socket.send_str(OPEN + " " * 3000)
            assert await caller.refused() == ("too_big", 1009)

    run(test())


async def raw(server, data):
    """What a server answers to these bytes, and after how long."""
    host, port = server.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(data)
    begun = time.monotonic()
    answer = await reader.read(65536)
    writer.close()
    return answer, time.monotonic() - begun


HEAD = b"GET /v1/stream HTTP/1.1\r\nHost: a\r\n"


def test_oversized_and_slow_handshakes(guarded):
    async def test():
        answer, _ = await raw(guarded, HEAD + b"X-Long: " + b"x" * 100_000 + b"\r\n\r\n")
        assert answer.startswith((b"HTTP/1.0 400", b"HTTP/1.1 400"))
        async with Caller(guarded, ALICE) as caller:
            assert await caller.refused() == ("too_slow", 4408)

    run(test())


@pytest.mark.parametrize("data", [b"", HEAD], ids=["nothing", "half a head"])
def test_connections_without_a_request(guarded, data):
    async def test():
        answer, _ = await asyncio.wait_for(raw(guarded, data), 5)
        assert not answer.startswith(b"HTTP/1.1 101")

    run(test())


def test_no_secret_was_told(guarded, logged):
    """Last: after all the above."""

    async def test():
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"{guarded.url}/metrics") as answer,
        ):
            return await answer.text()

    metrics = run(test())
    assert 'syllabary_refusals_total{code="unauthorized"}' in metrics
    said = metrics + "\n".join(logged)
    assert '"event": "opened"' in said and "alice" in said
    for secret in (ALICE, BOB, OLD, bearer(ALICE), bearer(BOB)):
        assert secret not in said
    for line in logged:
        assert isinstance(json.loads(line), dict)
