"""Sessions of many rows that join, pause, leave and end at random, against offline calls.

    SYLLABARY_SPEECH=… python benchmarks/stream_rows.py ts3-16k --hours 10 --threads 2

Rows take utterances of the test split in turn, over and over, in pieces of 1 sample to 10 s. A row
may pause, leave in the middle of an utterance, and begin another; sessions have 1 to 64 rows. All
codes and all samples that come out are compared with those of one offline call on the utterance.

Then one stream of `--long` hours hears the split over and over as one audio, against one offline
call on all of it (ten hours take 12 GB of memory), and the bytes of its state are looked at on the
way.
"""

import argparse
import os
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

import syllabary
from syllabary.audio.files import read
from syllabary.audio.manifests import collect
from syllabary.codecs.interface import AudioTokenizer

sys.path.insert(0, __file__.rpartition("/")[0])
from timing import machine

SIZES = (1, 2, 3, 8, 17, 64)
LONGEST = 10.0  # seconds of a piece


@dataclass
class Offline:
    """An utterance, and what offline calls make of it."""

    wave: Tensor
    codes: Tensor  # (codebooks, frames)
    samples: Tensor


@dataclass
class Row:
    """Where a row is in its utterance."""

    of: Offline
    taken: int = 0
    frames: int = 0
    samples: int = 0


@dataclass
class Count:
    """What was compared."""

    frames: int = 0
    other_frames: int = 0
    samples: int = 0
    other_samples: int = 0
    seconds: float = 0.0
    whole: int = 0
    left: int = 0
    sizes: dict[int, int] = field(default_factory=dict)


def offline(tokenizer: AudioTokenizer, path: Path) -> Offline:
    rate = tokenizer.spec.sample_rate
    wave = torch.from_numpy(read(path, rate)[0])
    tokens = tokenizer.encode(wave, rate)
    return Offline(wave, tokens.codes[0], tokenizer.decode(tokens)[0])


def piece(chance: random.Random, rate: int) -> int:
    """Samples of the next piece; 0: the row pauses."""
    kind = chance.random()
    if kind < 0.1:
        return 0
    if kind < 0.2:
        return 1
    if kind < 0.3:
        return chance.randint(1, int(LONGEST * rate))
    return chance.randint(1, rate)


def walk(
    tokenizer: AudioTokenizer, turns: Iterator[Offline], size: int, seconds: float, count: Count,
    chance: random.Random,
) -> None:  # fmt: skip
    """One session of `size` rows, until `seconds` of audio have gone through it."""
    rate, spent = tokenizer.spec.sample_rate, 0.0
    rows = [Row(next(turns)) for _ in range(size)]
    with tokenizer.stream(batch_size=size) as session:
        while spent < seconds:
            sizes = [min(piece(chance, rate), len(r.of.wave) - r.taken) for r in rows]
            ends = [r.taken + n == len(r.of.wave) for r, n in zip(rows, sizes, strict=True)]
            chunk = torch.zeros(size, max(sizes))
            for index, (row, n) in enumerate(zip(rows, sizes, strict=True)):
                chunk[index, :n] = row.of.wave[row.taken : row.taken + n]
            tokens = session.encode(chunk, sizes, final=ends)
            before = session.samples_out
            wave = session.decode(tokens, final=ends)
            for index, row in enumerate(rows):
                row.taken += sizes[index]
                new = int(tokens.lengths[index])
                compare(row, tokens.codes[index, :, :new], count)
                received = wave[index, : session.samples_out[index] - before[index]]
                compare_samples(row, received, count)
                leaves = not ends[index] and chance.random() < 0.02
                if ends[index] and (row.frames, row.samples) != (
                    row.of.codes.shape[1], len(row.of.samples),
                ):  # fmt: skip
                    raise SystemExit("a row gave another number of frames or samples")
                if ends[index] or leaves:
                    count.whole += ends[index]
                    count.left += leaves
                    spent += row.taken / rate
                    session.reset(index)
                    rows[index] = Row(next(turns))
    count.seconds += spent
    count.sizes[size] = count.sizes.get(size, 0) + 1


