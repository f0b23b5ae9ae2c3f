"""Ticks: what arrives within one is handled together, and nothing waits longer."""

import asyncio
import selectors
import socket

import pytest

from syllabary.serving import event_loop
from syllabary.serving.event_loop import TickingSelector, new_event_loop


class Clock:
    """A time that passes only in `sleep`, and what happens then."""

    def __init__(self) -> None:
        self.now, self.slept, self.then = 100.0, [], lambda: None

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 6))
        self.now += seconds
        self.then()


@pytest.fixture
def clock(monkeypatch):
    found = Clock()
    monkeypatch.setattr(event_loop, "time", found)
    return found


@pytest.fixture
def pairs():
    found = [socket.socketpair() for _ in range(2)]
    yield found
    for pair in found:
        for end in pair:
            end.close()


def selector_of(pairs):
    selector = TickingSelector(0.002)
    for ours, _ in pairs:
        selector.register(ours, selectors.EVENT_READ)
    return selector


def test_the_first_is_handled_at_once_and_the_next_with_all_of_its_tick(clock, pairs):
    selector = selector_of(pairs)
    pairs[0][1].send(b"1")
    assert len(selector.select(None)) == 1 and clock.slept == []
    pairs[0][0].recv(1)
    pairs[0][1].send(b"2")
    clock.now += 0.0005
    clock.then = lambda: pairs[1][1].send(b"3")
    assert len(selector.select(None)) == 2, "the other one came during the tick"
    assert clock.slept == [0.0015]


def test_a_timeout_is_kept(clock, pairs):
    selector = selector_of(pairs)
    pairs[0][1].send(b"1")
    selector.select(0.1)
    assert len(selector.select(0)) == 1, "a look costs no time"
    assert clock.slept == []
    selector.select(0.0005)
    assert clock.slept == [0.0005], "what is due by time comes first"
    selector.select(0.1)
    assert clock.slept == [0.0005, 0.0015]


def test_after_a_pause_nothing_waits(clock, pairs):
    selector = selector_of(pairs)
    pairs[0][1].send(b"1")
    selector.select(None)
    clock.now += 0.01
    selector.select(None)
    assert clock.slept == []


@pytest.mark.parametrize("tick_ms", [0.0, 1.0])
def test_a_loop(tick_ms):
    async def talk():
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours)
        far_reader, far_writer = await asyncio.open_connection(sock=theirs)
        for number in range(10):
            writer.write(bytes([number]))
            far_writer.write(await far_reader.readexactly(1))
            assert await reader.readexactly(1) == bytes([number])
        await asyncio.to_thread(int)
        for each in (writer, far_writer):
            each.close()
            await each.wait_closed()
        return True

    with asyncio.Runner(loop_factory=lambda: new_event_loop(tick_ms)) as runner:
        assert runner.run(talk())
