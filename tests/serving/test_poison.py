"""A message that ends the process that computes it: its stream ends, and no other.

With a codec that computes nothing, in threads that die as processes do. The fatal message is the
first one after a checkpoint, and the neighbours compute old input again beside it: nobody gets on.
"""

import asyncio
import threading

import pytest
from serving_caller import Caller, Lost, reset
from serving_server import NULL
from serving_speech import Speech

from syllabary.serving.protocol import FROM_SERVER, Kind, Message, Open, Ready, Resume, dump, parse
from syllabary.serving.rows import Row

from .running import Running, ThreadProcess, deaths_by
from .test_streams import connect, until

FATAL = b"\x5a\xa5" * 320


@pytest.fixture(scope="module")
def speech():
    return Speech(NULL, "encode", 1.5)


@pytest.fixture(
    params=[1, pytest.param(2, marks=pytest.mark.slow)], ids=["one worker", "two workers"]
)
def server(loop, request):
    settings = {"workers": request.param, "spares": 1, "places": 8, "checkpoint_seconds": 30.0}
    running = Running(loop, codecs=(NULL,), **settings)
    yield running
    running.close()


@pytest.fixture
def deaths(monkeypatch):
    """Of workers by the fatal message: how many rows had something to do with it."""
    return deaths_by(FATAL, monkeypatch)


def poisoned(speech, at: int = 0):
    call, _ = speech.call(9)
    call.messages = list(call.messages)
    call.messages[at] = call.messages[at]._replace(payload=FATAL)
    return call


async def speak_until_the_end(server, calls, poison) -> list[type]:
    """Start the calls, then the poisoned ones; return what the latter raise."""
    running = [asyncio.create_task(Caller(server.url, pace=True).call(c)) for c, _ in calls]
    await until(lambda: all(len(call.received) > 15 for call, _ in calls))
    ends = await asyncio.gather(
        *(Caller(server.url, pace=True).call(call) for call in poison), return_exceptions=True
    )
    await asyncio.gather(*running)
    return ends


@pytest.mark.parametrize("at", [0, 10])
def test_only_the_stream_with_the_fatal_message_ends(server, speech, deaths, at):
    calls, poison = [speech.call(number) for number in range(4)], poisoned(speech, at)
    ends = asyncio.run(speak_until_the_end(server, calls, [poison]))
    assert [type(end) for end in ends] == [Lost]
    assert poison.errors == ["unprocessable"] and "any process" in str(ends[0])
    for call, expected in calls:
        assert call.output == expected and not call.errors and not call.resumes
        call.check()
    assert 5 <= len(deaths) <= 6
    asyncio.run(until(lambda: not server.places_taken))
    assert server.engine.suspects.room is None


def test_a_message_that_hangs_its_worker_ends_its_stream_alone(loop, speech, monkeypatch):
    read, kill, hangs = Row._read, ThreadProcess.kill, []

    def hang(row, message):
        if message.payload == FATAL:
            hangs.append(threading.Event())
            assert hangs[-1].wait(60), "nobody noticed"
            raise ConnectionError("the process has gone")
        return read(row, message)

    def kill_hanging(process):
        kill(process)
        hangs[-1].set()

    monkeypatch.setattr(Row, "_read", hang)
    monkeypatch.setattr(ThreadProcess, "kill", kill_hanging)
    settings = {"workers": 1, "spares": 1, "places": 8, "silence_seconds": 0.4}
    server = Running(loop, codecs=(NULL,), **settings)
    try:
        calls, poison = [speech.call(number) for number in range(3)], poisoned(speech, 10)
        ends = asyncio.run(speak_until_the_end(server, calls, [poison]))
    finally:
        server.close()
    assert [type(end) for end in ends] == [Lost] and poison.errors == ["unprocessable"]
    for call, expected in calls:
        assert call.output == expected and not call.errors and not call.resumes
    assert 5 <= len(hangs) <= 6


def test_several_fatal_streams_end_alone(server, speech, deaths):
    calls, poison = [speech.call(n) for n in range(3)], [poisoned(speech) for _ in range(2)]
    asyncio.run(speak_until_the_end(server, calls, poison))
    assert all(call.errors == ["unprocessable"] for call in poison)
    for call, expected in calls:
        assert call.output == expected and not call.errors and not call.resumes


def test_a_client_that_comes_back_is_not_a_new_one(server, speech, deaths):
    """Who resumes a stream whose next message is fatal is computed alone, and then refused."""
    calls = [speech.call(number) for number in range(2)]

    async def once(token: str | None) -> tuple[str | None, str]:
        """Open or resume the stream, and go when a worker has died; return what the server said."""
        before = len(deaths)
        async with connect(server) as socket_:
            await socket_.send(dump(Resume(token) if token else Open("encode", "null")))
            answer = parse(await socket_.recv(), FROM_SERVER)
            if not isinstance(answer, Ready):
                return token, answer.code
            if token is None:
                await socket_.send(Message(Kind.PCM, 0, 0, FATAL).pack())
            await until(lambda: len(deaths) > before or socket_.close_code is not None)
            reset(socket_)
            return answer.token, ""

    async def main():
        running = [asyncio.create_task(Caller(server.url, pace=True).call(c)) for c, _ in calls]
        await until(lambda: all(len(call.received) > 15 for call, _ in calls))
        token, said = None, ""
        while said in ("", "full"):  # while no other worker is there
            token, said = await once(token)
            await asyncio.sleep(0.05)
        await asyncio.gather(*running)
        return said

    # Told, or ended while nobody was there.
    assert asyncio.run(main()) in ("unprocessable", "expired")
    assert len(deaths) <= 6
    assert all(call.output == expected and not call.errors for call, expected in calls)


def test_workers_that_something_else_kills_end_no_stream(server, speech):
    """However often, and also while one is computed alone."""
    calls = [speech.call(number) for number in range(4)]

    async def main():
        running = [asyncio.create_task(Caller(server.url, pace=True).call(c)) for c, _ in calls]
        for number in range(6):
            await until(lambda n=number: all(len(c.received) > 15 + 8 * n for c, _ in calls))
            server.kill_worker()
        await asyncio.gather(*running)

    asyncio.run(main())
    for call, expected in calls:
        assert call.output == expected and not call.errors and not call.resumes