def compare(row: Row, codes: Tensor, count: Count) -> None:
    expected = row.of.codes[:, row.frames : row.frames + codes.shape[1]]
    count.other_frames += int((codes != expected).any(0).sum())
    count.frames += codes.shape[1]
    row.frames += codes.shape[1]


def compare_samples(row: Row, samples: Tensor, count: Count) -> None:
    expected = row.of.samples[row.samples : row.samples + len(samples)]
    count.other_samples += int((samples != expected).sum())
    count.samples += len(samples)
    row.samples += len(samples)


def random_rows(tokenizer: AudioTokenizer, paths: list[Path], hours: float, seed: int) -> str:
    chance, count = random.Random(seed), Count()
    known = [offline(tokenizer, path) for path in paths]

    def turns() -> Iterator[Offline]:
        while True:
            yield from chance.sample(known, len(known))

    order, sessions = turns(), 0
    while count.seconds < hours * 3600:
        size = SIZES[sessions % len(SIZES)]
        share = min(600.0 * (1 + size / 8), hours * 3600 - count.seconds)
        walk(tokenizer, order, size, share, count, chance)
        sessions += 1
    sizes = ", ".join(f"{n} of {size}" for size, n in count.sizes.items())
    return (
        f"{tokenizer.name}: {count.other_frames} of {count.frames} frames and "
        f"{count.other_samples} of {count.samples} samples differ; {count.seconds / 3600:.2f} h in "
        f"{sessions} sessions (rows: {sizes}); {count.whole} utterances to their end, "
        f"{count.left} left in the middle"
    )


def one_long_stream(tokenizer: AudioTokenizer, paths: list[Path], hours: float, seed: int) -> str:
    """An endless audio in pieces, against one offline call."""
    chance, rate = random.Random(seed), tokenizer.spec.sample_rate
    whole = torch.cat([torch.from_numpy(read(path, rate)[0]) for path in paths])
    total = int(hours * 3600 * rate)
    wave = whole.repeat(-(-total // len(whole)))[:total]
    tokens = tokenizer.encode(wave, rate)
    expected = tokenizer.decode(tokens)[0]
    at = frames = samples = other_frames = other_samples = 0
    states = {}
    with tokenizer.stream() as session:
        while at < total:
            n = min(max(1, piece(chance, rate)), total - at)
            new = session.encode(wave[at : at + n], final=at + n == total)
            pcm = session.decode(new, final=at + n == total)[0]
            at += n
            codes = new.codes[0]
            there = tokens.codes[0, :, frames : frames + codes.shape[1]]
            other_frames += int((codes != there).any(0).sum())
            frames += codes.shape[1]
            other_samples += int((pcm != expected[samples : samples + len(pcm)]).sum())
            samples += len(pcm)
            hour = at * 10 // total
            if hour not in states:
                states[hour] = session.state_bytes[0]
    if (frames, samples) != (tokens.codes.shape[2], len(expected)):
        raise SystemExit("the stream gave another number of frames or samples")
    low, high = min(states.values()), max(states.values())
    return (
        f"{tokenizer.name}, one stream of {hours:g} h: {other_frames} of {frames} frames and "
        f"{other_samples} of {samples} samples differ; state {low:,} to {high:,} bytes at "
        f"{len(states)} places"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", metavar="TOKENIZER")
    parser.add_argument(
        "--hours", type=float, default=10.0, help="of audio in rows that come and go"
    )
    parser.add_argument("--long", type=float, default=10.0, help="hours of the one long stream")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    folder = Path(os.environ["SYLLABARY_SPEECH"])
    items = collect([str(folder / "manifest.jsonl")], "test")
    paths = [Path(item.path) for item in items]
    print(f"{len(items)} files; {machine()}", flush=True)
    tokenizer = syllabary.load(options.name)
    for part, hours in ((random_rows, options.hours), (one_long_stream, options.long)):
        if hours:
            start = time.perf_counter()
            print(part(tokenizer, paths, hours, options.seed), end=" ", flush=True)
            print(f"({time.perf_counter() - start:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
