"""`syllabary serve` as it runs: real workers that are killed, curl, and SIGTERM under load."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from serving_caller import Caller

from syllabary.audio.files import write
from syllabary.jobs.one_file import encode_file

from ..conftest import synthetic_speech
from .conftest import CODECS
from .test_streams import TASKS, check, until

#: A server with compute processes: its kernels alone take minutes of a shared core to compile.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def process(tmp_path_factory):
    """A server with one worker and its spare; yields the process, the URL and the log."""
    log = tmp_path_factory.mktemp("serve") / "log"
    command = [sys.executable, "-m", "syllabary", "serve", *CODECS[1:], "--port", "0"]
    command += ["--workers", "1", "--spares", "1", "--places", "8", "--drain-seconds", "16"]
    command += ["--lateness-ms", "60000"]  # where other processes make it late
    folder = tmp_path_factory.mktemp("elsewhere")  # where no folder of ours shadows another's
    with log.open("wb") as file:
        running = subprocess.Popen(command, stdout=file, stderr=file, cwd=folder)

    def url() -> str:
        lines = log.read_text().splitlines()
        found = [line.split()[-1] for line in lines if line.startswith("listening on ")]
        assert running.poll() is None, log.read_text()
        return found[0] if found else ""

    asyncio.run(until(url, 240))
    yield running, url(), log
    running.kill()
    running.wait()


def pids(log: Path, name: str) -> list[int]:
    """Of the processes that the log's events of this name are about."""
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return [line["pid"] for line in lines if name in line.values()]


def test_killed_workers_lose_nothing(process, utterance):
    _, url, log = process
    own = [utterance(**TASKS[n], seconds=3.0, seed=n) for n in (1, 2, 4, 7)]

    async def main():
        calls = [each.call for each in own]
        tasks = [asyncio.create_task(Caller(url, pace=True).call(call)) for call in calls]
        await until(lambda: all(len(call.received) > 5 for call in calls))
        os.kill(pids(log, "worker_computes")[-1], signal.SIGKILL)
        return await asyncio.gather(*tasks)

    for each, call in zip(own, asyncio.run(main()), strict=True):
        check(call, each.expected)
        assert not call.resumes
    assert len(pids(log, "worker_computes")) == 2 and len(pids(log, "worker_lost")) == 1


def test_curl_gives_the_bytes_of_the_command_line(process, tokenizers, tmp_path):
    _, url, _ = process
    wav, expected = tmp_path / "my.wav", tmp_path / "my.syl"
    write(wav, synthetic_speech(16_000), 16000)
    encode_file(tokenizers["rvq"], wav, expected)
    command = ["curl", "-sS", "--fail-with-body", "--data-binary", f"@{wav}"]
    found = subprocess.run(
        [*command, f"{url}/v1/encode?codec=rvq&name=my.wav"], capture_output=True, check=True
    )
    assert found.stdout == expected.read_bytes()


def test_sigterm_drains_under_load_and_ends_in_time(process, utterance):
    """The last test of this process: its streams go on elsewhere, or have ended."""
    running, url, log = process
    own = utterance("encode", "ts3", seconds=20.0)
    workers = pids(log, "worker_ready")

    async def main():
        call = own.call
        caller = Caller(url, pace=True)
        task = asyncio.create_task(caller.call(call))
        await until(lambda: len(call.received) > 5)
        running.send_signal(signal.SIGTERM)
        await until(lambda: call.errors)
        await asyncio.to_thread(running.wait, 60)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return call

    call = asyncio.run(main())
    assert running.returncode == 0
    assert call.errors[0] == "draining" and call.goaways and call.sealed
    assert own.expected.startswith(call.output) and call.output
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
