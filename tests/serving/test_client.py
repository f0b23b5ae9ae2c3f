"""The client against a server that breaks off, forgets, holds back and lies."""

import asyncio
import logging
import random

import numpy as np
import pytest

from syllabary.errors import ServingError, WaveError
from syllabary.serving.blocking_client import connect_blocking
from syllabary.serving.client import connect
from syllabary.serving.protocol import Limits, Message, Open, Refusal, Resume

from .fake_server import HEADER_PAYLOAD, fake_server

SECRET = "s3cr3t-" + "x" * 30
PIECES = [random.Random(n).randbytes(640) for n in range(120)]
EXPECTED = HEADER_PAYLOAD + b"".join(PIECES) + b"end"


def run(test):
    asyncio.run(asyncio.wait_for(test, 30))


async def take(stream):
    return b"".join([message.payload async for message in stream])


async def send(stream, pieces=PIECES, pause=0.0):
    for piece in pieces:
        await stream.send(piece)
        await asyncio.sleep(pause)
    await stream.end()


async def both(stream, pieces=PIECES, pause=0.0):
    """Send and take at the same time; return the output."""
    task = asyncio.create_task(send(stream, pieces, pause))
    try:
        out = await take(stream)
        await task
    finally:
        task.cancel()
    return out


def test_everything_comes_once_and_in_order():
    async def test():
        async with fake_server() as server, connect(server.url, "encode", "echo") as stream:
            assert stream.ready.codec.name == "echo" and not stream.ready.resumed
            assert await both(stream) == EXPECTED
            assert stream.ended.samples_in == 120 * 320
            assert server.firsts == [Open("encode", "echo")]
            assert stream.counts.reconnects == 0
            assert stream.counts.bytes_sent == 120 * 640
            assert stream.counts.bytes_received == len(EXPECTED)
            await asyncio.sleep(0.15)
            assert server.acks[-1] == 122, "the header, the pieces, the end: all are acknowledged"
            with pytest.raises(ServingError, match="has ended"):
                await stream.send(b"12")
            assert await take(stream) == b"", "complete is complete"

    run(test())


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("forgets", [False, True])
def test_lost_connections(seed, forgets):
    """Broken off anywhere, also by a server that goes on from an older state."""

    async def test():
        rng = random.Random(seed)
        async with fake_server() as server:
            server.keeps, server.forgets = rng.choice([0, 3, 30]), forgets
            server.drops.extend(rng.randrange(1, 12) for _ in range(15))
            async with connect(server.url, "encode", "echo") as stream:
                assert await both(stream, pause=0.0005) == EXPECTED
                assert stream.counts.reconnects >= 10
                assert server.connections == stream.counts.reconnects + 1
            tokens = [first.token for first in server.firsts[1:]]
            made = [f"resume-secret-{n}" for n in range(1, len(tokens) + 1)]
            assert tokens == made, "the token of the last `ready`"
            pcm = [m.payload for m in server.input if isinstance(m, Message)]
            assert b"".join(pcm) == b"".join(PIECES)
            assert server.most_open_ms <= 1000

    run(test())


def test_a_connection_lost_at_the_end_and_in_the_handshake():
    async def test():
        async with fake_server() as server, connect(server.url, "encode", "echo") as stream:
            server.holds = True
            await send(stream, PIECES[:40])
            await asyncio.sleep(0.05)
            server.refusals.extend(["abort", "abort", "full"])
            server.abort()
            while server.connections < 5:
                await asyncio.sleep(0.01)
            await server.release()
            assert await take(stream) == HEADER_PAYLOAD + b"".join(PIECES[:40]) + b"end"
            assert stream.counts.reconnects == 1

    run(test())


def test_no_more_input_than_the_server_allows():
    async def test():
        async with fake_server() as server, connect(server.url, "encode", "echo") as stream:
            server.holds = True
            task = asyncio.create_task(send(stream, [bytes(320_000)]))
            await asyncio.sleep(0.2)
            assert 900 <= server.most_open_ms <= 1000 and not task.done()
            server.abort()  # what a new connection brings again counts as before
            await asyncio.sleep(0.3)
            assert server.connections == 2 and server.most_open_ms <= 1000
            await server.release()
            assert await take(stream) == HEADER_PAYLOAD + bytes(320_000) + b"end"
            await task
            assert server.most_open_ms <= 1000
            assert max(len(m.payload) for m in server.input if isinstance(m, Message)) == 3200

    run(test())


def test_what_is_not_taken_is_not_acknowledged():
    async def test():
        async with fake_server() as server, connect(server.url, "encode", "echo") as stream:
            await send(stream, PIECES[:30])
            await asyncio.sleep(0.25)
            assert server.sent == 32 and server.acks == []
            got = [(await anext(stream)).payload for _ in range(5)]
            await asyncio.sleep(0.25)
            assert server.acks == [5]
            got.append(await take(stream))
            assert b"".join(got) == HEADER_PAYLOAD + b"".join(PIECES[:30]) + b"end"

    run(test())


