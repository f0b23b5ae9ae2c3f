"""Encoding many rows at once on a GPU: the tiles of all rows in one call beside row by row.

    python benchmarks/gpu_batches.py                      # CUDA, batches of 1 to 256 rows
    python benchmarks/gpu_batches.py --device cpu --rows 1 4 --seconds 1    # a try

A codec of the size of `ts3-16k`, with random weights, encodes rows of different lengths. The codes
of each batch are compared with those of the rows alone, on the device and on the CPU. Speed is
seconds of speech for each second, medians of three.
"""

import argparse
import statistics
import sys
import time

import torch

from syllabary.codecs.ts3.tokenizer import TS3Codec, TS3Config

RATE = 16000


def speech_like(rows: int, seconds: float) -> list[torch.Tensor]:
    """Noise with a changing level, of (almost) equal lengths."""
    generator = torch.Generator().manual_seed(0)
    waves = []
    for row in range(rows):
        length = int(RATE * seconds) - 37 * row
        level = torch.rand(length // 800 + 1, generator=generator).repeat_interleave(800)[:length]
        waves.append(0.3 * level * torch.randn(length, generator=generator))
    return waves


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 16, 64, 256])
    parser.add_argument("--seconds", type=float, default=10, help="of each row")
    given = parser.parse_args()
    torch.manual_seed(0)
    codec = TS3Codec(TS3Config()).eval().to(given.device)
    waves = speech_like(max(given.rows), given.seconds)
    compared = [codec.encode(wave.to(given.device), RATE).codes[0] for wave in waves[:8]]
    wrong = 0
    if given.device != "cpu":
        torch.manual_seed(0)
        here = TS3Codec(TS3Config()).eval()
        codes = [here.encode(wave, RATE).codes[0] for wave in waves[:8]]
        wrong += differing("the CPU", codes, [row.cpu() for row in compared])
    for rows in given.rows:
        batch = [wave.to(given.device) for wave in waves[:rows]]
        times = []
        for _ in range(4):
            start = time.perf_counter()
            tokens = codec.encode(batch, RATE)
            if given.device != "cpu":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
        took = statistics.median(times[1:])
        speed = sum(len(wave) for wave in batch) / RATE / took
        print(f"{rows} rows: {took * 1e3:.0f} ms, {speed:.0f} × real time", flush=True)
        found = [tokens.codes[row, :, : tokens.lengths[row]] for row in range(min(rows, 8))]
        wrong += differing(f"{rows} rows", compared[: len(found)], found)
    sys.exit(bool(wrong))


def differing(what: str, expected: list[torch.Tensor], found: list[torch.Tensor]) -> int:
    count = sum(row.numel() for row in expected)
    wrong = sum(int((a != b).sum()) for a, b in zip(expected, found, strict=True))
    print(f"  {what}: {wrong} of {count} codes differ from those of the rows alone")
    return wrong


if __name__ == "__main__":
    main()
