"""Streams over a real WebSocket, by an independent client: equal to offline, come what may."""

import asyncio
import random
import time

import pytest
import websockets
from serving_caller import Call, Caller, Lost, reset

from syllabary.serving.protocol import (
    FROM_SERVER,
    PCM,
    STREAM_PATH,
    SUBPROTOCOL,
    Ack,
    End,
    Ended,
    Error,
    Kind,
    Message,
    Open,
    Ready,
    Refusal,
    Reset,
    Resume,
    dump,
    parse,
)

from .running import deaths_by
from .test_worker import TASKS

#: A server with compute processes: its kernels alone take minutes of a shared core to compile.
pytestmark = pytest.mark.slow


def check(call: Call, expected: bytes) -> Call:
    assert call.output == expected
    call.check()
    return call


def connect(server, **more):
    return websockets.connect(
        server.url.replace("http", "ws", 1) + STREAM_PATH,
        subprotocols=more.pop("subprotocols", [SUBPROTOCOL]),
        compression=None,
        close_timeout=1,
        open_timeout=60,
        proxy=None,
        **more,
    )


async def until(condition, seconds: float = 120) -> None:
    """Wait for something that happens soon."""
    end = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < end, "it did not happen"
        await asyncio.sleep(0.02)


@pytest.fixture(autouse=True)
def places_are_free(server):
    """After each test, whatever it left."""
    yield
    asyncio.run(until(lambda: all(s.connection is None for s in server.sessions)))
    for session in server.sessions:
        server.loop.loop.call_soon_threadsafe(server.engine.discard, session, "end")
    asyncio.run(until(lambda: not server.places_taken))


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_every_task_equals_offline(server, utterance, task):
    own = utterance(**task, seconds=1.3, seed=3)
    call = asyncio.run(Caller(server.url).call(own.call))
    check(call, own.expected)
    assert call.ready.codec.name and call.ready.resumable is True and not call.resumes


def test_many_streams_at_once(server, utterance):
    own = [utterance(**task, seconds=1.0, seed=n) for n, task in enumerate(TASKS)]

    async def main():
        return await asyncio.gather(*(Caller(server.url).call(each.call) for each in own))

    for each, call in zip(own, asyncio.run(main()), strict=True):
        check(call, each.expected)


@pytest.mark.parametrize("task", [TASKS[1], TASKS[3], TASKS[5], TASKS[7]], ids=str)
def test_connections_lost_anywhere_lose_nothing(server, utterance, task):
    own = utterance(**task, seconds=2.0, seed=4)
    count = len(asyncio.run(Caller(server.url).call(own.call)).received)
    drops = random.Random(0).sample(range(count), 5)
    call = asyncio.run(Caller(server.url, drops=drops).call(own.call))
    check(call, own.expected)
    assert call.resumes == 5


@pytest.mark.parametrize("task", [TASKS[1], TASKS[2], TASKS[5], TASKS[7]], ids=str)
def test_workers_that_die_lose_nothing(server, utterance, task):
    """The row is computed again from its last checkpoint, by another worker."""
    own = [utterance(**task, seconds=2.5, seed=n) for n in range(3)]

    async def main():
        calls = [each.call for each in own]
        running = [asyncio.create_task(Caller(server.url, pace=True).call(c)) for c in calls]
        for part in (0.3, 0.7):
            due = part * len(calls[0].messages)
            await until(lambda due=due: len(calls[0].due) > due)
            server.kill_worker()
        return await asyncio.gather(*running)

    for each, call in zip(own, asyncio.run(main()), strict=True):
        check(call, each.expected)
        assert not call.resumes, "the client sees a pause only"


def test_streams_outlive_any_number_of_workers(server, utterance):
    """Who gets on between the deaths is not to blame for them."""
    own = [utterance("encode", "ts3", seconds=4.0, seed=n) for n in range(2)]

    async def main():
        calls = [each.call for each in own]
        running = [asyncio.create_task(Caller(server.url, pace=True).call(c)) for c in calls]
        for _ in range(7):
            here = len(calls[0].received), len(calls[1].received)
            server.kill_worker()
            await until(
                lambda here=here: all(
                    len(call.received) > count + 1 for call, count in zip(calls, here, strict=True)
                )
            )
        return await asyncio.gather(*running)

    for each, call in zip(own, asyncio.run(main()), strict=True):
        check(call, each.expected)


