"""The runs of `serving.py` in which something goes wrong, and nothing may be lost or changed."""

import argparse
import asyncio
import os
import random
import signal
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import websockets
from serving_caller import Call, Caller, reset
from serving_load import Load
from serving_server import Served, memory_of, served
from serving_speech import FRAME_MS, Speech, answered, equal, head, percentile, row, speak

from syllabary.serving.protocol import STREAM_PATH, Kind, Message, dump

#: An upgrade, as its first bytes are cut off somewhere.
UPGRADE = (
    f"GET {STREAM_PATH} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
).encode()


class Most:
    """The largest of a value that is looked at twice a second."""

    def __init__(self, value: Callable[[], float]) -> None:
        self._value, self.most = value, 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> "Most":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.5):
            self.most = max(self.most, self._value())


def slow(options: argparse.Namespace) -> None:
    """A quarter of the readers stop; the others must not notice.

    Each round is a run without pauses and one with them, since what else the machine does takes its
    share, too; the figures are medians over rounds, which are also shown from the least to the
    most.
    """
    sessions = options.sessions[0]
    head(
        *("stream s", "pause s", "sessions", "rounds", "others' p50 ms", "p99"),
        *("others equal", "slow ones equal"),
        *("server MiB before", "most", "after"),
    )
    with served(options, options.codec, "--lateness-ms", "1e6") as server:
        for seconds in options.pauses:
            speech = Speech(options.codec, options.task, max(options.seconds, seconds + 10))
            rounds: dict[int, list[SlowRun]] = {0: [], seconds: []}
            for _ in range(options.rounds):
                for pause, runs in rounds.items():
                    runs.append(_run_slow(server, speech, sessions, pause))
            for pause, runs in rounds.items():
                quick = [each for run in runs for each in run.quick]
                slow = [each for run in runs for each in run.slow]
                figures = [_spread([run.late[part] for run in runs]) for part in (0, 1)]
                memories = runs[0].before, max(run.most for run in runs), runs[-1].after
                row(
                    *(speech.seconds, pause, sessions, len(runs), *figures),
                    *(equal(quick), equal(slow), *memories),
                )


@dataclass
class SlowRun:
    """Calls whose readers go on and whose readers stop, the former's p50 and p99 in ms, and the
    server's memory in MiB.
    """

    quick: list[tuple[Call, bool]]
    slow: list[tuple[Call, bool]]
    late: tuple[float, float]
    before: float
    most: float
    after: float


def _run_slow(server: Served, speech: Speech, sessions: int, pause: int) -> SlowRun:
    made = [speech.call(number) for number in range(sessions)]
    load, before = Load(server.url), server.memory()
    streams = load.connect([call for call, _ in made])
    for stream in streams[::4] if pause else []:
        stream.pause = 20, pause
    with Most(server.memory) as memory:
        load.run(streams)
    quick = answered([each for number, each in enumerate(made) if number % 4])
    late = [ms for call, _ in quick for ms in speech.lateness(call)]
    figures = percentile(late, 0.5), percentile(late, 0.99)
    return SlowRun(quick, answered(made[::4]), figures, before, memory.most, server.memory())


def _spread(values: list[float]) -> str:
    return f"{np.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def kills(options: argparse.Namespace) -> None:
    """SIGKILL of a worker under load; nothing may be lost or changed, only late."""
    speech = Speech(options.codec, options.task, options.seconds)
    sessions = options.sessions[0]
    gaps: list[float] = []
    frames = killed = 0
    calls: list[tuple[Call, bool]] = []
    rng = random.Random(0)
    until = time.monotonic() + 60 * options.minutes
    with served(options, options.codec, "--spares", "1") as server:

        async def kill_some() -> list[tuple[Call, bool]]:
            nonlocal killed
            running = asyncio.create_task(speak(server.url, speech, sessions, killed))
            end = time.monotonic() + options.seconds - 1
            await asyncio.sleep(2)
            while killed < options.count and time.monotonic() < min(end, until):
                ready = server.pids("worker_ready")  # with the spare, and that for files
                if len(ready) >= options.workers + 2:
                    os.kill(rng.choice(server.computing), signal.SIGKILL)
                    killed += 1
                await asyncio.sleep(options.every)
            return await running

        while killed < options.count and time.monotonic() < until:
            for call, same in asyncio.run(kill_some()):
                calls.append((call, same))
                frames += len(call.received)
                steps = np.diff(call.came) * 1000
                gaps += [float(gap) for gap in steps if gap > 3 * FRAME_MS]
    head(
        *("kills", "streams equal", "messages", "reconnects", "gaps over 60 ms"),
        *("p50 ms", "p99 ms", "longest ms"),
    )
    figures = [percentile(gaps, part) for part in (0.5, 0.99, 1.0)]
    resumed = sum(call.resumes for call, _ in calls)
    row(killed, equal(calls), frames, resumed, len(gaps), *figures)