def test_a_silent_client_shows_that_it_lives():
    async def test():
        async with (
            fake_server(limits=Limits(idle_seconds=0.3)) as server,
            connect(server.url, "encode", "echo"),
        ):
            await asyncio.sleep(0.5)
            assert len(server.acks) >= 3 and set(server.acks) == {0}

    run(test())


def test_a_drained_server_hands_over():
    """The sealed state goes to the server that the first one names, with the token."""

    async def test():
        sealed = random.Random(0).randbytes(5500)
        async with (
            fake_server() as old,
            fake_server() as new,
            connect(old.url, "encode", "echo", token=SECRET) as stream,
        ):
            task = asyncio.create_task(both(stream, pause=0.002))
            while len(old.input) < 50:
                await asyncio.sleep(0.001)
            old.holds = True
            new.input, new.acknowledged = list(old.input), len(old.input)
            await old.drain(sealed, [new.url])
            assert await task == EXPECTED
            assert b"".join(new.state) == sealed
            assert new.firsts[0].state and new.headers[0]["Authorization"] == f"Bearer {SECRET}"

    run(test())


def test_a_token_does_not_leave_tls():
    from syllabary.serving.client_connection import Address

    async def test():
        async with fake_server() as old, fake_server() as new:
            async with connect(old.url, "encode", "echo", token=SECRET, patience=0.5) as stream:
                stream._current = Address("https://old.example.org", SECRET)
                await old.drain(b"state", [new.url])
                with pytest.raises(Refusal):
                    old.status = 503
                    await take(stream)
            assert new.headers == []

    run(test())


@pytest.mark.parametrize("code", ["superseded", "sequence", "fault", "malformed", "bad_state"])
def test_what_cannot_be_resumed_is_said(code):
    async def test():
        async with fake_server() as server, connect(server.url, "encode", "echo") as stream:
            await stream.send(PIECES[0])
            assert (await anext(stream)).payload == HEADER_PAYLOAD
            await server.fail(code)
            with pytest.raises(Refusal, match="told so") as caught:
                await take(stream)
            assert caught.value.code == code
            for _ in range(2):
                with pytest.raises(Refusal, match="told so"):
                    await stream.send(PIECES[1])
            assert server.connections == 1

    run(test())


def test_a_stream_that_is_gone():
    async def test():
        async with fake_server() as server, connect(server.url, "encode", "echo") as stream:
            server.refusals.append("expired")
            server.abort()
            with pytest.raises(Refusal) as caught:
                await take(stream)
            assert caught.value.code == "expired" and isinstance(server.firsts[1], Resume)

    run(test())


def test_a_server_that_does_not_come_back():
    async def test():
        async with (
            fake_server() as server,
            connect(server.url, "encode", "echo", patience=0.4) as stream,
        ):
            await server.stop()
            server.abort()
            with pytest.raises(ServingError, match=r"not restored within 0\.4 s"):
                await take(stream)

    run(test())


def test_a_stream_that_is_not_resumable():
    async def test():
        async with fake_server() as server:
            server.resumable = "echo keeps no state"
            async with connect(server.url, "encode", "echo") as stream:
                server.abort()
                with pytest.raises(ServingError, match="keeps no state"):
                    await take(stream)
            assert server.connections == 1

    run(test())


@pytest.mark.parametrize(
    ("wrong", "code"),
    [("digest", "fault"), ("gap", "sequence"), ("ack", "sequence"), ("next", "fault")],
)
def test_a_server_that_is_wrong_is_not_believed(wrong, code):
    async def test():
        async with fake_server() as server, connect(server.url, "encode", "echo") as stream:
            server.wrong = wrong
            if wrong == "next":  # it asks for what it had said was safe
                await stream.send(PIECES[0] * 20)
                while server.safe < 4:
                    await asyncio.sleep(0.01)
                server.abort()
            with pytest.raises(Refusal) as caught:
                await both(stream)
            assert caught.value.code == code

    run(test())


@pytest.mark.parametrize(
    ("status", "code"),
    [(401, "unauthorized"), (403, "forbidden_origin"), (404, "malformed"), (503, "full")],
)
def test_refused_upgrades(status, code):
    async def test():
        async with fake_server() as server:
            server.status = status
            with pytest.raises(Refusal) as caught:
                async with connect(server.url, "encode", "echo", token=SECRET):
                    pass
            assert (caught.value.code, caught.value.retry_after) == (code, 7.0)
            assert SECRET not in str(caught.value)

    run(test())


def test_the_first_server_that_answers():
    async def test():
        async with fake_server() as full, fake_server() as server:
            full.refusals.append("full")
            urls = ["http://127.0.0.1:1", full.url, server.url]
            async with connect(urls, "encode", "echo") as stream:
                assert await both(stream) == EXPECTED
            full.refusals.append("unknown_codec")
            with pytest.raises(Refusal, match="told so"):  # the others would say the same
                async with connect([full.url, server.url], "encode", "echo"):
                    pass
            assert server.connections == 1

    run(test())


