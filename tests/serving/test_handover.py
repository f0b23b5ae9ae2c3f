"""Streams that go on at another server: sealed states, peers, checkpoints on disk; and none of it
for those who have no right.
"""

import asyncio
import secrets
import time
from dataclasses import replace

import pytest
import websockets
from serving_caller import Caller

from syllabary.serving.protocol import (
    FROM_SERVER,
    Kind,
    Message,
    Ready,
    Refusal,
    Resume,
    dump,
    parse,
)
from syllabary.serving.resume import Keys, ResumeToken

from .conftest import CODECS
from .running import deployment
from .test_streams import TASKS, check, connect, until

#: A server with compute processes: its kernels alone take minutes of a shared core to compile.
pytestmark = pytest.mark.slow

SECONDS = 2.5


@pytest.fixture
def servers(loop, tmp_path):
    """Make servers of one deployment; those left are closed."""
    settings = {"workers": 1, "spares": 0, "places": 6, "checkpoint_seconds": 0.4}
    with deployment(loop, tmp_path, codecs=CODECS[1:], drain_seconds=60.0, **settings) as make:
        yield make


async def moved(before, after, own, move, *, drop: bool = False):
    """Make a call that is at one server, then, after `move`, at another."""
    here = before
    call = own.call
    # However slow the machine is: the stream has not ended before the move.
    caller = Caller(lambda: here.url, pace=True, may_end=asyncio.Event())
    running = asyncio.create_task(caller.call(call))
    await until(lambda: call.received and call.received[-1].position > 0)
    if drop:
        caller.url = after.url  # for the next connection
        before.loop.loop.call_soon_threadsafe(
            lambda: [each.connection.abort() for each in before.engine.sessions.values()]
        )
    await asyncio.to_thread(move)
    here = after
    caller.may_end.set()
    return await running


@pytest.mark.parametrize("task", [TASKS[1], TASKS[2], TASKS[5], TASKS[7]], ids=str)
def test_a_drained_server_hands_over_through_the_client(servers, utterance, task):
    before, after = servers(), servers()
    own = utterance(**task, seconds=SECONDS)
    call = asyncio.run(moved(before, after, own, before.drain))
    check(call, own.expected)
    assert call.errors == ["draining"] and call.resumes == 1 and call.goaways[0].ms == 300
    assert before.engine.ready is False and not before.places_taken


def test_a_drained_server_refuses_new_streams_and_lets_short_ones_end(servers, utterance):
    server = servers()
    own = utterance("encode", "ts3", seconds=0.5)

    async def main():
        call = own.call
        running = asyncio.create_task(Caller(server.url, pace=True).call(call))
        await until(lambda: call.ready is not None)
        draining = asyncio.create_task(asyncio.to_thread(server.drain, 50.0))
        await until(lambda: server.engine.draining)
        async with connect(server) as socket_:  # it might resume
            await socket_.send(dump(own.opens))
            error = parse(await socket_.recv(), FROM_SERVER)
            assert error.code == "draining" and error.retry_after
        await draining
        with pytest.raises(websockets.InvalidStatus) as caught:
            async with connect(server):
                pass
        assert caught.value.response.status_code == 503
        assert "Retry-After" in caught.value.response.headers
        return await running

    call = asyncio.run(main())
    check(call, own.expected)
    assert len(call.goaways) == 1


@pytest.mark.parametrize("task", [TASKS[1], TASKS[4]], ids=str)
def test_any_server_fetches_a_session_from_the_one_that_had_it(servers, utterance, task):
    before, after = servers(), servers()
    own = utterance(**task, seconds=SECONDS)
    call = asyncio.run(moved(before, after, own, lambda: None, drop=True))
    check(call, own.expected)
    assert call.resumes == 1 and not call.errors
    assert not before.engine.sessions and not before.places_taken


