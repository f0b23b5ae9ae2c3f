"""The client and the server together: every task equals offline, whatever happens on the way."""

import asyncio
import threading

import pytest

from syllabary.serving.blocking_client import connect_blocking
from syllabary.serving.client import connect
from syllabary.serving.client_connection import served_codecs
from syllabary.serving.protocol import PCM, Message, Refusal

from .conftest import CODECS
from .running import Running
from .test_streams import until
from .test_worker import TASKS

#: A server with compute processes: its kernels alone take minutes of a shared core to compile.
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def whole(server):
    """The test before may have killed workers."""
    asyncio.run(until(lambda: server.is_whole))


def arguments(own):
    return {
        "task": own.task,
        "codec": own.codec,
        "source": own.source,
        "input": own.input,
        "output": own.output,
        "frames": own.frames,
    }


def data_of(own) -> bytes:
    return b"".join(message.payload for message in own.sent)


async def both(stream, data, during=None):
    """Send in odd pieces, at twice the speed of speech if something is to happen; return output."""

    async def send():
        for at in range(0, len(data), 777):
            await stream.send(data[at : at + 777])
            if during is not None:
                await asyncio.sleep(0.003)
        await stream.end()

    task = asyncio.create_task(send())
    if during is not None:
        during = asyncio.create_task(during())
    try:
        out = b"".join([message.payload async for message in stream])
        await task
        if during is not None:
            await during
    finally:
        task.cancel()
    return out


def run(work):
    return asyncio.run(asyncio.wait_for(work, 60))


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_every_task_equals_offline(server, utterance, task):
    own = utterance(**task, seconds=1.3, seed=5)

    async def test():
        async with connect(server.url, **arguments(own)) as stream:
            assert await both(stream, data_of(own)) == own.expected
            assert stream.ended.complete

    run(test())


@pytest.mark.parametrize("task", ["encode", "decode"])
def test_disconnects_and_deaths_of_workers(server, utterance, task):
    own = utterance(task, "ts3", seconds=4, pcm=PCM("f32le", 8000), seed=6)

    async def test():
        async with connect(server.url, **arguments(own)) as stream:

            async def harm():
                for number in range(6):
                    await asyncio.sleep(0.08)
                    if number % 3 == 2:
                        server.kill_worker()
                    elif stream._socket is not None:
                        stream._socket._response.connection.transport.abort()

            assert await both(stream, data_of(own), harm) == own.expected
            assert stream.counts.reconnects >= 1

    run(test())


def test_a_drained_server_hands_over_without_a_gap(loop, utterance, tmp_path):
    (tmp_path / "key").write_bytes(b"k" * 32)
    settings = {"codecs": CODECS[:1], "workers": 1, "spares": 0, "places": 2}
    settings |= {"key_file": str(tmp_path / "key"), "drain_seconds": 0.6}
    old, new = (Running(loop, **settings) for _ in range(2))
    own = utterance("encode", "dmel", seconds=4, seed=7)

    async def test():
        async with connect([old.url, new.url], **arguments(own)) as stream:

            async def drain():
                await asyncio.sleep(0.15)
                await asyncio.to_thread(old.drain)

            assert await both(stream, data_of(own), drain) == own.expected
            assert stream.counts.reconnects == 1 and stream._current.url == new.url

    try:
        run(test())
    finally:
        old.close()
        new.close()


def test_utterances_one_after_the_other(server, utterance):
    first, second = (utterance("encode", "dmel", seconds=0.7, seed=seed) for seed in (1, 2))

    async def test():
        async with connect(server.url, **arguments(first)) as stream:
            assert await both(stream, data_of(first)) == first.expected
            await stream.reset()
            assert await both(stream, data_of(second)) == second.expected

    run(test())


def test_without_asyncio(server, utterance):
    own = utterance("encode", "rvq", seconds=1, seed=8)
    with connect_blocking(server.url, **arguments(own)) as stream:
        sender = threading.Thread(target=lambda: (stream.send(data_of(own)), stream.end()))
        sender.start()
        messages = list(stream)
        sender.join()
    assert all(isinstance(message, Message) for message in messages)
    assert b"".join(message.payload for message in messages) == own.expected


def test_what_a_server_has(server):
    found = asyncio.run(served_codecs(server.url))
    assert set(found) == {"dmel", "ts3", "rvq"} and found["dmel"].sample_rate == 16_000


def test_an_unknown_codec(server):
    async def test():
        with pytest.raises(Refusal, match="there are: dmel") as caught:
            async with connect(server.url, "encode", "no-such"):
                pass
        assert caught.value.code == "unknown_codec"

    run(test())
