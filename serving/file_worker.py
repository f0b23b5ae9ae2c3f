"""Jobs of the worker for files: those that wait for an answer."""

import asyncio
import time
from typing import Any

from .protocol import Refusal
from .worker_messages import FileDone, FileJob
from .workers import Workers

#: A job is given up when so many workers have died of it.
_MOST_DEATHS = 2
#: For the start of another worker, after one has died.
START_SECONDS = 10.0
_LOOK = 0.1


class FileWorker:
    """The server's side of the worker for files, which does one job at a time.

    Args:
        workers: whose `files` does the jobs.
    """

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._turn = asyncio.Lock()
        self._number = 0
        #: The answer to the job that is done now; None instead of one: its worker has died.
        self._answer: asyncio.Future[FileDone | None] | None = None

    @property
    def busy(self) -> bool:
        """Whether the worker has something to do."""
        return self._answer is not None

    async def run(self, job: Any) -> Any:
        """Let the worker do a job, after those before it, and return the result.

        Raises:
            Refusal: of the job; `full`, no worker starts; `unprocessable`, the job ends any worker
                that does it, or keeps it busy for ever.
        """
        async with self._turn:
            for _ in range(_MOST_DEATHS):
                done = await self._done(job)
                if done is None:
                    continue
                if done.refusal is not None:
                    raise Refusal(*done.refusal)
                return done.result
        raise Refusal("unprocessable", f"{_MOST_DEATHS} processes died of this request")

    async def _done(self, job: Any) -> FileDone | None:
        """Give the worker a job; return its answer, or None if it died."""
        until = time.monotonic() + START_SECONDS
        while (worker := self._workers.files) is None:
            if time.monotonic() > until:
                raise Refusal("full", "the worker for files does not start", retry_after=5.0)
            await asyncio.sleep(_LOOK)
        self._number += 1
        self._answer = asyncio.get_running_loop().create_future()
        worker.heard = time.monotonic()
        worker.send(FileJob(self._number, job))
        try:
            return await self._answer
        finally:
            self._answer = None

    def take(self, answer: FileDone) -> None:
        """Give a job its answer."""
        if answer.number == self._number:
            self._end(answer)

    def lost(self) -> None:
        """A worker has died: if it was this one, its job is not done."""
        if self._workers.files is None:
            self._end(None)

    def _end(self, answer: FileDone | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(answer)
