"""Worker processes: started, watched, replaced.

A few more are started than compute: a spare one is warm, and takes over at once when another dies.
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

from ..errors import ServingError
from . import held_bytes
from .channel import READ_BYTES, pack, unpack_all
from .forked import CAN_FORK, ForkedProcess
from .logs import event
from .worker_messages import Hello, State, Unforkable, Unusable

#: A worker that lives shorter than this makes the next one wait as long.
_BACKOFF = 2.0
#: Likewise, where the next one is forked and costs little.
_FORK_BACKOFF = 0.2
_LOOK = 0.1
#: Niceness of workers for files, so that streams go first.
FILE_NICENESS = 10


class WorkerProcess:
    """A worker, as the server sees it.

    Args:
        settings: of `worker.main`.
        name: for logs.

    Attributes:
        module: that the process runs.
        popen: starts the process.
        hello: what it said when it was warm; None before.
        alive: until its process has ended.
        heard: when it last said something, or had nothing to say.
        ready: set when it is warm, or has ended before.
    """

    module = "syllabary.serving.worker"

    def __init__(self, settings: dict[str, Any], name: str) -> None:
        self.settings, self.name = settings, name
        self.popen: Callable[..., Any] = subprocess.Popen
        self.hello: Hello | None = None
        self.alive = False
        self.unusable: str | None = None
        self.unforkable: str | None = None
        self.ready = asyncio.Event()
        self.started = self.heard = time.monotonic()
        self._outgoing: list[Any] = []

    @property
    def pid(self) -> int:
        return self._process.pid

    async def run(
        self, take: Callable[["WorkerProcess", list[Any]], None], warm: Callable[[], None]
    ) -> None:
        """Start the process, and call `take` with what it says, until it ends.

        Args:
            take: gets the worker and each list of answers.
            warm: called once, when it can compute.
        """
        (ours, theirs), (states, theirs_for_states) = socket.socketpair(), socket.socketpair()
        numbers = [theirs.fileno(), theirs_for_states.fileno()]
        command = [sys.executable, "-m", self.module]
        self.socket = ours
        self._process = self.popen(
            [*command, *map(str, numbers), json.dumps(self.settings)],
            pass_fds=numbers,
            stdin=subprocess.DEVNULL,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        theirs.close()
        theirs_for_states.close()
        self.alive = True
        reader, self._writer = await asyncio.open_connection(sock=ours)
        # Of the loop's own transports; others have no such limit.
        self._writer.transport.max_size = READ_BYTES  # type: ignore[attr-defined]
        buffer = bytearray()
        try:
            while data := await reader.read(READ_BYTES):
                buffer += data
                for answers in unpack_all(buffer):
                    if self.hello is None:
                        if isinstance(answers[0], Unusable):
                            self.unusable = answers[0].message
                            return
                        if isinstance(answers[0], Unforkable):
                            self.unforkable = answers[0].message
                            return
                        self.hello = answers[0]
                        if isinstance(self._process, ForkedProcess):
                            self._process.met(self.hello.pid)
                        warm()
                        self.ready.set()
                    else:
                        for answer in answers:
                            if isinstance(answer, State) and not answer.data:
                                answer.data = held_bytes.take(states)
                        take(self, answers)
        except ConnectionError:
            pass
        finally:
            self.alive = False
            states.close()
            self.ready.set()
            self._writer.close()
            await asyncio.shield(self._reaped())

    async def _reaped(self) -> None:
        try:
            await asyncio.to_thread(self._process.wait, 5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()

    def send(self, request: Any) -> None:
        """Send a request, together with all others of this turn of the event loop."""
        if not self.alive:
            return
        if not self._outgoing:
            asyncio.get_running_loop().call_soon(self._flush)
        self._outgoing.append(request)

    def _flush(self) -> None:
        requests, self._outgoing = self._outgoing, []
        if self.alive and not self._writer.is_closing():
            self._writer.write(pack(requests))

    @property
    def backlog(self) -> int:
        """Bytes that the worker has not read yet."""
        return self._writer.transport.get_write_buffer_size() if self.alive else 0


class Template(WorkerProcess):
    """The process that workers are forked from: see `template.py`."""

    module = "syllabary.serving.template"

    def fork(self, command: list[str], pass_fds: list[int], **_: Any) -> ForkedProcess:
        """Start a worker; called as `subprocess.Popen` is.

        Raises:
            OSError: the template has gone.
        """
        niceness = json.loads(command[-1])["niceness"]
        socket.send_fds(self.socket, [bytes([niceness])], pass_fds)
        return ForkedProcess()


class Workers:
    """All workers of a server.

    Args:
        codecs, places, checkpoint_seconds: see `worker.Worker`.
        count: workers that compute streams.
        spares: workers that wait, warm, to take another's place.
        take: called with a worker and its answers.
        lost: called with a worker that has died, after `streams` has its replacement.
        changed: called when a worker became ready.
        begun: called when a process is started.

    Attributes:
        popen: starts a process, where none can be forked.
        streams: workers that compute streams now.
        files: the one for files, or None while it is started anew.
    """

    def __init__(
        self,
        *,
        codecs: list[str],
        places: int,
        checkpoint_seconds: float,
        count: int,
        spares: int,
        take: Callable[[WorkerProcess, list[Any]], None],
        lost: Callable[[WorkerProcess], None],
        changed: Callable[[], None],
        begun: Callable[[], None],
    ) -> None:
        self._settings = {
            "codecs": codecs,
            "places": places,
            "checkpoint_seconds": checkpoint_seconds,
            "niceness": 0,
        }
        self._count, self._spare_count = count, spares
        self._take, self._lost, self._changed, self._begun = take, lost, changed, begun
        self.popen: Callable[..., Any] = subprocess.Popen
        self.streams: list[WorkerProcess] = []
        self.spares: list[WorkerProcess] = []
        self.files: WorkerProcess | None = None
        self._template: Template | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._numbers = 0
        self._closing = False
        self._failure: str | None = None
        self._warm = asyncio.Event()

    async def start(self) -> None:
        """Start all, and wait until those for streams and the one for files are warm.

        Raises:
            ServingError: they can't start, and why.
        """
        if CAN_FORK and self.popen is subprocess.Popen:
            self._template = Template(self._settings, "template")
            self._keep(self._watch_template())
        for _ in range(self._count + self._spare_count):
            self._begin(files=False)
        self._begin(files=True)
        await self._warm.wait()
        if self._failure is not None:
            await self.close()
            raise ServingError(self._failure)

    async def close(self) -> None:
        """End all processes."""
        self._closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, files: bool) -> None:
        self._numbers += 1
        self._begun()
        niceness = FILE_NICENESS if files else 0
        settings = {**self._settings, "niceness": niceness}
        worker = WorkerProcess(settings, f"w{self._numbers}")
        self._keep(self._watch(worker, files))

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _watch_template(self) -> None:
        """Run a template; another one when it dies, which ends none of its workers."""
        while (template := self._template) is not None:
            begun = time.monotonic()
            await template.run(lambda *_: None, lambda: None)
            if self._closing:
                return
            if template.unforkable is not None:
                event("no_template", why=template.unforkable)
                self._template = None
            elif template.hello is None and not self._warm.is_set():
                self._failure = template.unusable or "a worker died while it started"
                self._warm.set()
                return
            else:
                event("template_lost", level="warning", pid=template.pid)
                if time.monotonic() - begun < _BACKOFF:
                    await asyncio.sleep(_BACKOFF)
                self._template = Template(self._settings, "template")

    async def _starter(self) -> Callable[..., Any]:
        """Return what starts a worker, as soon as there is something that can."""
        while (template := self._template) is not None:
            await template.ready.wait()
            if template.alive:
                return template.fork
            await asyncio.sleep(_LOOK)  # for the next one, or none
        return self.popen

    async def _watch(self, worker: WorkerProcess, files: bool) -> None:
        worker.popen = await self._starter()
        worker.started = time.monotonic()
        try:
            await worker.run(self._take, lambda: self._ready(worker, files))
        except OSError as error:
            worker.unusable = f"a worker can't be started: {error}"
        finally:
            worker.alive = False
            if worker in self.spares:
                self.spares.remove(worker)
            if self.files is worker:
                self.files = None
        if self._closing:
            return
        if worker.hello is None and not self._warm.is_set():
            self._failure = worker.unusable or f"worker {worker.name} died while it started"
            self._warm.set()
            return
        serves = worker in self.streams
        if serves:
            self.streams.remove(worker)
            self._promote()
        if worker.hello is not None:
            self._lost(worker)
        pause = _BACKOFF if self._template is None else _FORK_BACKOFF
        if time.monotonic() - worker.started < pause:
            await asyncio.sleep(pause)
        self._begin(files)

    def _ready(self, worker: WorkerProcess, files: bool) -> None:
        role = "files" if files else "spare"
        event("worker_ready", worker=worker.name, pid=worker.pid, role=role)
        if files:
            self.files = worker
        else:
            self.spares.append(worker)
            self._promote()
        if len(self.streams) == self._count and self.files is not None:
            self._warm.set()
        self._changed()

    def _promote(self) -> None:
        while self.spares and len(self.streams) < self._count:
            worker = self.spares.pop(0)
            worker.heard = time.monotonic()
            self.streams.append(worker)
            event("worker_computes", worker=worker.name, pid=worker.pid)
