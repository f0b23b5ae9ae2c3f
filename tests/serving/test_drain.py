"""Servers that stop within a second or two, at the worst moment: no stream is lost.

With a codec that computes nothing, in threads; what a worker that is too busy would do is done by
one that never answers.
"""

import asyncio
import socket
import threading
import time
from contextlib import ExitStack

import pytest
import websockets
from serving_caller import Caller, reset
from serving_server import NULL
from serving_speech import Speech

from syllabary.serving import connect as connect_client
from syllabary.serving.protocol import (
    FROM_SERVER,
    Error,
    Kind,
    Message,
    Ready,
    Refusal,
    Resume,
    dump,
    parse,
)
from syllabary.serving.worker import Worker

from .running import deployment
from .test_streams import connect, until


@pytest.fixture(scope="module")
def speech():
    return Speech(NULL, "encode", 1.2)


@pytest.fixture
def servers(loop, tmp_path):
    """Make servers of one deployment that stop within a second; those left are closed."""
    settings = {"drain_seconds": 1.0, "workers": 1, "spares": 0, "places": 8}
    with deployment(loop, tmp_path, codecs=(NULL,), **settings) as make:
        yield make


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        found = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in found]


class Stuck:
    """Keeps workers from doing something, until `release`."""

    def __init__(self, monkeypatch, name: str) -> None:
        self._go, original = threading.Event(), getattr(Worker, name)
        self._go.set()

        def waiting(worker, *given):
            self._go.wait(30)
            return original(worker, *given)

        monkeypatch.setattr(Worker, name, waiting)

    def hold(self) -> None:
        self._go.clear()

    def release(self) -> None:
        self._go.set()


@pytest.fixture
def stuck(monkeypatch):
    made = []

    def make(name: str) -> Stuck:
        made.append(Stuck(monkeypatch, name))
        return made[-1]

    yield make
    for each in made:
        each.release()


async def moved(before, after, speech, count: int, worst) -> list:
    """Make calls at one server, stop it after `worst`, and let them go on at another."""
    here = before
    calls = [speech.call(number) for number in range(count)]
    ending = asyncio.Event()
    running = [
        asyncio.create_task(Caller(lambda: here.url, pace=True, may_end=ending).call(call))
        for call, _ in calls
    ]
    await until(lambda: all(len(call.received) > 10 for call, _ in calls))
    worst()
    draining = asyncio.create_task(asyncio.to_thread(before.drain, 0.2))
    await until(lambda: before.engine.draining)
    here = after
    await draining
    before.close()
    ending.set()
    await asyncio.gather(*running)
    for call, expected in calls:
        assert call.output == expected
        call.check()
    return [call for call, _ in calls]


def test_a_worker_that_does_not_give_its_rows_loses_nothing(servers, speech, stuck):
    """Its clients get the last checkpoint and the input since, in time."""
    before, after = servers(), servers()
    export = stuck("export")

    def worst():
        export.hold()
        after.loop.loop.call_later(2.5, export.release)  # for the other server's worker

    calls = asyncio.run(moved(before, after, speech, 4, worst))
    assert all(call.resumes == 1 and call.errors == ["draining"] for call in calls)


def test_a_late_server_takes_streams_that_have_begun_and_no_new_ones(servers, speech, monkeypatch):
    """They would be refused again and again, while what is late there waits for nobody."""
    before, after = servers(), servers()
    monkeypatch.setattr(after.engine.lateness, "p95", lambda now: 3600.0)
    with pytest.raises(Refusal, match="3600000 ms late"):
        after.engine.admit()
    calls = asyncio.run(moved(before, after, speech, 4, lambda: None))
    assert all(call.resumes == 1 and call.errors == ["draining"] for call in calls)


def test_a_worker_that_computes_nothing_any_more_loses_nothing(servers, speech, stuck):
    before, after = servers(checkpoint_seconds=0.3), servers()
    compute = stuck("compute")

    def worst():
        compute.hold()
        after.loop.loop.call_later(2.5, compute.release)

    calls = asyncio.run(moved(before, after, speech, 4, worst))
    assert all(call.errors == ["draining"] for call in calls)