def drain(options: argparse.Namespace) -> None:
    """SIGTERM to a server under load; its streams go on at another with the same key."""
    speech = Speech(options.codec, options.task, options.seconds)
    sessions = options.sessions[0]
    calls: list[tuple[Call, bool]] = []
    took: list[float] = []

    async def drain_one(old: Served, new: Served, seed: int) -> list[tuple[Call, bool]]:
        gone: list[float] = []
        running = asyncio.create_task(
            speak(lambda: (new if gone else old).url, speech, sessions, seed)
        )
        await asyncio.sleep(0.4 * options.seconds)
        gone.append(time.monotonic())
        old.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(old.process.wait) == 0
        took.append(time.monotonic() - gone[0])
        return await running

    with tempfile.NamedTemporaryFile("w", suffix=".key") as key:
        key.write("benchmark" * 8)
        key.flush()
        more = (
            "--key-file",
            key.name,
            "--spares",
            "0",
            "--drain-seconds",
            str(options.drain_seconds),
        )
        for number in range(options.count):
            with (
                served(options, options.codec, *more) as old,
                served(options, options.codec, *more) as new,
            ):
                calls += asyncio.run(drain_one(old, new, number))
    moved = sum(call.resumes > 0 for call, _ in calls)
    gaps = [1000 * gap for call, _ in calls for gap in call.gaps]
    head("drains", "streams equal", "moved", "drain s", "pause p50 ms", "longest ms")
    figures = [percentile(gaps, part) for part in (0.5, 1.0)]
    row(len(took), equal(calls), moved, max(took), *figures)


def memory(options: argparse.Namespace) -> None:
    """Streams faster than speech, for as many minutes: memory must not grow with the audio."""
    speech = Speech(options.codec, options.task, options.seconds)
    for number in range(4):
        speech.call(number)
    sessions = options.sessions[0]
    head("hours of audio", "streams equal", "server MiB", "worker MiB")
    hours, calls = 0.0, []
    until = time.monotonic() + 60 * options.minutes
    with served(options, options.codec, "--spares", "0", "--lateness-ms", "1e6") as server:
        pids = server.process.pid, server.computing[0]
        idle = [memory_of(pid) for pid in pids]
        row(hours, "", *idle)
        while time.monotonic() < until:
            made = [speech.call(number % 4) for number in range(sessions)]
            load = Load(server.url, speed=1000)
            load.run(load.connect([call for call, _ in made]))
            calls += [(call, call.output == expected) for call, expected in made]
            hours += sessions * options.seconds / 3600
            row(hours, equal(calls), *(memory_of(pid) for pid in pids))


