"""Servers in processes of their own, for `serving.py`: started on their cores, watched, ended."""

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
NULL = "null=serving_null:null"


@dataclass
class Served:
    """A running server: its process, its URL and its log."""

    process: subprocess.Popen
    url: str
    log: Path

    def pids(self, event: str) -> list[int]:
        """Of the living processes that the log's events of this name are about, in order."""
        lines = self.log.read_text().splitlines()
        found = [json.loads(line) for line in lines if line.startswith("{")]
        pids = [line["pid"] for line in found if event in line.values()]
        return [pid for pid in pids if Path(f"/proc/{pid}").exists()]

    @property
    def computing(self) -> list[int]:
        """The workers that compute streams."""
        return self.pids("worker_computes")

    def memory(self) -> float:
        """MiB of the server's own process."""
        return memory_of(self.process.pid)

    async def metric(self, name: str) -> float:
        """The sum of a metric's samples."""
        address = self.url.partition("//")[2]
        host, _, port = address.partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        text = (await reader.read()).decode()
        writer.close()
        rows = [line for line in text.splitlines() if line.partition("{")[0].split(" ")[0] == name]
        return sum(float(line.rpartition(" ")[2]) for line in rows)


def memory_of(pid: int) -> float:
    """MiB of a process."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0]) / 1024


def cpu(pid: int) -> float:
    """Seconds of processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def served(options: argparse.Namespace, codec: str, *more: str) -> Iterator[Served]:
    """Run a server for one codec on its cores, and put this process on the others."""
    cores = {int(core) for core in options.server_cores.split(",")}
    others = os.sched_getaffinity(0) - cores
    with tempfile.NamedTemporaryFile("w+") as log:
        command = [sys.executable, "-m", "syllabary", "serve", codec, "--port", "0"]
        command += ["--workers", str(options.workers), "--places", "256", "--log-level", "info"]
        running = subprocess.Popen(
            [*command, *more],
            stdout=log,
            stderr=log,
            env=os.environ | {"PYTHONPATH": f"{HERE}:{os.environ.get('PYTHONPATH', '')}"},
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
            cwd=tempfile.gettempdir(),
        )
        try:
            url = ""
            while not url:
                time.sleep(0.1)
                text = Path(log.name).read_text()
                assert running.poll() is None, text
                found = [line for line in text.splitlines() if line.startswith("listening on ")]
                url = found[0].split()[-1] if found else ""
            server = Served(running, url, Path(log.name))
            # The one for files, too. One that still starts takes the others' core.
            spares = int(more[more.index("--spares") + 1]) if "--spares" in more else 1
            count = options.workers + spares + 1
            while len(server.pids("worker_ready")) < count:
                time.sleep(0.1)
                assert running.poll() is None, Path(log.name).read_text()
            if others:
                os.sched_setaffinity(0, others)
            yield server
        finally:
            running.kill()
            running.wait()
            os.sched_setaffinity(0, others | cores)


@contextmanager
def echoing(options: argparse.Namespace, peer: str) -> Iterator[tuple[subprocess.Popen, str]]:
    """Run a server of `serving_echo` on the server's cores, and put this process on the others."""
    cores = {int(core) for core in options.server_cores.split(",")}
    with listening([str(HERE / "serving_echo.py"), peer], cores, 20.0) as found:
        yield found


@contextmanager
def listening(
    script: list[str], cores: set[int], seconds: float
) -> Iterator[tuple[subprocess.Popen, str]]:
    """Run a script that serves on a port, its last argument, and put this process on other cores.

    Args:
        script: its path and arguments.
        cores: for the server.
        seconds: at most, until it listens.
    """
    others = os.sched_getaffinity(0) - cores
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    running = subprocess.Popen(
        [sys.executable, *script, str(port)],
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    try:
        for _ in range(int(seconds / 0.1)):
            assert running.poll() is None, f"{script} ended"
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.1)
        if others:
            os.sched_setaffinity(0, others)
        yield running, f"http://127.0.0.1:{port}"
    finally:
        running.kill()
        running.wait()
        os.sched_setaffinity(0, others | cores)