def test_a_worker_that_dies_while_the_server_stops_loses_nothing(servers, speech):
    before, after = servers(), servers()
    calls = asyncio.run(moved(before, after, speech, 4, before.kill_worker))
    assert all(call.resumes == 1 for call in calls)


@pytest.mark.parametrize("client", ["websockets", "syllabary"])
def test_what_came_before_the_close_is_read(servers, speech, stuck, client):
    """A client that had no processor finds it all at once: output, its state, and the close.

    Its acknowledgement of the output comes too late, and costs nothing.
    """
    before, after = servers(drain_seconds=8.0), servers()
    compute = stuck("compute")
    call, expected = speech.call(0)

    async def main():
        here, ending = before, asyncio.Event()

        async def with_websockets():
            await Caller(lambda: here.url, pace=True, ack_every=1, may_end=ending).call(call)
            return call.output

        async def with_ours():
            async with connect_client([before.url, after.url], "encode", "null") as stream:
                for message in call.messages:
                    await stream.send(message.payload)
                    await asyncio.sleep(0.02)
                await ending.wait()
                await stream.end()
                return b"".join([message.payload async for message in stream])

        talk = {"websockets": with_websockets, "syllabary": with_ours}[client]
        running = asyncio.create_task(talk())
        await until(lambda: before.sessions and before.sessions[0].input.received >= 10)
        compute.hold()
        await until(lambda: before.sessions[0].input.received >= 30)
        draining = threading.Thread(target=before.drain, args=(1.0,))
        draining.start()
        compute.release()
        time.sleep(3)  # the whole loop, with all its clients
        await asyncio.to_thread(draining.join)
        before.close()
        here = after
        ending.set()
        assert await running == expected

    asyncio.run(main())


def test_a_full_server_takes_the_streams_later(servers, speech):
    """A client keeps its sealed state until a server has taken it."""
    before, after = servers(), servers(places=2)
    calls = [speech.call(number) for number in range(4)]

    async def main():
        here = before
        tasks = [
            asyncio.create_task(Caller(lambda: here.url, pace=True).call(call)) for call, _ in calls
        ]
        await until(lambda: all(len(call.received) > 10 for call, _ in calls))
        draining = asyncio.create_task(asyncio.to_thread(before.drain, 0.1))
        await until(lambda: before.engine.draining)
        here = after
        await draining
        await asyncio.gather(*tasks)

    asyncio.run(main())
    assert all(call.output == expected for call, expected in calls)


async def begin(server, call) -> tuple:
    """Open a stream and send half of it; return the socket and `ready`."""
    socket_ = await connect(server)
    await socket_.send(dump(call.open))
    ready = parse(await socket_.recv(), FROM_SERVER)
    for message in call.messages[:20]:
        await socket_.send(message.pack())
    return socket_, ready


async def take_state(socket_) -> tuple[bytes, str, int]:
    """Read until the end; return the sealed state, the error's code, and the close code."""
    sealed, code = b"", ""
    try:
        while True:
            data = await socket_.recv()
            if isinstance(data, str):
                answer = parse(data, FROM_SERVER)
                code = answer.code if isinstance(answer, Error) else code
            elif data[0] == Kind.STATE:
                message = Message.unpack(data)
                assert message.position == len(sealed)
                sealed += message.payload
    except websockets.ConnectionClosed:
        return sealed, code, socket_.close_code


async def begin_and_go(server, call) -> Ready:
    """Begin a stream, and be away when the server has 20 of its messages."""
    socket_, ready = await begin(server, call)
    await until(lambda: server.sessions[0].input.received == 20)
    reset(socket_)
    await until(lambda: server.sessions[0].parked)
    return ready


