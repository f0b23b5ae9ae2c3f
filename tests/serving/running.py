"""Servers that run in a thread of the test, with workers in threads or in real processes."""

import asyncio
import json
import secrets
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from syllabary.serving import worker
from syllabary.serving.channel import Channel
from syllabary.serving.config import Config
from syllabary.serving.protocol import Limits, Message
from syllabary.serving.rows import Row
from syllabary.serving.server import Server

#: For machines that do much else meanwhile: what is slow there is no fault.
PATIENT = Limits(
    handshake_seconds=60.0, idle_seconds=300.0, output_stall_seconds=300.0, park_seconds=600.0
)


class ThreadProcess:
    """In the place of a worker's process, a thread with the other end of its socket."""

    def __init__(self, command: list[str], pass_fds: list[int], **_: Any) -> None:
        self.pid = id(self)
        self._sockets = worker.sockets(map(socket.dup, pass_fds))
        self._socket = self._sockets[0]
        settings = json.loads(command[-1])
        self._thread = threading.Thread(target=self._run, args=(settings,), daemon=True)
        self._thread.start()

    def _run(self, settings: dict[str, Any]) -> None:
        try:
            worker.serve(Channel(*self._sockets), settings)
        except OSError:
            pass  # the server has gone, or this "process" was killed
        finally:
            for each in self._sockets:
                each.close()

    def kill(self) -> None:
        """Die as by SIGKILL: nothing more is said. It may be dead."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def wait(self, timeout: float | None = None) -> None:
        self._thread.join(timeout)


class Loop:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Any], timeout: float = 120) -> Any:
        """Run a coroutine there, and return its result."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)


def deaths_by(fatal: bytes, monkeypatch: Any) -> list[Row]:
    """Let a message with this payload end the process that reads it; return the rows that did."""
    read, found = Row._read, []

    def deadly(row: Row, message: Message) -> Any:
        if message.payload == fatal:
            found.append(row)
            raise ConnectionError("the process has gone")
        return read(row, message)

    monkeypatch.setattr(Row, "_read", deadly)
    return found


@contextmanager
def deployment(loop: "Loop", folder: Path, **defaults: Any) -> Iterator[Callable[..., "Running"]]:
    """Give a function that makes servers with one key; those left are closed.

    Args:
        folder: for the key.
        defaults: of `Running`.
    """
    key = folder / "key"
    key.write_text(secrets.token_hex(32))
    made: list[Running] = []

    def make(**settings: Any) -> Running:
        made.append(Running(loop, key_file=str(key), **{**defaults, **settings}))
        return made[-1]

    yield make
    for server in made:
        server.close()


class Running:
    """A server, from here to `close`.

    Args:
        loop: to run in.
        processes: whether its workers are real processes.
        settings: of `Config`.
    """

    def __init__(self, loop: Loop, processes: bool = False, **settings: Any) -> None:
        self.loop = loop
        settings = {"port": 0, "lateness_ms": 60_000.0, "limits": PATIENT, **settings}
        self.server = Server(Config(**settings))
        if not processes:
            self.server.engine.workers.popen = ThreadProcess
        self.url = loop.run(self.server.start(), 300)

    @property
    def engine(self) -> Any:
        return self.server.engine

    @property
    def sessions(self) -> list[Any]:
        return list(self.engine.sessions.values())

    @property
    def places_taken(self) -> int:
        return sum(map(len, self.engine._taken.values()))

    @property
    def is_whole(self) -> bool:
        """Whether all workers for streams are there: some may have died a moment ago."""
        workers = self.engine.workers.streams
        return len(workers) == self.server.config.workers and all(w.alive for w in workers)

    def kill_worker(self) -> None:
        """Kill the process of a worker that computes a stream, as soon as there is a worker."""
        until = time.monotonic() + 60
        while not (there := self._computing) and time.monotonic() < until:
            time.sleep(0.01)  # the last one may just have died
        there[0]._process.kill()

    @property
    def _computing(self) -> list[Any]:
        """Workers with streams; if there are none, those for them."""
        busy = [each for each, taken in list(self.engine._taken.items()) if taken]
        return busy or list(self.engine.workers.streams)

    def drain(self, grace: float = 0.3) -> None:
        self.loop.run(self.server.drain(grace))

    def close(self) -> None:
        self.loop.run(self.server.close())
