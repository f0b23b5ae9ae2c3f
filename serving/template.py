"""A process that has everything loaded and compiled, from which workers are forked.

Importing PyTorch, loading tokenizers and compiling their kernels takes many seconds of a core; a
fork takes milliseconds, and shares the memory of weights until somebody writes to it. A fork copies
only the thread that calls it: locks that other threads hold would be held for ever in the copy. So
the process has one thread, the one that computes, and forks nothing if it finds another.
"""

import contextlib
import gc
import os
import signal
import socket
import sys
import traceback
from pathlib import Path
from typing import Any

from . import worker
from .channel import Channel
from .worker_messages import Unforkable

#: Tasks are what Linux calls threads.
_TASKS = Path("/proc/self/task")


def serve(end: socket.socket, settings: dict[str, Any]) -> None:
    """Be a template until the server closes its end.

    Each byte that comes is the niceness of a worker to fork, and has the worker's own sockets with
    it (SCM_RIGHTS).

    Args:
        end: to the server.
        settings: see `worker.serve`.
    """
    channel = Channel(end)
    ready = worker.prepared(channel, settings)
    if ready is None:
        return
    if (threads := len(list(_TASKS.iterdir()))) > 1:
        channel.send([Unforkable(f"{threads} threads")])
        return
    channel.send([ready.hello()])
    gc.collect()
    gc.freeze()  # or the collector's marks would copy every page
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for workers: no zombies
    while True:
        data, handles, _, _ = socket.recv_fds(end, 1, 2)
        if not data:
            return
        if os.fork() == 0:
            end.close()
            _be_worker(ready, Channel(*worker.sockets(handles)), data[0])
        for handle in handles:
            os.close(handle)


def _be_worker(ready: "worker.Worker", channel: Channel, niceness: int) -> None:
    """Compute in the forked process, until the server closes the worker's socket."""
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.nice(niceness)
        worker.answer(ready, channel)
    except ConnectionError:
        pass  # the server has gone
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)  # what runs at an exit is the template's to do


def main(arguments: list[str]) -> None:
    """Run as a process; for the arguments see `worker.main`."""
    (end, states), settings = worker.begin(arguments)
    states.close()  # it has none
    with contextlib.suppress(ConnectionError):
        serve(end, settings)


if __name__ == "__main__":
    main(sys.argv[1:])