async def bring(server, sealed: bytes, token: str) -> Ready:
    async with connect(server) as socket_:
        await socket_.send(dump(Resume(token, 0, state=True)))
        for at in range(0, len(sealed), 50_000):
            part, final = sealed[at : at + 50_000], at + 50_000 >= len(sealed)
            await socket_.send(Message(Kind.STATE, 0, at, part, final).pack())
        answer = parse(await socket_.recv(), FROM_SERVER)
        assert isinstance(answer, Ready), answer
        return answer


@pytest.mark.parametrize("phase", ["at once", "at the hand-over"])
def test_who_resumes_at_a_server_that_stops_gets_its_state(servers, speech, phase):
    before, after = servers(drain_seconds=6.0), servers()
    call, _ = speech.call(0)

    async def main():
        ready = await begin_and_go(before, call)
        draining = asyncio.create_task(asyncio.to_thread(before.drain, 1.0))
        await until(lambda: before.engine.draining)
        if phase == "at the hand-over":
            await until(lambda: before.engine.handing_over)
        async with connect(before) as again:
            await again.send(dump(Resume(ready.token)))
            ready = parse(await again.recv(), FROM_SERVER)
            assert isinstance(ready, Ready) and ready.resumed
            sealed, code, close = await take_state(again)
        assert (code, close) == ("draining", 1012) and sealed
        await draining
        there = await bring(after, sealed, ready.token)
        assert there.next == 20

    asyncio.run(main())


def test_a_stream_that_is_let_in_while_the_server_stops_is_handed_over(servers, speech, stuck):
    """Its row is opened only after all others have gone."""
    before, after = servers(drain_seconds=8.0), servers()
    opening = stuck("_open")
    call, _ = speech.call(0)

    async def main():
        opening.hold()
        async with connect(before) as socket_:
            await socket_.send(dump(call.open))
            await until(lambda: before.sessions)
            draining = asyncio.create_task(asyncio.to_thread(before.drain, 0.1))
            await until(lambda: before.engine.handing_over)
            await asyncio.sleep(0.2)
            opening.release()
            ready = parse(await socket_.recv(), FROM_SERVER)
            sealed, code, _ = await take_state(socket_)
        assert code == "draining" and sealed
        await draining
        assert (await bring(after, sealed, ready.token)).next == 0

    asyncio.run(main())


def test_new_streams_are_refused_while_others_are_handed_over(servers, speech):
    before = servers(drain_seconds=30.0)
    call, _ = speech.call(0)

    async def main():
        socket_, _ = await begin(before, call)
        draining = asyncio.create_task(asyncio.to_thread(before.drain, 20.0))
        await until(lambda: before.engine.draining)
        async with connect(before) as other:
            await other.send(dump(call.open))
            assert (await take_state(other))[1:] == ("draining", 1012)
        await socket_.close(1000)
        await draining
        with pytest.raises(websockets.InvalidStatus) as caught:
            await connect(before)
        assert caught.value.response.status_code == 503

    asyncio.run(main())


def test_a_peer_keeps_the_streams_of_clients_that_are_away(servers, speech):
    """And a third server fetches them there."""
    peer, (one, other) = servers(), free_ports(2)
    urls = f"http://127.0.0.1:{one}", f"http://127.0.0.1:{other}"
    before = servers(peers=(peer.url,), drain_seconds=5.0, url=urls[0], port=one)
    third = servers(peers=(peer.url, urls[0]), url=urls[1], port=other)
    call, _ = speech.call(0)

    async def main():
        ready = await begin_and_go(before, call)
        await asyncio.to_thread(before.drain, 0.1)
        before.close()
        assert [session.input.received for session in peer.sessions] == [20]
        async with connect(third) as again:
            await again.send(dump(Resume(ready.token)))
            answer = parse(await again.recv(), FROM_SERVER)
        assert isinstance(answer, Ready) and answer.next == 20
        assert not peer.sessions

    asyncio.run(main())


