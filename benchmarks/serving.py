"""The server under load and under faults, over real sockets; every table has its denominators.

    python benchmarks/serving.py transport --sessions 64 --seconds 30
    python benchmarks/serving.py capacity --codec ts3-16k --task encode --sessions 8,16,32,48,64
    python benchmarks/serving.py slow --codec ts3-16k --sessions 16 --pauses 10,30,60
    python benchmarks/serving.py kills --codec ts3-16k --count 200
    python benchmarks/serving.py disconnects --codec ts3-16k --count 10000
    python benchmarks/serving.py malformed --codec ts3-16k --count 1000000 --messages 20

The generator is open-loop: each stream sends its messages when their audio would have been spoken,
at its own phase, whatever the server does, and a frame's latency counts from then, so a server that
stalls is not spared the frames that it delayed. The algorithm's own latency is taken off. Server
and workers run on the cores `--server-cores`, the generator on the others. All output of streams
that are counted is compared with offline, byte for byte.
"""

import argparse
import asyncio
import io
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np
import websockets
from serving_caller import Call, Caller, reset
from serving_load import Load

import syllabary
from syllabary.audio.files import read
from syllabary.audio.pcm import PCMDecoder, PCMEncoder
from syllabary.codecs.container import SylReader, SylWriter
from syllabary.serving.protocol import Kind, Message, Open, dump
from syllabary.serving.worker import find_tokenizer

HERE = Path(__file__).resolve().parent
NULL = "null=serving_null:null"
LATE_MS = 20.0
FRAME_MS = 20


@dataclass
class Served:
    """A running server: its process, its URL and its log."""

    process: subprocess.Popen
    url: str
    log: Path

    def pids(self, event: str) -> list[int]:
        """Of the living processes that the log's events of this name are about, in order."""
        lines = self.log.read_text().splitlines()
        found = [json.loads(line) for line in lines if line.startswith("{")]
        pids = [line["pid"] for line in found if event in line.values()]
        return [pid for pid in pids if Path(f"/proc/{pid}").exists()]

    @property
    def computing(self) -> list[int]:
        """The workers that compute streams."""
        return self.pids("worker_computes")

    def memory(self) -> float:
        """MiB of the server's own process."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(text.partition("VmRSS:")[2].split()[0]) / 1024

    async def metric(self, name: str) -> float:
        """The sum of a metric's samples."""
        address = self.url.partition("//")[2]
        host, _, port = address.partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        text = (await reader.read()).decode()
        writer.close()
        rows = [line for line in text.splitlines() if line.partition("{")[0].split(" ")[0] == name]
        return sum(float(line.rpartition(" ")[2]) for line in rows)