def test_utterances_one_after_the_other():
    async def test():
        async with fake_server() as server, connect(server.url, "encode", "echo") as stream:
            assert await both(stream, PIECES[:3]) == HEADER_PAYLOAD + b"".join(PIECES[:3]) + b"end"
            await stream.reset()
            server.abort()
            second = await both(stream, PIECES[3:6])
            assert second == HEADER_PAYLOAD + b"".join(PIECES[3:6]) + b"end"
            await stream.reset()
            await stream.send(PIECES[6])
            await stream.reset()  # in the middle: no `ended`
            third = await both(stream, PIECES[7:8])
            assert third.endswith(HEADER_PAYLOAD + PIECES[7] + b"end")
            assert stream.ended.samples_in == 320

    run(test())


def test_a_cancelled_send_goes_on_with_the_next():
    async def test():
        async with fake_server() as server, connect(server.url, "encode", "echo") as stream:
            server.holds = True
            data = random.Random(1).randbytes(64_000)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(stream.send(data), 0.1)
            await server.release()
            assert await both(stream, PIECES[:2]) == (
                HEADER_PAYLOAD + data + b"".join(PIECES[:2]) + b"end"
            )

    run(test())


def test_samples_and_odd_bytes():
    async def test():
        async with fake_server() as server, connect(server.url, "encode", "echo") as stream:
            wave = np.linspace(-1, 1, 500, dtype=np.float32)
            await stream.send(wave)
            with pytest.raises(WaveError, match=r"\(n,\) float32"):
                await stream.send(wave[None])
            await stream.send(b"abc")
            with pytest.raises(WaveError, match="within a sample"):
                await stream.send(wave)
            with pytest.raises(WaveError, match="within a sample"):
                await stream.end()
            out = await take(stream)
            assert out == HEADER_PAYLOAD + out[6:1006] + b"ab" + b"end"
            assert np.frombuffer(out[6:1006], "<i2")[-1] == 32767

    run(test())


def test_no_secret_is_told(caplog):
    caplog.set_level(logging.DEBUG)

    async def test():
        async with fake_server() as server:
            with pytest.raises(ServingError) as caught:
                async with connect(
                    server.url, "encode", "echo", token=SECRET, patience=0.2
                ) as stream:
                    assert SECRET not in repr(stream._places)
                    await server.stop()
                    server.abort()
                    await take(stream)
            assert server.headers[0]["Authorization"] == f"Bearer {SECRET}"
            said = [str(caught.value), repr(caught.value)]
            for urls, token in [
                (f"http://alice:{SECRET}@127.0.0.1", None),
                (f"http://127.0.0.1/?token={SECRET}", None),
                ("http://127.0.0.1", f"{SECRET}\n"),
                ("http://127.0.0.1:1", SECRET),
            ]:
                with pytest.raises(ServingError) as caught:
                    async with connect(urls, "encode", "echo", token=token):
                        pass
                said.append(str(caught.value))
            assert SECRET not in "\n".join(said) + caplog.text

    run(test())


@pytest.mark.parametrize("url", ["", "localhost:8700", "ftp://a", "http://", "http://a:x"])
def test_bad_addresses(url):
    async def test():
        with pytest.raises(ServingError, match="URL"):
            async with connect(url, "encode", "echo"):
                pass

    run(test())


def test_bad_arguments():
    async def test():
        with pytest.raises(ServingError, match="transcode"):
            async with connect("http://a", "encode", "echo", source="b"):
                pass

    run(test())


@pytest.fixture
def blocking_server():
    """A server in another thread, as programs without asyncio have it."""
    import threading

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    context = fake_server()
    server = asyncio.run_coroutine_threadsafe(context.__aenter__(), loop).result(10)
    yield server, loop
    asyncio.run_coroutine_threadsafe(context.__aexit__(None, None, None), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_without_asyncio(blocking_server):
    server, loop = blocking_server
    with connect_blocking(server.url, "encode", "echo") as stream:
        for piece in PIECES[:40]:
            stream.send(piece)
        loop.call_soon_threadsafe(server.abort)
        stream.end()
        out = b"".join(message.payload for message in stream)
        assert out == HEADER_PAYLOAD + b"".join(PIECES[:40]) + b"end"
        assert list(stream) == []
        assert stream.ended.samples_in == 40 * 320 and stream.ready.codec.name == "echo"
        assert stream.counts.reconnects == 1
    with pytest.raises(ServingError):
        stream.send(b"12")
    with (
        pytest.raises(ServingError, match="can't reach"),
        connect_blocking("http://127.0.0.1:1", "encode", "echo"),
    ):
        pass


def test_a_fault_of_its_own_ends_the_stream(monkeypatch):
    """Who waits for output is told, and does not wait for ever."""
    from syllabary.serving.client_log import InputLog

    send_next, calls = InputLog.next_to_send, []

    def broken(log):
        calls.append(log)
        if len(calls) > 20:
            raise RuntimeError("out of step")
        return send_next(log)

    monkeypatch.setattr(InputLog, "next_to_send", broken)

    async def test():
        async with fake_server() as server, connect(server.url, "encode", "echo") as stream:
            with pytest.raises(ServingError, match=r"the client's own: RuntimeError.*out of step"):
                await both(stream)

    run(test())
