"""Many streams in one process in real time: does each frame come in time?

    taskset -c 0,1 python benchmarks/stream_sessions.py ts3-16k --sessions 64 --seconds 60

Each client sends a frame's samples when a microphone would have them, at a phase of its own, and
waits for its codes and for the sound of these codes (`StreamPool`, one thread for each core). What
is printed is how long it waited: from when the frame was complete to when its sound was there. A
frame that took longer than it lasts is late.
"""

import argparse
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

import syllabary
from syllabary.codecs.streaming import StreamPool

sys.path.insert(0, __file__.rpartition("/")[0])
from codec_speed import speech_like

from timing import machine


def measure(name: str, sessions: int, seconds: float, workers: int) -> str:
    tokenizer = syllabary.load(name)
    rate, hop = tokenizer.spec.sample_rate, tokenizer.spec.tokens.hop
    period = hop / rate
    wave = speech_like(30.0, rate)
    frames = wave[: len(wave) // hop * hop].split(hop)
    count = int(seconds / period)
    waits = np.zeros((sessions, count))
    busy = [0.0] * sessions
    locks = [threading.Lock() for _ in range(sessions)]
    with StreamPool(tokenizer, sessions) as pool, ThreadPoolExecutor(workers) as threads:
        clients = [pool.join() for _ in range(sessions)]

        def serve(client: int, number: int, due: float) -> None:
            with locks[client]:  # the frames of a client in their order
                begun = time.thread_time()
                clients[client].decode(clients[client].encode(frames[(number + 7 * client) % 1500]))
                waits[client, number] = time.perf_counter() - due
                busy[client] += time.thread_time() - begun

        start = time.perf_counter() + 0.1
        for number in range(count):
            for client in range(sessions):
                due = start + (number + client / sessions) * period
                delay = due - time.perf_counter()
                if delay > 0:
                    time.sleep(delay)
                threads.submit(serve, client, number, due)
        threads.shutdown(wait=True)
        elapsed = time.perf_counter() - start
        state = clients[0].state_bytes
    p50, p99 = np.percentile(waits, [50, 99]) * 1000
    late = int((waits > period).sum())
    return (
        f"{name}: {sessions} sessions for {seconds:g} s on {workers} threads: p50 {p50:.2f} ms, "
        f"p99 {p99:.2f} ms, most {waits.max() * 1000:.1f} ms; {late} of {waits.size} frames later "
        f"than {period * 1000:g} ms; {sum(busy) / elapsed:.2f} cores busy; ended "
        f"{(elapsed - seconds) * 1000:.0f} ms after the last frame was due; {state:,} bytes of "
        "state each"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", metavar="TOKENIZER")
    parser.add_argument("--sessions", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{Path(__file__).name}; {machine()}")
    print(measure(options.name, options.sessions, options.seconds, options.threads))


if __name__ == "__main__":
    main()