def cpu(pid: int) -> float:
    """Seconds of processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def served(options: argparse.Namespace, codec: str, *more: str) -> Iterator[Served]:
    """Run a server for one codec on its cores, and put this process on the others."""
    cores = {int(core) for core in options.server_cores.split(",")}
    others = os.sched_getaffinity(0) - cores
    with tempfile.NamedTemporaryFile("w+") as log:
        command = [sys.executable, "-m", "syllabary", "serve", codec, "--port", "0"]
        command += ["--workers", str(options.workers), "--places", "256", "--log-level", "info"]
        running = subprocess.Popen(
            [*command, *more],
            stdout=log,
            stderr=log,
            env=os.environ | {"PYTHONPATH": f"{HERE}:{os.environ.get('PYTHONPATH', '')}"},
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
            cwd=tempfile.gettempdir(),
        )
        try:
            url = ""
            while not url:
                time.sleep(0.1)
                text = Path(log.name).read_text()
                assert running.poll() is None, text
                found = [line for line in text.splitlines() if line.startswith("listening on ")]
                url = found[0].split()[-1] if found else ""
            if others:
                os.sched_setaffinity(0, others)
            yield Served(running, url, Path(log.name))
        finally:
            running.kill()
            running.wait()
            os.sched_setaffinity(0, others | cores)


class Speech:
    """Utterances cut out of a recording, and what they give offline."""

    def __init__(self, codec: str, task: str, seconds: float) -> None:
        self.name, self.tokenizer = find_tokenizer(codec)
        self.task, self.seconds = task, seconds
        self.rate = self.tokenizer.spec.sample_rate
        clip, _ = read(HERE.parent / "assets" / "demo.flac", self.rate)
        self._clip = np.resize(clip, int((seconds + 60) * self.rate))
        self._known: dict[int, tuple[Call, bytes]] = {}

    def call(self, number: int) -> tuple[Call, bytes]:
        """A new call of utterance `number`, and its expected output."""
        number %= 16
        if number not in self._known:
            self._known[number] = self._make(number)
        call, expected = self._known[number]
        return Call(call.open, call.messages, call.ms), expected

    def _make(self, number: int) -> tuple[Call, bytes]:
        spec = self.tokenizer.spec
        start, size = number * 3 * self.rate, int(self.seconds * self.rate)
        data = PCMEncoder("s16le").push(self._clip[start : start + size])
        tokens = self.tokenizer.encode(PCMDecoder("s16le").push(data), self.rate)
        metadata = {
            "source": {"name": "-", "sample_rate": self.rate, "channels": 1},
            "options": {"frames_per_chunk": 1},
        }
        file = io.BytesIO()
        with SylWriter(file, spec.tokens, metadata=metadata, chunk_positions=1) as writer:
            writer.write(tokens)
        pcm = {"format": "s16le", "rate": self.rate}
        opens = Open(self.task, self.name)
        opens = Open(self.task, self.name, input=type(opens.input)(**pcm), output=opens.input)
        if self.task == "encode":
            samples = self.rate * FRAME_MS // 1000
            step = 2 * samples
            parts = [data[at : at + step] for at in range(0, len(data), step)]
            messages = [
                Message(Kind.PCM, n, n * samples, part, final=n == len(parts) - 1)
                for n, part in enumerate(parts)
            ]
            return Call(opens, messages, [FRAME_MS] * len(parts)), file.getvalue()
        wave = self.tokenizer.decode(tokens)[0].numpy()
        messages = syl_messages(file.getvalue())
        ms = 1000 / float(spec.frame_rate)
        times = [0.0, *([ms] * (len(messages) - 2)), 0.0]
        return Call(opens, messages, times), PCMEncoder("s16le").push(wave)

    def lateness(self, call: Call) -> list[float]:
        """For each message that came: ms after its input was due, less the algorithm's latency."""
        spec, found = self.tokenizer.spec, []
        hop, per_message = spec.tokens.hop, self.rate * FRAME_MS // 1000
        for message, came in zip(call.received, call.came, strict=True):
            if self.task == "encode":
                if message.kind != Kind.SYL_CHUNK or message.final:
                    continue
                needs = message.position * hop + spec.encoder_latency
                index = ceil(needs / per_message) - 1
            else:
                end = message.position + len(message.payload) // 2
                # The samples of the latest frame are held back: it may be the last, and shorter.
                frames = max(ceil(end / hop) + 1, ceil((end + spec.decoder_latency) / hop))
                index = frames  # behind the header
            if index < len(call.due):
                found.append(1000 * (came - call.due[index]))
        return found


def syl_messages(syl: bytes) -> list[Message]:
    """A `.syl` file as a client sends it; one frame a chunk."""
    file = io.BytesIO(syl)
    reader = SylReader(file)
    messages = [Message(Kind.SYL_HEADER, 0, 0, syl[: file.tell()])]
    start = file.tell()
    end = len(syl) - 32
    for frame, _ in enumerate(reader.chunks()):
        stop = min(file.tell(), end)
        messages.append(Message(Kind.SYL_CHUNK, frame + 1, frame, syl[start:stop]))
        start = stop
        if stop == end:
            break
    last = len(messages)
    return [*messages, Message(Kind.SYL_CHUNK, last, last - 1, syl[end:], final=True)]


def percentile(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(part * len(values)))] if values else float("nan")


async def speak(
    url: str, speech: Speech, sessions: int, seed: int = 0, **settings: object
) -> list[tuple[Call, bool]]:
    """Run so many streams at random phases; return each call, and whether its output is right."""
    rng = random.Random(seed)

    async def one(number: int) -> tuple[Call, bool]:
        await asyncio.sleep(rng.random())
        call, expected = speech.call(number)
        caller = Caller(url, pace=True, ack_every=10, patience=speech.seconds + 120, **settings)
        await caller.call(call)
        return call, call.output == expected

    return await asyncio.gather(*(one(number) for number in range(sessions)))


def row(*cells: object) -> None:
    shown = [f"{cell:.1f}" if isinstance(cell, float) else str(cell) for cell in cells]
    print(f"| {' | '.join(shown)} |", flush=True)


def head(*names: str) -> None:
    row(*names)
    row(*["---"] * len(names))


# --- the runs ------------------------------------------------------------------------------------


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
            equal = f"{sum(call.output == expected for call, expected in made)} of {sessions}"
            worker = 100 * spent[1] / took
            row("syllabary", sessions, *shares, worker, equal, percentile(late, 0.99))