def test_a_peer_keeps_the_stream_of_a_client_that_does_not_read(servers, speech):
    """Its connection is there until the end, so it is not one of those that are away."""
    peer, (port,) = servers(), free_ports(1)
    before = servers(
        peers=(peer.url,), drain_seconds=4.0, url=f"http://127.0.0.1:{port}", port=port
    )
    call, _ = speech.call(0)

    async def main():
        socket_, ready = await begin(before, call)
        await until(lambda: before.sessions[0].input.received == 20)
        socket_.transport.pause_reading()
        await asyncio.to_thread(before.drain, 0.1)
        before.close()
        assert [session.input.received for session in peer.sessions] == [20]
        reset(socket_)
        async with connect(peer) as again:
            await again.send(dump(Resume(ready.token)))
            answer = parse(await again.recv(), FROM_SERVER)
        assert isinstance(answer, Ready) and answer.next == 20

    asyncio.run(main())


def test_a_copy_that_was_left_behind_does_not_stand_in_the_way(servers, speech):
    """A stream that has gone on elsewhere, and comes back with its state, replaces it."""
    first, second = servers(), servers(drain_seconds=5.0)
    call, _ = speech.call(0)

    async def main():
        socket_, ready = await begin(first, call)
        await until(lambda: first.sessions[0].input.received == 20)
        sealed = first.loop.run(first.server.handover.taken_home(first.sessions[0], 5))
        reset(socket_)
        async with connect(second) as again:
            await again.send(dump(Resume(ready.token, 0, state=True)))
            await again.send(Message(Kind.STATE, 0, 0, sealed, True).pack())
            ready = parse(await again.recv(), FROM_SERVER)
            for message in call.messages[20:30]:
                await again.send(message.pack())
            await until(lambda: second.sessions[0].input.received == 30)
            draining = asyncio.create_task(asyncio.to_thread(second.drain, 0.1))
            sealed, _, _ = await take_state(again)
        await draining
        assert first.sessions, "the copy"
        assert (await bring(first, sealed, ready.token)).next == 30

    asyncio.run(main())


def test_checkpoints_are_on_disk_from_the_first_moment(servers, speech, tmp_path):
    """A server that is killed before a row's first checkpoint, and one right after it took it."""
    folder = tmp_path / "states"
    folder.mkdir()
    first, second, third = (servers(state_dir=str(folder)) for _ in range(3))
    call, _ = speech.call(0)

    async def resume(server, ready):
        async with connect(server) as socket_:
            await socket_.send(dump(Resume(ready.token)))
            answer = parse(await socket_.recv(), FROM_SERVER)
            await until(lambda: list(folder.glob("*.session")))
            reset(socket_)
        return answer

    async def main():
        socket_, ready = await begin(first, call)
        reset(socket_)
        await until(lambda: list(folder.glob("*.session")))
        first.close()
        ready = await resume(second, ready)
        assert isinstance(ready, Ready)
        second.close()
        assert isinstance(await resume(third, ready), Ready)

    asyncio.run(main())


def test_the_client_brings_a_whole_state_or_none(servers, speech, stuck):
    """A state that was cut off is asked for again."""
    before, after = servers(drain_seconds=20.0), servers()
    call, expected = speech.call(3)

    async def main():
        found, stopped = b"", asyncio.Event()
        async with connect_client([before.url, after.url], "encode", "null") as stream:

            async def send():
                for message in call.messages:
                    await stream.send(message.payload)
                    await asyncio.sleep(0.005)
                await stopped.wait()  # so it can't end before it is handed over
                await stream.end()

            async def stop():
                await asyncio.to_thread(before.drain, 1.0)
                stopped.set()

            sending = asyncio.create_task(send())
            drained = None
            async for message in stream:
                found += message.payload
                if drained is None and message.seq == 20:
                    part = Message(Kind.STATE, 0, 0, b"half", final=False)
                    stream._sealed.append(part)
                    before.loop.loop.call_soon_threadsafe(
                        lambda: [s.connection.abort() for s in before.engine.sessions.values()]
                    )
                    drained = asyncio.create_task(stop())
            await sending
            await drained
            assert stream.counts.reconnects >= 2
        assert found == expected

    asyncio.run(main())
