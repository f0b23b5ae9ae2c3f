"""Jobs of the worker for files: those that wait for an answer."""

import asyncio
import itertools
from typing import Any

from .protocol import Refusal
from .worker_messages import FileDone, FileJob
from .workers import Workers


class FileWorker:
    """The server's side of the worker for files.

    Args:
        workers: whose `files` does the jobs.
    """

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}

    async def run(self, job: Any) -> Any:
        """Let the worker do a job, and return the result.

        Raises:
            Refusal: of the job; `full`, the worker is being started; `fault`, it died.
        """
        worker = self._workers.files
        if worker is None:
            raise Refusal("full", "the worker for files is being started", retry_after=5.0)
        number = next(self._numbers)
        done = self._waiting[number] = asyncio.get_running_loop().create_future()
        worker.send(FileJob(number, job))
        return await done

    def take(self, answer: FileDone) -> None:
        """Give a job its answer."""
        job = self._waiting.pop(answer.number, None)
        if job is not None and not job.done():
            refusal = answer.refusal and Refusal(*answer.refusal)
            job.set_exception(refusal) if refusal else job.set_result(answer.result)

    def lost(self) -> None:
        """A worker has died: if it was this one, its jobs end."""
        if self._workers.files is not None:
            return
        waiting, self._waiting = self._waiting, {}
        for job in waiting.values():
            if not job.done():
                job.set_exception(Refusal("fault", "the worker for files died; try again"))
