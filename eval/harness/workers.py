"""Worker processes: distribution of tasks, collection of result lines, handling of crashes."""

import multiprocessing
import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from threadpoolctl import threadpool_limits

from ...cores import use_one_thread
from .plan import Plan
from .work import GRACE, Request, Worker, WorkItem, do_in_worker, start_worker

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

Done = tuple[WorkItem, list[dict[str, Any]]]


def do_here(plan: Plan, tasks: Sequence[WorkItem]) -> Iterator[Done]:
    """Run tasks in this process, one after the other."""
    use_one_thread()
    worker = Worker(plan)
    for task in tasks:
        with threadpool_limits(1):  # the order of sums must not depend on the number of cores
            lines = worker.do(task)
        yield task, lines


def do_in_processes(
    plan: Plan, request: Request, tasks: Sequence[WorkItem], processes: int
) -> Iterator[Done]:
    """Run tasks in worker processes, and yield results as they arrive.

    If a process dies (a crash in a library, or out of memory), the tasks in progress are repeated,
    an item at a time in a process of its own; an item that kills its process again has failed.

    Args:
        plan: of this process.
        request: from which workers rebuild the plan.
        tasks: in the order in which they are started.
        processes: at most.
    """
    waiting = deque(tasks)
    while waiting:
        under_way: dict[Future[list[dict[str, Any]]], WorkItem] = {}
        try:
            with _pool(request, processes) as pool:
                while waiting or under_way:
                    while waiting and len(under_way) < 2 * processes:
                        under_way[pool.submit(do_in_worker, waiting[0])] = waiting[0]
                        waiting.popleft()
                    for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                        lines = future.result()
                        yield under_way.pop(future), lines
        except BrokenProcessPool:
            suspects = [part for task in under_way.values() for part in task.parts()]
            yield from _one_by_one(plan, request, suspects)


def _one_by_one(plan: Plan, request: Request, tasks: Sequence[WorkItem]) -> Iterator[Done]:
    waiting = deque(tasks)
    while waiting:
        try:
            with _pool(request, 1) as pool:
                while waiting:
                    lines = pool.submit(do_in_worker, waiting[0]).result()
                    yield waiting.popleft(), lines
        except BrokenProcessPool:
            task, reason = waiting.popleft(), "the process died: a crash in a library, or no memory"
            yield task, task.failed(plan, reason)


@contextmanager
def _pool(request: Request, processes: int) -> Iterator[ProcessPoolExecutor]:
    """Start a pool of workers, which are stopped if this process is interrupted."""
    # Not forked: torch and its threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, context, start_worker, (request.plan,))
    held = {name: os.environ.get(name) for name in _THREADS}
    os.environ |= dict.fromkeys(_THREADS, "1")  # before a worker loads any library
    try:
        yield pool
    except BaseException:
        workers = multiprocessing.active_children()
        for process in workers:
            process.terminate()
        limit = time.monotonic() + GRACE
        for process in workers:
            process.join(max(0.0, limit - time.monotonic()))
            if process.is_alive():  # in a library call, which delays signals
                process.kill()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        for name, value in held.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
