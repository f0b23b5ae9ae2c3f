"""`syllabary stream encode | syllabary stream decode` in real time: latency and memory.

    python benchmarks/stream_pipe.py --seconds 60
    python benchmarks/stream_pipe.py speech.flac --codec fsq-16k --frames-per-chunk 2

A piece of PCM is written every 20 ms, and the output read as it comes. *Written to read* is the
time from writing a sample into the first pipe to reading the same sample out of the last one.
*Spoken to read* starts when a microphone would have had the sample, up to a piece earlier. Memory
is the resident set of each process. The audio is repeated to last as long as asked for; what
happens before both processes are at work does not count.
"""

import argparse
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

from syllabary.audio.files import read
from syllabary.audio.pcm import PCMEncoder

sys.path.insert(0, __file__.rpartition("/")[0])
from timing import machine

ROOT = Path(__file__).parent.parent
COMMAND = [sys.executable, "-m", "syllabary", "stream"]
WARM_UP_SECONDS = 2
RATE = 16000
MOMENTS = 5  # at which memory is printed, from the start to the end


class Pipe:
    """The two processes, and when each sample went in and came out.

    Args:
        codec: tokenizer at 16 kHz.
        frames_per_chunk: of the encoder.
        piece: samples that are written at a time.
    """

    def __init__(self, codec: str, frames_per_chunk: int, piece: int) -> None:
        self.piece = piece
        pipe = subprocess.PIPE
        options = ["--frames-per-chunk", str(frames_per_chunk), "--stats"]
        self.encoder = subprocess.Popen(
            [*COMMAND, "encode", codec, *options], stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0
        )
        self.decoder = subprocess.Popen(
            [*COMMAND, "decode", codec, "--stats"],
            stdin=self.encoder.stdout,
            stdout=pipe,
            stderr=pipe,
            bufsize=0,
        )
        self.encoder.stdout.close()
        self.written: list[tuple[float, int]] = []  # when, and how many samples
        self.read: list[tuple[float, int]] = []
        self.memory: list[tuple[float, int]] = []  # MB of the encoder and of the decoder
        self.received = 0

    def run(self, wave: np.ndarray) -> None:
        """Feed the wave (samples,): the warm-up at once, the rest in real time."""
        data = PCMEncoder("s16le").push(wave)
        warm_up = 2 * RATE * WARM_UP_SECONDS
        reader = threading.Thread(target=self._read)
        reader.start()
        self._write(data[:warm_up])
        while self.received < warm_up // 2:  # the rest lies within the tokenizer's latency
            time.sleep(0.05)
            self._check()
        time.sleep(0.5)
        start = self.start = time.perf_counter()
        size = 2 * self.piece
        for number, at in enumerate(range(warm_up, len(data), size)):
            due = start + (number + 1) * self.piece / RATE
            time.sleep(max(0.0, due - time.perf_counter()))
            self._write(data[at : at + size])
            if number % max(1, RATE // self.piece) == 0:
                self.memory.append((_resident(self.encoder), _resident(self.decoder)))
        self.memory.append((_resident(self.encoder), _resident(self.decoder)))
        self.encoder.stdin.close()
        reader.join()
        self._check()

    def said(self) -> str:
        """What --stats printed."""
        return "".join(end.stderr.read().decode() for end in (self.encoder, self.decoder))

    def delays(self) -> tuple[np.ndarray, np.ndarray]:
        """Seconds from written, and from spoken, to read, of every sample fed in real time."""
        written, came = (
            np.repeat([moment for moment, _ in log], [count for _, count in log])
            for log in (self.written, self.read)
        )
        if len(written) != len(came):
            raise SystemExit(f"{len(written)} samples went in and {len(came)} came out")
        first = RATE * WARM_UP_SECONDS
        spoken = self.start + np.arange(1, len(came) - first + 1) / RATE
        return came[first:] - written[first:], came[first:] - spoken

    def _write(self, data: bytes) -> None:
        self.written.append((time.perf_counter(), len(data) // 2))
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self.encoder.stdin.fileno(), rest) :]

    def _read(self) -> None:
        held = 0  # bytes of a sample that has come in part
        while data := os.read(self.decoder.stdout.fileno(), 1 << 16):
            held += len(data)
            self.read.append((time.perf_counter(), held // 2))
            held %= 2
            self.received += len(data)

    def _check(self) -> None:
        for end in (self.encoder, self.decoder):
            if end.poll():
                raise SystemExit(end.stderr.read().decode() or f"exit code {end.returncode}")


def _resident(process: subprocess.Popen) -> int:
    """Resident memory of a process in MB."""
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1_000_000


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("audio", nargs="?", default=ROOT / "assets" / "demo.flac", type=Path)
    parser.add_argument("--codec", default="rvq-16k")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--frames-per-chunk", type=int, default=1, metavar="N")
    parser.add_argument("--piece-ms", type=float, default=20)
    options = parser.parse_args(arguments)
    wave = read(options.audio, RATE)[0]
    piece = round(RATE * options.piece_ms / 1000)
    pieces = round(options.seconds * RATE / piece)
    wave = np.resize(wave, RATE * WARM_UP_SECONDS + pieces * piece)
    pipe = Pipe(options.codec, options.frames_per_chunk, piece)
    print(f"{options.codec}, {options.seconds:.0f} s in pieces of {options.piece_ms:g} ms")
    print(f"load average {os.getloadavg()[0]:.1f}; {machine()}\n", flush=True)
    pipe.run(wave)
    print("| latency, ms | p50 | p99 | longest |\n| --- | --- | --- | --- |")
    for name, delays in zip(("written to read", "spoken to read"), pipe.delays(), strict=True):
        p50, p99, longest = np.percentile(delays * 1000, [50, 99, 100])
        print(f"| {name} | {p50:.1f} | {p99:.1f} | {longest:.1f} |")
    moments = np.linspace(0, len(pipe.memory) - 1, MOMENTS).round().astype(int)
    heads = [f"{moment / max(1, len(pipe.memory) - 1):.0%}" for moment in moments]
    print(f"\n| memory, MB, after | {' | '.join(heads)} |\n|{' --- |' * (MOMENTS + 1)}")
    for index, name in enumerate(("encode", "decode")):
        print(f"| {name} | {' | '.join(str(pipe.memory[moment][index]) for moment in moments)} |")
    print(f"\n{pipe.said()}", end="")


if __name__ == "__main__":
    main()
