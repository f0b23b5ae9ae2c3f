"""Streams, one frame at a time, against offline calls, over all of a split.

    SYLLABARY_SPEECH=… taskset -c 0 python benchmarks/stream_equality.py rvq-16k fsq-16k

Counts frames whose codes differ and samples that differ, and says how long single frames took
(wall time of `session.encode` and `session.decode`, one thread).
"""

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch

import syllabary
from syllabary.audio.files import read
from syllabary.audio.manifests import collect

sys.path.insert(0, __file__.rpartition("/")[0])
from timing import machine


def compare(name: str, paths: list[Path]) -> str:
    tokenizer = syllabary.load(name)
    rate, hop = tokenizer.spec.sample_rate, tokenizer.spec.tokens.hop
    frames = other_frames = samples = other_samples = 0
    times: dict[str, list[float]] = {"encode": [], "decode": []}
    for path in paths:
        wave = read(path, rate)[0]
        offline = tokenizer.encode(wave, rate)
        parts, pcm = [], []
        with tokenizer.stream() as session:
            for at in range(0, len(wave), hop):
                start = time.perf_counter()
                parts.append(session.encode(wave[at : at + hop]))
                between = time.perf_counter()
                pcm.append(session.decode(parts[-1]))
                times["encode"].append(between - start)
                times["decode"].append(time.perf_counter() - between)
            end = session.flush()
        streamed = syllabary.Tokens.concat([*parts, *([end.tokens] if end.tokens else [])])
        decoded = torch.cat([*pcm, *([end.wave] if end.wave is not None else [])], 1)
        expected = tokenizer.decode(offline)
        frames += offline.codes.shape[2]
        samples += expected.shape[1]
        if streamed.codes.shape != offline.codes.shape or decoded.shape != expected.shape:
            raise SystemExit(f"{name}, {path}: a stream gave another number of frames or samples")
        other_frames += int((streamed.codes != offline.codes).any(1).sum())
        other_samples += int((decoded != expected).sum())
    spent = [
        f"{what} p50 {np.percentile(ms, 50) * 1000:.2f} ms, p99 {np.percentile(ms, 99) * 1000:.2f}"
        for what, ms in times.items()
    ]
    return (
        f"{name}: {other_frames} of {frames} frames and {other_samples} of {samples} samples "
        f"differ; {'; '.join(spent)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", metavar="TOKENIZER")
    parser.add_argument("--split", default="test")
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path(os.environ["SYLLABARY_SPEECH"])
    items = collect([str(folder / "manifest.jsonl")], options.split)
    print(f"{len(items)} files; {machine()}")
    for name in options.names:
        print(compare(name, [Path(item.path) for item in items]), flush=True)


if __name__ == "__main__":
    main()
