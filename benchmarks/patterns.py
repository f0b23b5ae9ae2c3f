"""Codebook patterns beside audiocraft's algorithm, in one process: codes to steps and back.

    python benchmarks/patterns.py
    python benchmarks/patterns.py --codebooks 8 --frames 1500 --batch 16 --rounds 30

Both get the same int64 tensors and give the same steps, mask and codes, which is checked first.
audiocraft's `Pattern` goes over the layout step by step to build indices, then gathers; it keeps
the indices of the last hundred lengths. So there are two rows of it: every length new, as with
utterances, and one length for ever, as with clips of 30 s. Ours has nothing to keep and does the
same either way; it also looks whether every code is in range, which audiocraft doesn't.

Below: one step at a time through the streaming inverse, and utterances of different lengths in one
batch, which audiocraft's layouts can't have.
"""

import argparse
import sys
import time

import numpy as np
import torch

from syllabary.lm.patterns import CoarseFirst, Delay, Flatten, MusicLM, Parallel
from timing import interleaved, machine

#: Of a contender in each of its turns.
CALLS = 10


class Published:
    """audiocraft's algorithm, restated: a list of (frame, codebook) for each step, and gathers."""

    def __init__(self, layout, codebooks: int, frames: int) -> None:
        self.layout, self.codebooks, self.frames = layout, codebooks, frames
        self.kept: dict = {}

    def _indices(self, there: bool, length: int):
        """Index of each target in the flattened source (its length: the special id), and a mask."""
        if (there, length) in self.kept:
            return self.kept[there, length]
        shape = (self.codebooks, len(self.layout) if there else self.frames)
        index, mask = np.full(shape, self.codebooks * length), np.zeros(shape, bool)
        for step, cells in enumerate(self.layout):
            for frame, codebook in cells:
                if there and frame < length:
                    index[codebook, step] = codebook * length + frame
                    mask[codebook, step] = True
                elif not there and frame < self.frames:
                    index[codebook, frame] = codebook * length + step
                    mask[codebook, frame] = True
        self.kept[there, length] = torch.from_numpy(index), torch.from_numpy(mask)
        return self.kept[there, length]

    def _gather(self, source, there: bool, special: int):
        batch, codebooks, length = source.shape
        index, mask = self._indices(there, length)
        flat = source.reshape(batch, -1)
        flat = torch.cat([flat, torch.full_like(flat[:, :1], special)], 1)
        return flat[:, index.reshape(-1)].view(batch, codebooks, -1), mask

    def lay(self, codes, special: int):
        return self._gather(codes, True, special)

    def restore(self, steps, special: int):
        return self._gather(steps, False, special)[0]


def layout(kind: str, codebooks: int, frames: int, delays=None, groups=None):
    """The lists that audiocraft's providers make; its first step is always empty."""
    delays = delays or list(range(codebooks))
    steps = [[]]
    if kind == "parallel":
        steps += [[(t, q) for q in range(codebooks)] for t in range(frames)]
    elif kind == "delay":
        for t in range(frames + max(delays)):
            steps.append([(t - d, q) for q, d in enumerate(delays) if t >= d])
    elif kind == "flatten":
        groups = groups or list(range(codebooks))
        for t in range(frames):
            for inner in range(max(groups) + 1):
                steps.append([(t, q) for q, group in enumerate(groups) if group == inner])
    elif kind == "coarse-first":
        delays = delays if len(delays) == codebooks - 1 else [0] * (codebooks - 1)
        steps += [[(t, 0)] for t in range(frames)]
        for t in range(frames + max(delays)):
            steps.append([(t - d, q) for q, d in enumerate(delays, start=1) if t >= d])
    elif kind == "musiclm":
        for first in range(0, codebooks, 2):
            for t in range(frames):
                steps += [[(t, q)] for q in range(first, min(first + 2, codebooks))]
    return steps


def ours(kind: str, codebooks: int, size: int):
    sizes = (size,) * codebooks
    return {
        "parallel": lambda: Parallel(sizes),
        "delay": lambda: Delay(sizes),
        "flatten": lambda: Flatten(sizes, streams_of="each", start=1),
        "coarse-first": lambda: CoarseFirst(sizes),
        "musiclm": lambda: MusicLM(sizes),
    }[kind]()


def same(kind: str, mine, theirs) -> bool:
    """Equal; MusicLM's codes are one stream here, and in audiocraft each codebook has its own."""
    if kind == "musiclm":
        theirs = theirs[:, :, 1:].amin(1, keepdim=True)  # the special id is the greatest
    return torch.equal(mine, theirs)


def several(run):
    """The calls of one turn: after another contender's, the first finds cold caches."""

    def turn():
        for _ in range(CALLS):
            run()

    return turn


def main(arguments=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--codebooks", type=int, default=8)
    parser.add_argument("--frames", type=int, default=750, help="15 s at 50 frames a second")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    shape = (args.batch, args.codebooks, args.frames)
    codes = torch.from_numpy(rng.integers(0, args.size, shape))
    print(machine())
    print(
        f"{args.batch} × {args.codebooks} codebooks × {args.frames} frames, medians, lay + restore"
    )
    print("| pattern | ours, ms | M codes/s | audiocraft, new length | the same length again |")
    print("| --- | --- | --- | --- | --- |")
    for kind in ("parallel", "delay", "flatten", "coarse-first", "musiclm"):
        pattern = ours(kind, args.codebooks, args.size)
        cached = Published(layout(kind, args.codebooks, args.frames), args.codebooks, args.frames)
        steps, _ = pattern.lay(codes)
        theirs, _ = cached.lay(codes, args.size)
        if not same(kind, steps, theirs) or not torch.equal(pattern.restore(steps), codes):
            sys.exit(f"{kind}: the two don't agree")
        if not torch.equal(cached.restore(theirs, args.size), codes):
            sys.exit(f"{kind}: the published algorithm does not come back")

        def run_ours(pattern=pattern):
            return pattern.restore(pattern.lay(codes)[0])

        def run_new(kind=kind):
            new = Published(layout(kind, args.codebooks, args.frames), args.codebooks, args.frames)
            return new.restore(new.lay(codes, args.size)[0], args.size)

        def run_again(cached=cached):
            return cached.restore(cached.lay(codes, args.size)[0], args.size)

        contenders = {"ours": run_ours, "new": run_new, "again": run_again}
        times = interleaved({k: several(run) for k, run in contenders.items()}, args.rounds)
        times = {name: seconds / CALLS for name, seconds in times.items()}
        speed = codes.numel() / times["ours"] / 1e6
        print(
            f"| {kind} | {times['ours'] * 1e3:.2f} | {speed:.0f} | "
            f"{times['new'] * 1e3:.1f} ms, ours {times['new'] / times['ours']:.0f} × as fast | "
            f"{times['again'] * 1e3:.2f} ms, {times['again'] / times['ours']:.1f} × |"
        )

    pattern = Delay((args.size,) * args.codebooks)
    lengths = rng.integers(1, args.frames + 1, args.batch)
    times = interleaved({"ragged": lambda: pattern.lay(codes.numpy(), lengths)}, args.rounds)
    print(f"delay, rows of different lengths: {times['ragged'] * 1e3:.2f} ms to lay out")
    steps = pattern.lay(codes)[0]
    stream = pattern.stream(args.batch)
    start = time.perf_counter()
    for step in range(steps.shape[-1]):
        stream.push(steps[..., step])
    each = (time.perf_counter() - start) / steps.shape[-1]
    print(f"delay, streaming inverse: {each * 1e6:.0f} µs a step of {args.batch} rows")


if __name__ == "__main__":
    main()
