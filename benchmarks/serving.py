"""The server under load and under faults, over real sockets; every table has its denominators.

    python benchmarks/serving.py transport --sessions 64 --seconds 30
    python benchmarks/serving.py capacity --codec ts3-16k --task encode --sessions 8,16,32,48,64
    python benchmarks/serving.py slow --codec ts3-16k --sessions 16 --pauses 10,30,60
    python benchmarks/serving.py kills --codec ts3-16k --count 200
    python benchmarks/serving.py disconnects --codec ts3-16k --count 10000
    python benchmarks/serving.py malformed --codec ts3-16k --count 1000000 --messages 40
    python benchmarks/serving.py drain --codec ts3-16k --count 10 --sessions 16
    python benchmarks/serving.py memory --sessions 32 --seconds 300 --minutes 30

`--codec null=serving_null:null` is one that computes nothing, so that nothing hides behind it.

The generator is open-loop: each stream sends its messages when their audio would have been spoken,
at its own phase, whatever the server does, and a frame's latency counts from then, so a server that
stalls is not spared the frames that it delayed. The algorithm's own latency is taken off. Server
and workers run on the cores `--server-cores`, the generator on the others. All output of streams
that are counted is compared with offline, byte for byte.
"""

import argparse
import signal
import sys
import time

import serving_faults
from serving_caller import Call
from serving_load import Load
from serving_server import NULL, cpu, echoing, served
from serving_speech import FRAME_MS, Speech, answered, equal, head, percentile, row

import syllabary

LATE_MS = 20.0


def transport(options: argparse.Namespace) -> None:
    """What the server's own process costs, with a codec that computes nothing; peers beside it."""
    speech = Speech(NULL, options.task, options.seconds)
    head(
        "server",
        "sessions",
        "messages/s",
        "% of a core",
        "µs a message",
        "worker %",
        "equal",
        "p99 ms",
    )
    for sessions in options.sessions:
        for peer in options.peers:
            with echoing(options, peer) as (process, url):
                calls = [speech.call(number)[0] for number in range(sessions)]
                count, took, spent = loaded(Load(url, "/echo"), calls, process.pid)
                shares = [count / took, 100 * spent[0] / took, 1e6 * spent[0] / count]
                row(f"{peer} echo", sessions, *shares, "", "", "")
        more = ["--places", str(sessions), "--spares", "0", "--tick-ms", str(options.tick_ms)]
        with served(options, NULL, *more) as server:
            made = [speech.call(number) for number in range(sessions)]
            calls = [call for call, _ in made]
            pids = server.process.pid, server.computing[0]
            count, took, spent = loaded(Load(server.url), calls, *pids)
            shares = [count / took, 100 * spent[0] / took, 1e6 * spent[0] / count]
            late = [ms for call in calls for ms in speech.lateness(call)]
            worker = 100 * spent[1] / took
            right = equal(answered(made))
            row("syllabary", sessions, *shares, worker, right, percentile(late, 0.99))


def loaded(load: Load, calls: list[Call], *pids: int) -> tuple[int, float, list[float]]:
    """Make calls; return messages sent, seconds, and processor seconds of each process."""
    streams = load.connect(calls)
    before, begun = [cpu(pid) for pid in pids], time.monotonic()
    load.run(streams, FRAME_MS / 1000)
    took = time.monotonic() - begun
    spent = [cpu(pid) - b for pid, b in zip(pids, before, strict=True)]
    return sum(len(call.messages) for call in calls), took, spent


def capacity(options: argparse.Namespace) -> None:
    """Sessions at which frames are late."""
    speech = Speech(options.codec, options.task, options.seconds)
    for number in range(16):
        speech.call(number)
    head("sessions", "p50 ms", "p99 ms", "longest ms", f"later than {LATE_MS:.0f} ms", "equal")
    with served(options, options.codec, "--lateness-ms", "1e6") as server:
        for sessions in options.sessions:
            made = [speech.call(number) for number in range(sessions)]
            calls = [call for call, _ in made]
            load = Load(server.url)
            load.run(load.connect(calls))
            late = [ms for call in calls for ms in speech.lateness(call)]
            over = sum(ms > LATE_MS for ms in late)
            figures = [percentile(late, part) for part in (0.5, 0.99, 1.0)]
            row(sessions, *figures, f"{over} of {len(late)}", equal(answered(made)))


RUNS = (transport, capacity, *serving_faults.RUNS)


def main(arguments: list[str]) -> None:
    def numbers(text: str) -> list[int]:
        return [int(part) for part in text.split(",")]

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", choices=[run.__name__ for run in RUNS])
    parser.add_argument("--codec", default="ts3-16k")
    parser.add_argument("--task", choices=["encode", "decode"], default="encode")
    parser.add_argument("--sessions", type=numbers, default=[8])
    parser.add_argument("--seconds", type=float, default=20.0, help="of each stream")
    parser.add_argument(
        "--count", type=int, default=100, help="kills, drains, disconnects, messages"
    )
    parser.add_argument("--minutes", type=float, default=600.0, help="kills, malformed, memory")
    parser.add_argument("--messages", type=int, default=20, help="malformed: a connection")
    parser.add_argument("--pauses", type=numbers, default=[10, 30, 60], help="slow: seconds")
    parser.add_argument("--rounds", type=int, default=5, help="slow: runs with pauses and without")
    peers = ["aiohttp", "aiohttp+ticks", "websockets"]
    parser.add_argument("--peers", nargs="*", default=peers, help="transport; also picows")
    parser.add_argument("--tick-ms", type=float, default=2.0, help="transport")
    parser.add_argument("--every", type=float, default=2.0, help="kills: seconds between two")
    parser.add_argument("--drain-seconds", type=float, default=10.0, help="drain")
    parser.add_argument("--server-cores", default="0", metavar="N,…")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that servers end with this process
    print(f"syllabary {syllabary.__version__}, {vars(options)}\n")
    {run.__name__: run for run in RUNS}[options.run](options)


if __name__ == "__main__":
    main(sys.argv[1:])
