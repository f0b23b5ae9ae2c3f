"""Engines: who encodes the pieces of a build. This one, in processes of this machine; `ray_engine`
on a cluster. They differ in nothing that a data set shows.
"""

import os
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, connection, get_context, parent_process
from typing import TypeAlias

from ...cores import torch_threads, use_one_thread
from ...errors import DatasetError
from .encoding import Piece, PieceEncoder, Recipe, failed_piece, join_pieces
from .opening import shown
from .plan import Planned

Task: TypeAlias = tuple[int, list[Planned]]
#: Times that a worker may die on one utterance alone before it is given up.
_TRIES = 2


class WorkerDiedError(Exception):
    """A worker ended without a result: it was killed, or crashed."""


class Engine(ABC):
    """Encodes pieces of work by a recipe.

    A worker that dies takes nothing with it: its piece is encoded again, by itself, and then its
    utterances one by one, so that one on which the decoder crashes becomes a failure with a name.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe

    @abstractmethod
    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[int, Piece]]:
        """Yield each task's number and piece, as they get ready."""

    @abstractmethod
    def alone(self, rows: Sequence[Planned]) -> Piece:
        """Encode in a worker of its own.

        Raises:
            WorkerDiedError: it died.
        """

    def rescue(self, rows: Sequence[Planned]) -> Piece:
        """Encode a piece whose worker died."""
        try:
            return self.alone(rows)
        except WorkerDiedError:
            pass
        pieces = []
        for row in rows:
            for _ in range(_TRIES):
                try:
                    pieces.append(self.alone([row]))
                    break
                except WorkerDiedError as error:
                    reason = str(error)
            else:
                why = f"{shown(row.source)}: the worker died {_TRIES} times on it: {reason}"
                pieces.append(failed_piece(self.recipe, row, why))
        return join_pieces(self.recipe, pieces)


#: Opens an engine for a recipe: how many workers there are, and where, is decided before.
OpenEngine: TypeAlias = Callable[[Recipe], Engine]


class InProcess(Engine):
    """One worker, which is this process."""

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[int, Piece]]:
        encoder = PieceEncoder(self.recipe)
        for number, rows in tasks:
            with torch_threads(1):
                piece = encoder.encode(rows)
            yield number, piece

    def alone(self, rows: Sequence[Planned]) -> Piece:
        return PieceEncoder(self.recipe).encode(rows)


class Processes(Engine):
    """Workers in processes of their own, with one thread of computation each.

    Args:
        recipe: of the pieces.
        workers: number of processes.
    """

    def __init__(self, recipe: Recipe, workers: int) -> None:
        super().__init__(recipe)
        if workers < 1:
            raise DatasetError(f"{workers} workers; expected at least one")
        self.workers = workers
        self._before = set(active_children())

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[int, Piece]]:
        coming = iter(tasks)
        waiting: dict[Future[Piece], Task] = {}
        pool = self._pool(self.workers)
        done = False
        try:
            while True:
                lost = []
                for task in coming:
                    try:
                        waiting[pool.submit(_encode, self.recipe, task[1])] = task
                    except BrokenProcessPool:  # a worker died while nobody waited for it
                        lost.append(task)
                        break
                    if len(waiting) >= 2 * self.workers:
                        break
                if not waiting and not lost:
                    break
                finished: set[Future[Piece]] = set()
                if not lost:
                    finished, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in finished:
                    number, rows = waiting.pop(future)
                    try:
                        yield number, future.result()
                    except BrokenProcessPool:
                        lost.append((number, rows))
                if lost:  # the pool is of no more use, and all that it had is lost
                    lost += waiting.values()
                    waiting.clear()
                    pool.shutdown(wait=True)
                    for number, rows in sorted(lost, key=lambda task: task[0]):
                        yield number, self.rescue(rows)
                    pool = self._pool(self.workers)
            done = True
        finally:
            pool.shutdown(wait=done, cancel_futures=True)
            if not done:
                for child in set(active_children()) - self._before:
                    child.kill()

    def alone(self, rows: Sequence[Planned]) -> Piece:
        with self._pool(1) as pool:
            try:
                return pool.submit(_encode, self.recipe, rows).result()
            except BrokenProcessPool as error:
                raise WorkerDiedError(str(error)) from None

    def _pool(self, workers: int) -> ProcessPoolExecutor:
        # Not forked: torch's threads and locks would come along.
        return ProcessPoolExecutor(workers, get_context("spawn"), initializer=_begin)


_encoders: dict[str, PieceEncoder] = {}


def _begin() -> None:
    use_one_thread()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the building process stops its workers
    parent = parent_process()
    assert parent is not None

    def follow() -> None:
        # A pool's workers would wait for ever for a parent that was killed.
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _encode(recipe: Recipe, rows: Sequence[Planned]) -> Piece:
    key = repr(recipe)
    if key not in _encoders:
        _encoders.clear()
        _encoders[key] = PieceEncoder(recipe)
    return _encoders[key].encode(rows)
