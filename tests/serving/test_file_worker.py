"""The worker for files dies, or hangs: the request whose fault it is ends, and no other.

With a codec that computes nothing, in a thread that dies as a process does.
"""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from serving_server import NULL

from syllabary.audio.files import write
from syllabary.serving import file_jobs, file_worker

from .running import Running, ThreadProcess
from .test_http import request
from .test_streams import until

SILENCE = 0.5
ENCODE = "/v1/encode?codec=null&name="


@pytest.fixture
def server(loop):
    running = Running(loop, codecs=(NULL,), workers=1, spares=0, silence_seconds=SILENCE)
    yield running
    running.close()


@pytest.fixture
def wav(tmp_path):
    path = tmp_path / "my.wav"
    write(path, np.zeros(32_000, np.float32), 16000)
    return path.read_bytes()


@pytest.fixture
def doing(monkeypatch):
    """Give a function that is called with a job's name before it is done, and may raise."""
    run = file_jobs.run

    def set_before(before):
        def doing(job, tokenizers, go_on):
            before(job.name, go_on)
            return run(job, tokenizers, go_on)

        monkeypatch.setattr(file_jobs, "run", doing)

    return set_before


def died():
    raise ConnectionError("the process has gone")


def test_a_request_that_kills_its_worker_ends_alone(server, wav, doing):
    done = []

    def before(name, go_on):
        done.append(name)
        if name == "fatal":
            time.sleep(0.1)  # so that the others wait meanwhile
            died()

    doing(before)
    names = ["fatal", "a", "b", "c"]
    with ThreadPoolExecutor(len(names)) as pool:
        answers = [pool.submit(request, server, ENCODE + name, wav) for name in names]
        found = {name: answer.result() for name, answer in zip(names, answers, strict=True)}
    assert found["fatal"][0] == 422 and b"unprocessable" in found["fatal"][2]
    assert [found[name][0] for name in "abc"] == [200] * 3
    assert done.count("fatal") == 2 and sorted(done)[:3] == ["a", "b", "c"]


def test_a_request_whose_worker_something_else_kills_is_done_again(server, wav, doing):
    deaths = []

    def before(name, go_on):
        if not deaths:
            deaths.append(name)
            died()

    whole = request(server, ENCODE + "a", wav)
    doing(before)
    again = request(server, ENCODE + "a", wav)
    assert deaths == ["a"] and again[0] == 200 and again[2] == whole[2]


def test_a_request_that_hangs_its_worker_ends(server, wav, doing, monkeypatch):
    kill, killed = ThreadProcess.kill, threading.Event()

    def kill_hanging(process):
        kill(process)
        killed.set()

    def before(name, go_on):
        if name == "endless":
            assert killed.wait(60), "nobody noticed"
            killed.clear()
            died()

    monkeypatch.setattr(ThreadProcess, "kill", kill_hanging)
    doing(before)
    begun = time.monotonic()
    status, _, said = request(server, ENCODE + "endless", wav)
    assert status == 422 and b"unprocessable" in said
    assert time.monotonic() - begun >= 2 * SILENCE
    assert request(server, ENCODE + "a", wav)[0] == 200


def test_a_long_request_that_gets_on_is_left_alone(server, wav, doing):
    def before(name, go_on):
        for _ in range(12):
            time.sleep(SILENCE / 4)
            go_on()

    doing(before)
    assert request(server, ENCODE + "long", wav)[0] == 200


def test_files_say_that_they_get_on(wav, tmp_path):
    from serving_null import null

    source, signs = tmp_path / "body", []
    source.write_bytes(wav)
    jobs = [
        file_jobs.Job("encode", str(source), str(tmp_path / "a.syl"), "null"),
        file_jobs.Job("decode", str(tmp_path / "a.syl"), str(tmp_path / "a.wav"), "null"),
        file_jobs.Job("transcode", str(tmp_path / "a.syl"), str(tmp_path / "b.syl"), "null"),
    ]
    for job in jobs:
        before = len(signs)
        file_jobs.run(job, {"null": null()}, lambda: signs.append(1))
        assert len(signs) > before


def test_without_a_worker_the_client_is_told_to_come_back(server, wav, monkeypatch):
    monkeypatch.setattr(file_worker, "START_SECONDS", 0.2)
    files = server.engine.workers.files
    asyncio.run(until(lambda: files.alive))
    server.engine.workers.files = None
    try:
        status, headers, _ = request(server, ENCODE + "a", wav)
    finally:
        server.engine.workers.files = files
    assert status == 503 and headers["Retry-After"]