def test_a_message_that_kills_workers_ends_its_stream(server, utterance, monkeypatch):
    own = utterance("encode", "ts3", seconds=2.0)
    deaths = deaths_by(own.sent[len(own.sent) // 2].payload, monkeypatch)
    with pytest.raises(Lost, match="can't compute this stream"):
        asyncio.run(Caller(server.url, pace=True).call(own.call))
    assert len(deaths) in (5, 6) and not server.places_taken


def test_places_come_back_after_disconnects_of_all_kinds(server, utterance):
    """In the handshake, before `open`, in a message; closed, reset, or without a word."""
    own = utterance("encode", "ts3", seconds=1.0)

    async def one(kind: int) -> None:
        async with connect(server) as socket_:
            if kind == 0:
                return reset(socket_)
            await socket_.send(dump(own.opens))
            if kind == 1:
                return reset(socket_)
            await socket_.recv()
            for message in own.sent[: kind * 3]:
                await socket_.send(message.pack())
            if kind == 2:
                return reset(socket_)
            if kind == 3:
                socket_.transport.write(b"\x82\xfe\x01")  # within a frame's header
                await asyncio.sleep(0.01)
                return reset(socket_)
            if kind == 4:
                await socket_.close(1001)

    async def main():
        await until(lambda: server.is_whole)
        for _ in range(4):
            await asyncio.gather(*(one(kind) for kind in range(6)))
            await until(lambda: not server.places_taken)

    asyncio.run(main())
    parked = list(server.engine.sessions.values())
    assert all(session.connection is None for session in parked)
    # Kinds 2, 3 and 4 may be resumed; 5 said goodbye. No more than there are places.
    assert len(parked) == 12


def test_a_slow_reader_pauses_its_own_row_only(server, utterance):
    slow = utterance("decode", "ts3", seconds=6.0, pcm=PCM("f32le", 48_000))
    quick = utterance("encode", "ts3", seconds=3.0, seed=8)

    async def main():
        call = slow.call
        caller = Caller(server.url, ack_every=1000, read_pause=(2, 2.0))
        running = asyncio.create_task(caller.call(call))
        await until(lambda: len(call.received) >= 2)
        (session,) = server.sessions
        await until(lambda: session.stalled_at is not None)
        other = await Caller(server.url).call(quick.call)
        paused = session.stalled_at is not None
        waiting = session.output.ms
        early = not running.done()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return other, paused, waiting, early

    other, paused, waiting, early = asyncio.run(main())
    check(other, quick.expected)
    assert early and paused and 2000 < waiting < 4000


async def refused(server, *messages, subprotocols=(SUBPROTOCOL,), **headers) -> tuple[str, int]:
    """Send messages; return the error's code and the close code."""
    code = ""
    async with connect(
        server, subprotocols=list(subprotocols), additional_headers=headers
    ) as socket_:
        for message in messages:
            await socket_.send(message)
        try:
            while True:
                answer = await socket_.recv()
                if isinstance(answer, str) and '"error"' in answer:
                    code = parse(answer, FROM_SERVER).code
        except websockets.ConnectionClosed:
            return code, socket_.close_code


OPEN = dump(Open("encode", "ts3"))


@pytest.mark.parametrize(
    ("messages", "code", "close"),
    [
        (["nonsense"], "malformed", 4400),
        ([b"\1" * 20], "malformed", 4400),
        ([dump(Ack(0))], "malformed", 4400),
        ([dump(Open("encode", "nothing"))], "unknown_codec", 4404),
        ([dump(Open("encode", "ts3", digest="ab"))], "unknown_codec", 4404),
        ([dump(Open("encode", "ts3", codebooks=2))], "malformed", 4400),
        ([OPEN.replace("s16le", "mp3")], "unsupported_format", 4415),
        ([OPEN, OPEN], "malformed", 4400),
        ([OPEN, Message(Kind.PCM, 1, 0, b"").pack()], "sequence", 4409),
        ([OPEN, Message(Kind.PCM, 0, 1, b"").pack()], "sequence", 4409),
        ([OPEN, Message(Kind.PCM, 0, 0, b"\0").pack()], "malformed", 4400),
        ([OPEN, Message(Kind.SYL_CHUNK, 0, 0, b"").pack()], "malformed", 4400),
        ([OPEN, dump(Ack(5))], "sequence", 4409),
        ([OPEN, dump(End(1))], "sequence", 4409),
        ([OPEN, dump(End(0)), dump(End(1))], "malformed", 4400),
        (
            [OPEN, Message(Kind.PCM, 0, 0, bytes(64_000)).pack()],
            "too_much_input",
            4429,
        ),
        ([OPEN, *(dump(Reset(number)) for number in range(9000))], "too_much_input", 4429),
        ([OPEN, bytes(70_000)], "", 1009),
        ([OPEN, " " * 9000], "too_big", 1009),
        ([dump(Resume("a.b"))], "unauthorized", 4401),
    ],
)
def test_refusals_have_their_codes(server, messages, code, close):
    assert asyncio.run(refused(server, *messages)) == (code, close)


def test_a_forgotten_stream_frees_its_place_though_another_has_its_id(server):
    """As when two connections fetch one stream from another server at the same time."""

    async def main():
        async with connect(server) as socket_:
            await socket_.send(OPEN)
            await socket_.recv()
            (first,) = [s for s in server.sessions if s.connection is not None]
            second = server.engine.new_session(first.id, first.client, first.config)
            second.parked_at = time.monotonic()

            def replace() -> None:
                server.engine.sessions[first.id] = second
                server.engine.discard(first, "end")

            server.loop.loop.call_soon_threadsafe(replace)
            await until(lambda: server.engine.sessions.get(first.id) is second)
            await until(lambda: not server.places_taken)
            assert first.placement is None

    asyncio.run(main())


def test_other_subprotocols_and_plain_requests_are_refused(server):
    async def main():
        with pytest.raises(websockets.InvalidStatus) as caught:
            async with connect(server, subprotocols=["chat"]):
                pass
        assert caught.value.response.status_code == 400
        assert b"malformed" in caught.value.response.body
        assert await refused(server, subprotocols=["chat"], Origin=server.url) == (
            "malformed",
            4400,
        )

    asyncio.run(main())


def test_a_second_connection_fences_off_the_first(server, utterance):
    own = utterance("encode", "ts3")

    async def main():
        async with connect(server) as first, connect(server) as second, connect(server) as third:
            await first.send(dump(own.opens))
            ready = parse(await first.recv(), FROM_SERVER)
            await second.send(dump(Resume(ready.token)))
            again = parse(await second.recv(), FROM_SERVER)
            assert isinstance(again, Ready) and again.resumed and again.token != ready.token
            with pytest.raises(websockets.ConnectionClosed):
                while True:
                    await first.recv()
            assert first.close_code == 4411
            # Whoever has the second token has used it: the first one is void.
            await second.send(own.sent[0].pack())
            await until(lambda: server.engine.sessions[ready.session].input.received == 1)
            await third.send(dump(Resume(ready.token)))
            with pytest.raises(websockets.ConnectionClosed):
                while True:
                    await third.recv()
            assert third.close_code == 4410
            await second.close(1000)
        await until(lambda: ready.session not in server.engine.sessions)

    asyncio.run(main())


def test_reset_begins_another_utterance_on_the_same_connection(server, utterance):
    first, second = (utterance("encode", "ts3", seconds=0.4, seed=seed) for seed in (0, 9))

    async def main():
        async with connect(server) as socket_:
            await socket_.send(dump(first.opens))
            seq, outputs = 0, [b"", b""]
            for number, own in enumerate((first, second)):
                for message in own.sent:
                    await socket_.send(
                        Message(message.kind, seq, message.position, message.payload).pack()
                    )
                    seq += 1
                    await asyncio.sleep(0)
                await socket_.send(dump(End(seq)))
                seq += 1
                while True:
                    answer = await socket_.recv()
                    if isinstance(answer, bytes):
                        outputs[number] += Message.unpack(answer).payload
                    elif isinstance(parse(answer, FROM_SERVER), Ended):
                        break
                await socket_.send(dump(Reset(seq)))
                seq += 1
            return outputs

    assert asyncio.run(main()) == [first.expected, second.expected]


def test_a_session_without_room_is_refused(server, utterance):
    async def main():
        places = 2 * 6
        sockets = [await connect(server) for _ in range(places)]
        for socket_ in sockets:
            await socket_.send(OPEN)
            assert isinstance(parse(await socket_.recv(), FROM_SERVER), Ready)
        assert await refused(server, OPEN) == ("full", 4503)
        for socket_ in sockets:
            await socket_.close(1000)
        await until(lambda: not server.places_taken)

    asyncio.run(main())


def test_who_says_nothing_is_let_go(server, monkeypatch):
    from dataclasses import replace

    def limited(**limits) -> None:
        config = server.server.config
        config = replace(config, limits=replace(config.limits, **limits))
        monkeypatch.setattr(server.server, "config", config)
        monkeypatch.setattr(server.engine, "config", config)

    limited(idle_seconds=0.3)
    assert asyncio.run(refused(server, OPEN)) == ("too_slow", 4408)
    limited(handshake_seconds=0.2)
    assert asyncio.run(refused(server)) == ("too_slow", 4408)


def test_lateness_refuses_new_streams_and_not_those_that_are_there(server):
    from syllabary.serving.engine import Lateness

    lateness = Lateness()
    for number in range(19):
        lateness.add(0.05, now=10.0 + number / 100)
    assert lateness.p95(10.2) == 0.0  # too few to tell
    lateness.add(0.05, now=10.2)
    assert lateness.p95(10.2) == 0.05
    assert lateness.p95(13.0) == 0.0
    meter, server.engine.lateness = server.engine.lateness, lateness
    try:
        import time

        for _ in range(40):
            lateness.add(61.0, now=time.monotonic())
        with pytest.raises(Refusal) as caught:
            server.engine.admit()
        assert caught.value.code == "full" and caught.value.retry_after
    finally:
        server.engine.lateness = meter


def test_errors_are_told_before_the_close(server):
    async def main():
        async with connect(server) as socket_:
            await socket_.send("nonsense")
            error = parse(await socket_.recv(), FROM_SERVER)
            assert isinstance(error, Error) and "JSON" in error.message

    asyncio.run(main())