def disconnects(options: argparse.Namespace) -> None:
    """Connections that end in all ways; every place must come back, and neighbours be right."""
    speech = Speech(options.codec, "encode", 1.0)
    steady = Speech(options.codec, "encode", options.seconds)
    call, _ = speech.call(0)
    ways = (
        *("FIN in the HTTP handshake", "RST in the HTTP handshake", "RST before `open`"),
        *("RST after `open`", "RST in the stream", "FIN in the stream", "RST in a frame"),
        *("FIN in a frame", "close 1001", "close 1000"),
    )
    ended: Counter[str] = Counter()

    async def in_handshake(server: Served, with_reset: bool, size: int) -> None:
        host, _, port = server.url.partition("//")[2].partition(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(UPGRADE[:size])
        await writer.drain()
        if with_reset:
            linger = (1).to_bytes(4, "little") + (0).to_bytes(4, "little")
            found = writer.get_extra_info("socket")
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
        else:
            writer.close()

    async def in_stream(server: Served, way: int) -> None:
        async with Caller(server.url)._connect() as socket_:
            if way == 2:
                return reset(socket_)
            await socket_.send(dump(call.open))
            if way == 3:
                return reset(socket_)
            await socket_.recv()
            for message in call.messages[: 2 * way]:
                await socket_.send(message.pack())
            if way in (6, 7):
                socket_.transport.write(b"\x82\xfe\x01")
            if way in (4, 6):
                return reset(socket_)
            if way in (5, 7):
                return socket_.transport.close()
            await socket_.close(1001 if way == 8 else 1000)
        return None

    async def one(server: Served, number: int) -> None:
        way = number % len(ways)
        try:
            if way < 2:
                await in_handshake(server, way == 1, number * 7 % len(UPGRADE))
            else:
                await in_stream(server, way)
        except (OSError, websockets.WebSocketException):
            pass
        ended[ways[way]] += 1

    async def main(server: Served) -> tuple[float, list[tuple[Call, bool]]]:
        neighbours: list[tuple[Call, bool]] = []
        speaking = asyncio.create_task(speak(server.url, steady, 4))
        for start in range(0, options.count, 20):
            kinds = range(start, min(start + 20, options.count))
            await asyncio.gather(*(one(server, number) for number in kinds))
            if speaking.done():
                neighbours += speaking.result()
                speaking = asyncio.create_task(speak(server.url, steady, 4, start))
        neighbours += await speaking
        for _ in range(100):
            if not await server.metric("syllabary_places_used"):
                break
            await asyncio.sleep(0.1)
        return await server.metric("syllabary_places_used"), neighbours

    with served(options, options.codec, "--lateness-ms", "1e6") as server:
        before = server.memory()
        left, neighbours = asyncio.run(main(server))
        head("way", "times")
        for way, times in ended.items():
            row(way, times)
        print()
        head("disconnects", "places kept", "neighbours equal", "server MiB before", "after")
        row(ended.total(), int(left), equal(neighbours), before, server.memory())


def malformed(options: argparse.Namespace) -> None:
    """Messages that are nearly right, beside streams that must not notice."""
    speech = Speech(options.codec, options.task, options.seconds)
    rng = random.Random(0)
    codes: Counter[int] = Counter()
    call, _ = speech.call(0)
    valid = [dump(call.open), *(message.pack() for message in call.messages[:20])]
    sent = connections = 0
    until = time.monotonic() + 60 * options.minutes

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

    def wrong(number: int) -> str | bytes:
        """A message of another kind, or with other fields, than is due."""
        if rng.random() < 0.2:
            fields = {"next": rng.choice([0, 1, 10**9]), "seq": rng.randrange(20)}
            kind = rng.choice(["ack", "end", "reset", "resume", "open", "ready"])
            some = {name: value for name, value in fields.items() if rng.random() < 0.6}
            return str({"type": kind, **some}).replace("'", '"')
        kind = rng.choice([*Kind])
        position = rng.choice([0, number * 320, 2**63])
        return Message(kind, rng.randrange(20), position, rng.randbytes(rng.randrange(64))).pack()

    async def attack(server: Served) -> None:
        nonlocal sent, connections
        while sent < options.count and time.monotonic() < until:
            connections += 1
            try:
                async with Caller(server.url)._connect() as socket_:
                    whole = rng.randrange(options.messages)  # so many are right
                    batch = []
                    for number in range(options.messages):
                        message = valid[min(number, len(valid) - 1)]
                        if number >= whole:
                            message = wrong(number) if rng.random() < 0.3 else spoil(message)
                        batch.append(message)
                    for message in batch:
                        sent += 1
                        await socket_.send(message)
                    async with asyncio.timeout(0.5):
                        while True:
                            await socket_.recv()
            except TimeoutError:
                codes[-1] += 1
            except websockets.ConnectionClosed as closed:
                codes[closed.rcvd.code if closed.rcvd else 1006] += 1
            except (OSError, websockets.WebSocketException):
                codes[0] += 1

    async def main(server: Served) -> list[tuple[Call, bool]]:
        neighbours: list[tuple[Call, bool]] = []
        attackers = [asyncio.create_task(attack(server)) for _ in range(48)]
        while not all(task.done() for task in attackers):
            neighbours += await speak(server.url, speech, options.sessions[0])
        await asyncio.gather(*attackers)
        return neighbours

    with served(options, options.codec, "--lateness-ms", "1e6") as server:
        workers, before = server.computing, server.memory()
        calls = asyncio.run(main(server))
        alive = server.process.poll() is None and workers == server.computing
        head(
            *("messages", "connections", "close codes", "1011", "processes alive"),
            *("neighbours equal", "server MiB before", "after"),
        )
        shown = ", ".join(f"{code}: {count}" for code, count in sorted(codes.items()))
        alive_all = "all" if alive else "no"
        memory = before, server.memory()
        row(sent, connections, shown, codes[1011], alive_all, equal(calls), *memory)


RUNS = (slow, kills, drain, memory, disconnects, malformed)