def loaded(load: Load, calls: list[Call], *pids: int) -> tuple[int, float, list[float]]:
    """Make calls; return messages sent, seconds, and processor seconds of each process."""
    streams = load.connect(calls)
    before, begun = [cpu(pid) for pid in pids], time.monotonic()
    load.run(streams, FRAME_MS / 1000)
    took = time.monotonic() - begun
    spent = [cpu(pid) - b for pid, b in zip(pids, before, strict=True)]
    return sum(len(call.messages) for call in calls), took, spent


@contextmanager
def echoing(options: argparse.Namespace, peer: str) -> Iterator[tuple[subprocess.Popen, str]]:
    """Run a server of `serving_echo` on the server's cores, and put this process on the others."""
    cores = {int(core) for core in options.server_cores.split(",")}
    others = os.sched_getaffinity(0) - cores
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    running = subprocess.Popen(
        [sys.executable, str(HERE / "serving_echo.py"), peer, str(port)],
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    try:
        for _ in range(200):
            assert running.poll() is None, f"{peer} ended"
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.1)
        if others:
            os.sched_setaffinity(0, others)
        yield running, f"http://127.0.0.1:{port}"
    finally:
        running.kill()
        running.wait()
        os.sched_setaffinity(0, others | cores)


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
            equal = f"{sum(call.output == expected for call, expected in made)} of {sessions}"
            figures = [percentile(late, part) for part in (0.5, 0.99, 1.0)]
            row(sessions, *figures, f"{over} of {len(late)}", equal)