@pytest.mark.parametrize("task", [TASKS[1], TASKS[3], TASKS[5]], ids=str)
def test_checkpoints_on_disk_outlive_the_server(servers, utterance, task, tmp_path):
    folder = tmp_path / "states"
    folder.mkdir()
    before, after = (servers(state_dir=str(folder)) for _ in range(2))
    own = utterance(**task, seconds=SECONDS)

    def kill():
        end = time.monotonic() + 120
        while not list(folder.glob("*.session")):
            assert time.monotonic() < end, "no checkpoint was written"
            time.sleep(0.01)
        before.close()

    call = asyncio.run(moved(before, after, own, kill))
    check(call, own.expected)
    assert call.resumes == 1
    asyncio.run(until(lambda: not list(folder.iterdir())))


def test_altered_and_foreign_states_are_refused(servers, utterance):
    before, after = servers(), servers()
    own = utterance("encode", "ts3", seconds=SECONDS)

    async def main():
        async with connect(before) as socket_:
            await socket_.send(dump(own.opens))
            ready = parse(await socket_.recv(), FROM_SERVER)
            for message in own.sent[:20]:
                await socket_.send(message.pack())
            draining = asyncio.create_task(asyncio.to_thread(before.drain))
            sealed = b""
            with pytest.raises(websockets.ConnectionClosed):
                while True:
                    data = await socket_.recv()
                    if isinstance(data, bytes) and data[0] == Kind.STATE:
                        sealed += Message.unpack(data).payload
            assert socket_.close_code == 1012
        await draining

        async def bring(state: bytes, token: str = ready.token):
            async with connect(after) as socket_:
                await socket_.send(dump(Resume(token, 0, state=True)))
                size = 50_000
                for at in range(0, len(state), size):
                    part = state[at : at + size]
                    final = at + size >= len(state)
                    await socket_.send(Message(Kind.STATE, 0, at, part, final).pack())
                answer = await socket_.recv()
                if isinstance(parse(answer, FROM_SERVER), Ready):
                    return "ready"
                with pytest.raises(websockets.ConnectionClosed):
                    await socket_.recv()
                return socket_.close_code

        flipped = bytearray(sealed)
        flipped[len(flipped) // 2] ^= 1
        assert await bring(bytes(flipped)) == 4412
        assert await bring(sealed[:-1]) == 4412
        assert await bring(bytes(40)) == 4412
        keys = before.server.keys
        other = ResumeToken("0" * 16, before.url, 1, time.time() + 60, "anonymous")
        assert await bring(sealed, keys.token(other)) == 4412
        assert await bring(sealed, keys.token(replace(other, expires=0.0))) == 4410
        stranger = replace(other, client="stranger")
        assert await bring(sealed, keys.token(stranger)) == 4401
        assert await bring(sealed, Keys(secrets.token_bytes(32)).token(other)) == 4401
        assert await bring(sealed) == "ready"

    asyncio.run(main())


def test_only_servers_of_the_deployment_take_sessions():
    keys, others = Keys(b"a" * 32), Keys(b"b" * 32)
    keys.check_peer("s", keys.peer_header("s"))
    late = Keys(b"a" * 32, clock=lambda: time.time() - 100)
    for header in (
        None,
        "",
        "Peer ",
        "Peer 1.2",
        "Bearer " + keys.peer_header("s")[5:],
        keys.peer_header("t"),
        others.peer_header("s"),
        late.peer_header("s"),
    ):
        with pytest.raises(Refusal) as caught:
            keys.check_peer("s", header)
        assert caught.value.code == "unauthorized"


def test_tokens_of_other_keys_and_other_words_are_refused():
    keys = Keys(b"a" * 32)
    content = ResumeToken("s", "http://x", 1, time.time() + 60, "c")
    text = keys.token(content)
    assert keys.read_token(text) == content
    for wrong in ("", ".", text[:-2], "é" + text, text.replace(".", ".A"), text.split(".")[0]):
        with pytest.raises(Refusal) as caught:
            keys.read_token(wrong)
        assert caught.value.code == "unauthorized"
    with pytest.raises(ValueError, match="at least 32 bytes"):
        Keys(b"short")
