import os
import threading

import numpy as np
import pytest

from syllabary.jobs.pipes import PipeInput, PipeOutput


@pytest.fixture
def pipe():
    ends = list(os.pipe())
    yield ends
    for end in ends:
        if end is not None:
            os.close(end)


def close_sink(pipe):
    os.close(pipe[1])
    pipe[1] = None


def test_what_has_come_is_given_at_once(pipe):
    with PipeInput(pipe[0]) as source:
        os.write(pipe[1], b"abc")
        assert source.arrivals() == b"abc"
        before = source.arrived
        os.write(pipe[1], b"defgh")
        assert source.read(2) == b"de"
        assert source.arrived > before and source.bytes_read == 8
        assert source.waiting == 3 and source.peek(2) == b"fg" and source.peek(9) == b"fgh"
        assert source.arrivals() == b"fgh" and source.waiting == 0


def test_read_waits_for_all_and_ends_short(pipe):
    with PipeInput(pipe[0]) as source:
        os.write(pipe[1], b"ab")
        later = threading.Timer(0.05, os.write, [pipe[1], b"cd"])
        later.start()
        assert source.read(3) == b"abc"
        later.join()
        close_sink(pipe)
        assert source.read(3) == b"d"
        assert source.read(3) == source.arrivals() == b""


def test_stop_ends_a_wait(pipe):
    with PipeInput(pipe[0]) as source:
        threading.Timer(0.05, source.stop).start()
        assert source.arrivals() == b"" and source.stopped
        os.write(pipe[1], b"too late")
        assert source.read(3) == b""


@pytest.mark.parametrize("blocking", [True, False])
def test_a_full_pipe_gets_everything(pipe, blocking):
    os.set_blocking(pipe[1], blocking)
    os.set_blocking(pipe[0], blocking)
    data = np.random.default_rng(0).bytes(1_000_000)
    received = bytearray()

    def drain():
        with PipeInput(pipe[0]) as source:
            while piece := source.arrivals():
                received.extend(piece)

    reader = threading.Thread(target=drain)
    reader.start()
    target = PipeOutput(pipe[1])
    target.write(data)
    assert target.bytes_written == 0
    target.flush()
    assert target.bytes_written == len(data)
    close_sink(pipe)
    reader.join()
    assert received == data


def test_nobody_reads(pipe):
    target = PipeOutput(pipe[1])
    target.write(b"x")
    os.close(pipe[0])
    pipe[0] = None
    with pytest.raises(BrokenPipeError):
        target.flush()
