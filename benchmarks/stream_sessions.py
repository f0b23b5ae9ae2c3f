"""Many streams in one process in real time: does each frame come in time?

    taskset -c 0,1 python benchmarks/stream_sessions.py ts3-16k --sessions 64 --seconds 60

The sessions are rows of one `StreamSession` for each thread, which are as many as there are cores.
Once in a frame's time, at a tick, a thread encodes what each of its rows heard since, and decodes
it. What is printed is how long frames waited, from the tick to their sound; one that waited longer
than it lasts is late. (Where clients are not in step with the ticks, their frames wait for one,
half a frame's time on average.)

With `--pool`, each client is a stream of a `StreamPool` instead, at a phase of its own, and calls
it as soon as its frame is complete: no tick to wait for, but weights are read again for each.
"""

import argparse
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import syllabary
from syllabary import AudioTokenizer
from syllabary.codecs.streaming import StreamPool
from syllabary.cores import usable_cores

sys.path.insert(0, __file__.rpartition("/")[0])
from codec_speed import speech_like

from timing import machine


@dataclass
class Run:
    """What a run measured.

    Attributes:
        waits: (sessions, frames) seconds.
        busy: seconds of CPU.
        elapsed: seconds.
        state_bytes: of a session.
    """

    waits: np.ndarray
    busy: float
    elapsed: float
    state_bytes: int


def speech(tokenizer: AudioTokenizer, seconds: float) -> tuple[torch.Tensor, int]:
    """Frames (frames, hop) to send over and over, each session from another on; and how many."""
    spec = tokenizer.spec
    hop = spec.tokens.hop
    frames = speech_like(30.0, spec.sample_rate).unfold(0, hop, hop)
    return frames, int(seconds * spec.sample_rate / hop)


def in_rows(tokenizer: AudioTokenizer, sessions: int, seconds: float, threads: int) -> Run:
    period = tokenizer.spec.tokens.hop / tokenizer.spec.sample_rate
    frames, count = speech(tokenizer, seconds)
    shares = np.array_split(np.arange(sessions), min(threads, sessions))
    waits, busy = np.zeros((sessions, count)), [0.0] * len(shares)
    streams = [tokenizer.stream(batch_size=len(rows)) for rows in shares]
    for session in streams:
        session.decode(session.encode(torch.zeros(session.batch_size, frames.shape[1])))
        session.reset()
    start = time.perf_counter() + 0.1

    def serve(index: int) -> None:
        rows, session = shares[index], streams[index]
        places = torch.from_numpy(7 * rows)
        begun = time.thread_time()
        for number in range(count):
            due = start + number * period
            time.sleep(max(0.0, due - time.perf_counter()))
            session.decode(session.encode(frames[(places + number) % len(frames)]))
            waits[rows, number] = time.perf_counter() - due
        busy[index] = time.thread_time() - begun

    with ThreadPoolExecutor(len(shares)) as workers:
        for job in [workers.submit(serve, index) for index in range(len(shares))]:
            job.result()
    elapsed = time.perf_counter() - start
    return Run(waits, sum(busy), elapsed, streams[0].state_bytes[0])


def in_a_pool(tokenizer: AudioTokenizer, sessions: int, seconds: float, threads: int) -> Run:
    period = tokenizer.spec.tokens.hop / tokenizer.spec.sample_rate
    frames, count = speech(tokenizer, seconds)
    waits, busy = np.zeros((sessions, count)), [0.0] * sessions
    locks = [threading.Lock() for _ in range(sessions)]
    with StreamPool(tokenizer, sessions) as pool, ThreadPoolExecutor(threads) as workers:
        clients = [pool.join() for _ in range(sessions)]

        def serve(client: int, number: int, due: float) -> None:
            with locks[client]:  # the frames of a client in their order
                begun = time.thread_time()
                frame = frames[(number + 7 * client) % len(frames)]
                clients[client].decode(clients[client].encode(frame))
                waits[client, number] = time.perf_counter() - due
                busy[client] += time.thread_time() - begun

        start = time.perf_counter() + 0.1
        jobs = []
        for number in range(count):
            for client in range(sessions):
                due = start + (number + client / sessions) * period
                time.sleep(max(0.0, due - time.perf_counter()))
                jobs.append(workers.submit(serve, client, number, due))
        for job in jobs:
            job.result()
        return Run(waits, sum(busy), time.perf_counter() - start, clients[0].state_bytes)


def described(run: Run, period: float) -> str:
    p50, p99 = np.percentile(run.waits, [50, 99]) * 1000
    return (
        f"p50 {p50:.2f} ms, p99 {p99:.2f} ms, most {run.waits.max() * 1000:.1f} ms; "
        f"{int((run.waits > period).sum())} of {run.waits.size} frames later than "
        f"{period * 1000:g} ms; {run.busy / run.elapsed:.2f} cores busy; "
        f"{run.state_bytes:,} bytes of state each"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", metavar="TOKENIZER")
    parser.add_argument("--sessions", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--pool", action="store_true", help="a call for each client")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{Path(__file__).name}; {machine()}")
    tokenizer = syllabary.load(options.name)
    measure, how = (in_a_pool, "in a pool") if options.pool else (in_rows, "in rows")
    run = measure(tokenizer, options.sessions, options.seconds, options.threads)
    print(
        f"{options.name}: {options.sessions} sessions {how} for {options.seconds:g} s on "
        f"{options.threads} threads: "
        f"{described(run, tokenizer.spec.tokens.hop / tokenizer.spec.sample_rate)}"
    )


if __name__ == "__main__":
    main()
