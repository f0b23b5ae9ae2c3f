"""Workers that are forked from a process that has everything loaded, as the server starts them."""

import asyncio
import os
import subprocess
import threading
import time
from pathlib import Path

import pytest
from serving_caller import Caller
from serving_null import null
from serving_server import HERE, NULL
from serving_speech import Speech

from syllabary.serving.forked import CAN_FORK, ForkedProcess

from .running import Running
from .test_streams import until

pytestmark = pytest.mark.skipif(not CAN_FORK, reason="Linux only")


def with_a_thread():
    """A tokenizer that leaves a thread behind, whose locks a fork could never get."""
    threading.Thread(target=time.sleep, args=(10_000,), daemon=True).start()
    return null()


@pytest.fixture
def running(loop, monkeypatch):
    """Make servers with real processes."""
    path = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", f"{HERE}:{path}")
    made = []

    def make(codec=NULL):
        settings = {"workers": 1, "spares": 1, "places": 8, "checkpoint_seconds": 0.3}
        made.append(Running(loop, processes=True, codecs=(codec,), **settings))
        return made[-1]

    yield make
    for server in made:
        server.close()


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def runs(pid: int) -> bool:
    """Whether a process does anything: one that has ended may still wait for its new parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def all_of(server) -> list:
    workers = server.engine.workers
    return [*workers.streams, *workers.spares, workers.files]


#: Real processes, each of which imports PyTorch.
@pytest.mark.slow
def test_workers_are_forked_and_replaced(running):
    """Under load, one after the other; then the process that they come from."""
    server, speech = running(), Speech(NULL, "encode", 2.0)
    workers = server.engine.workers
    template = workers._template
    calls = [speech.call(number) for number in range(3)]

    async def main():
        await until(lambda: len(workers.spares) == 1)
        first = all_of(server)
        assert [parent(each.pid) for each in first] == [template.pid] * 3
        tasks = [asyncio.create_task(Caller(server.url, pace=True).call(call)) for call, _ in calls]
        for number in range(3):
            await until(lambda n=number: all(len(c.received) > 10 + 10 * n for c, _ in calls))
            await until(lambda: workers.spares)
            (dead,) = [each.pid for each in workers.streams]
            server.kill_worker()
            await until(
                lambda dead=dead: [each.pid for each in workers.streams] not in ([], [dead])
            )
        pids = [each.pid for each in workers.streams]
        os.kill(template.pid, 9)
        await until(lambda: not template.alive)
        assert all(map(runs, pids))
        await asyncio.gather(*tasks)
        await until(lambda: workers._template.hello and workers._template is not template)
        server.kill_worker()
        await until(
            lambda: any(parent(each.pid) == workers._template.pid for each in workers.spares)
        )
        return first

    first = asyncio.run(main())
    for call, expected in calls:
        assert call.output == expected and not call.errors and not call.resumes
    pids = [each.pid for each in (*first, *all_of(server), workers._template)]
    server.close()
    assert not any(runs(pid) for pid in pids)


@pytest.mark.slow
def test_a_process_with_threads_forks_nothing(running):
    server = running(f"null={__name__}:with_a_thread")
    workers = server.engine.workers
    assert workers._template is None
    assert {parent(each.pid) for each in all_of(server)} == {os.getpid()}
    speech = Speech(NULL, "encode", 0.5)
    call, expected = speech.call(0)
    assert asyncio.run(Caller(server.url).call(call)).output == expected


def test_a_process_that_is_no_child_is_killed_and_waited_for():
    sleeping = subprocess.Popen(["sleep", "1000"])
    process = ForkedProcess()
    process.kill()  # it has not said who it is
    process.wait(0)
    process.met(sleeping.pid)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0)
    process.kill()
    process.wait(60)
    assert sleeping.wait() == -9
    process.wait()
    process.kill()
    gone = ForkedProcess()
    gone.met(sleeping.pid)
    gone.wait()
    assert gone.pid == sleeping.pid