def slow(options: argparse.Namespace) -> None:
    """A quarter of the readers stop; the others must not notice."""
    speech = Speech(options.codec, options.task, options.seconds)
    head("pause s", "sessions", "others' p99 ms", "equal", "server MiB before", "after")
    sessions = options.sessions[0]
    with served(options, options.codec) as server:
        for pause in [0.0, *options.pauses]:
            before = server.memory()

            async def main(pause: float = pause) -> list[tuple[Call, bool]]:
                quick = speak(server.url, speech, sessions - sessions // 4)
                if not pause:
                    return await quick
                stopped = speak(server.url, speech, sessions // 4, 1, read_pause=(20, pause))
                return [*(await asyncio.gather(quick, stopped))[0]]

            calls = asyncio.run(main())
            late = [ms for call, _ in calls for ms in speech.lateness(call)]
            equal = f"{sum(right for _, right in calls)} of {len(calls)}"
            row(pause, sessions, percentile(late, 0.99), equal, before, server.memory())


def kills(options: argparse.Namespace) -> None:
    """SIGKILL of a worker under load; nothing may be lost or changed, only late."""
    speech = Speech(options.codec, options.task, options.seconds)
    sessions = options.sessions[0]
    gaps: list[float] = []
    rng = random.Random(0)
    right = total = killed = resumed = 0
    with served(options, options.codec, "--spares", "1") as server:
        while killed < options.count:

            async def main() -> list[tuple[Call, bool]]:
                nonlocal killed
                running = asyncio.create_task(speak(server.url, speech, sessions, killed))
                end = time.monotonic() + options.seconds - 1
                await asyncio.sleep(2)
                while killed < options.count and time.monotonic() < end:
                    ready = server.pids("worker_ready")  # with the spare, and that for files
                    if len(ready) >= options.workers + 2:
                        os.kill(rng.choice(server.computing), signal.SIGKILL)
                        killed += 1
                    await asyncio.sleep(1)
                return await running

            for call, same in asyncio.run(main()):
                total, right = total + 1, right + same
                resumed += call.resumes
                steps = np.diff(call.came) * 1000
                gaps += [float(gap) for gap in steps if gap > 3 * FRAME_MS]
    head(
        "kills", "streams equal", "reconnects", "gaps over 60 ms", "p50 ms", "p99 ms", "longest ms"
    )
    figures = [percentile(gaps, part) for part in (0.5, 0.99, 1.0)]
    row(killed, f"{right} of {total}", resumed, len(gaps), *figures)


def disconnects(options: argparse.Namespace) -> None:
    """Connections that end in all ways; every place must come back."""
    speech = Speech(options.codec, "encode", 1.0)
    call, _ = speech.call(0)

    async def one(server: Served, kind: int) -> None:
        try:
            async with Caller(server.url)._connect() as socket_:
                if kind == 0:
                    return reset(socket_)
                await socket_.send(dump(call.open))
                if kind == 1:
                    return reset(socket_)
                await socket_.recv()
                for message in call.messages[: 5 * kind]:
                    await socket_.send(message.pack())
                if kind == 2:
                    return reset(socket_)
                if kind == 3:
                    socket_.transport.write(b"\x82\x7e\x01")
                    return reset(socket_)
                await socket_.close(1001 if kind == 4 else 1000)
        except (OSError, websockets.WebSocketException):
            pass

    async def main(server: Served) -> float:
        for start in range(0, options.count, 20):
            kinds = range(start, min(start + 20, options.count))
            await asyncio.gather(*(one(server, number % 6) for number in kinds))
        for _ in range(100):
            if not await server.metric("syllabary_places_used"):
                break
            await asyncio.sleep(0.1)
        return await server.metric("syllabary_places_used")

    with served(options, options.codec) as server:
        before = server.memory()
        left = asyncio.run(main(server))
        head("disconnects", "places not given back", "server MiB before", "after")
        row(options.count, int(left), before, server.memory())


def malformed(options: argparse.Namespace) -> None:
    """Messages that are nearly right, beside streams that must not notice."""
    speech = Speech(options.codec, options.task, options.seconds)
    rng = random.Random(0)
    codes: dict[int, int] = {}
    call, _ = speech.call(0)
    valid = [dump(call.open), *(message.pack() for message in call.messages[:20])]
    sent = 0

    def spoil(data: str | bytes) -> str | bytes:
        raw = bytearray(data.encode() if isinstance(data, str) else data)
        for _ in range(rng.choice([0, 0, 1, 1, 2, 8])):
            at = rng.randrange(len(raw)) if rng.random() < 0.5 else rng.randrange(min(16, len(raw)))
            how = rng.randrange(4)
            if how == 0:
                raw[at] = rng.randrange(256)
            elif how == 1:
                del raw[at : at + rng.randrange(1, 9)]
                raw = raw or bytearray(b"\0")
            elif how == 2:
                raw[at:at] = rng.randbytes(rng.randrange(1, 9))
            else:
                raw[at] ^= 1 << rng.randrange(8)
        if isinstance(data, str):
            return raw.decode(errors="replace")
        return bytes(raw)

    async def attack(server: Served) -> None:
        nonlocal sent
        while sent < options.count:
            try:
                async with Caller(server.url)._connect() as socket_:
                    first = rng.random() < 0.8
                    for number in range(options.messages):
                        message = valid[min(number, len(valid) - 1)]
                        whole = number == 0 and first
                        await socket_.send(message if whole else spoil(message))
                        sent += 1
                    async with asyncio.timeout(1):
                        while True:
                            await socket_.recv()
            except TimeoutError:
                pass
            except websockets.ConnectionClosed as closed:
                code = closed.rcvd.code if closed.rcvd else 1006
                codes[code] = codes.get(code, 0) + 1
            except (OSError, websockets.WebSocketException):
                codes[0] = codes.get(0, 0) + 1

    async def main(server: Served) -> list[tuple[Call, bool]]:
        neighbours: list[tuple[Call, bool]] = []
        attackers = [asyncio.create_task(attack(server)) for _ in range(8)]
        while not all(task.done() for task in attackers):
            neighbours += await speak(server.url, speech, options.sessions[0])
        await asyncio.gather(*attackers)
        return neighbours

    with served(options, options.codec) as server:
        workers = server.computing
        calls = asyncio.run(main(server))
        alive = server.process.poll() is None and workers == server.computing
        head("messages", "close codes", "1011", "processes alive", "neighbours equal")
        shown = ", ".join(f"{code}: {count}" for code, count in sorted(codes.items()))
        equal = f"{sum(right for _, right in calls)} of {len(calls)}"
        row(sent, shown, codes.get(1011, 0), "all" if alive else "no", equal)


RUNS = (transport, capacity, slow, kills, disconnects, malformed)


def main(arguments: list[str]) -> None:
    def numbers(text: str) -> list[int]:
        return [int(part) for part in text.split(",")]

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", choices=[run.__name__ for run in RUNS])
    parser.add_argument("--codec", default="ts3-16k")
    parser.add_argument("--task", choices=["encode", "decode"], default="encode")
    parser.add_argument("--sessions", type=numbers, default=[8])
    parser.add_argument("--seconds", type=float, default=20.0, help="of each stream")
    parser.add_argument("--count", type=int, default=100, help="kills, disconnects or messages")
    parser.add_argument("--messages", type=int, default=20, help="malformed: a connection")
    parser.add_argument("--pauses", type=numbers, default=[10, 30, 60], help="slow: seconds")
    peers = ["aiohttp", "aiohttp+ticks", "websockets"]
    parser.add_argument("--peers", nargs="*", default=peers, help="transport; also picows")
    parser.add_argument("--tick-ms", type=float, default=2.0, help="transport")
    parser.add_argument("--server-cores", default="0", metavar="N,…")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args(arguments)
    print(f"syllabary {syllabary.__version__}, {vars(options)}\n")
    {run.__name__: run for run in RUNS}[options.run](options)


if __name__ == "__main__":
    main(sys.argv[1:])
