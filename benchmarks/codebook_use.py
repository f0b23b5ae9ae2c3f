"""How much of each codebook a tokenizer uses on real speech.

    SYLLABARY_SPEECH=… python benchmarks/codebook_use.py ts3-16k --split train --split test

Use is the share of codes that occur at all, which so many frames can only show for codebooks with
far fewer codes; entropy is that of the codes' frequencies, in bits, by itself and as a part of the
bits that a code takes. Entropy of so few frames a code is underestimated; beside it stands the
Miller–Madow estimate, which adds (codes that occur - 1) / 2 / frames nats.
"""

import argparse
import math
import os
import sys
from pathlib import Path

import numpy as np
import torch

import syllabary
from syllabary.audio.files import read
from syllabary.audio.manifests import collect

sys.path.insert(0, __file__.rpartition("/")[0])
from timing import machine


def entropy(counts: np.ndarray) -> tuple[float, float]:
    """Bits of the frequencies, and the Miller–Madow estimate."""
    total, present = counts.sum(), counts[counts > 0]
    shares = present / total
    plain = float(-(shares * np.log2(shares)).sum())
    return plain, plain + (len(present) - 1) / (2 * total * math.log(2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", metavar="TOKENIZER")
    parser.add_argument("--split", action="append", help="may be given more than once")
    options = parser.parse_args()
    torch.set_num_threads(1)
    manifest = str(Path(os.environ["SYLLABARY_SPEECH"]) / "manifest.jsonl")
    print(f"{machine()}\n\n| tokenizer | split | codebook | frames | use | entropy | estimate |")
    print("| --- " * 7 + "|")
    for name in options.names:
        tokenizer = syllabary.load(name)
        spec = tokenizer.spec.tokens
        joined = [np.zeros(size, np.int64) for size in spec.codebook_sizes]
        for split in options.split or ["test"]:
            counts = [np.zeros(size, np.int64) for size in spec.codebook_sizes]
            for item in collect([manifest], split):
                wave = read(Path(item.path), spec.sample_rate)[0]
                codes = tokenizer.encode(wave, spec.sample_rate).codes[0].numpy()
                for row, count in zip(codes, counts, strict=True):
                    count += np.bincount(row, minlength=len(count))
            for total, count in zip(joined, counts, strict=True):
                total += count
            print_rows(name, split, counts)
        if len(options.split or []) > 1:
            print_rows(name, " + ".join(options.split), joined)


def print_rows(name: str, split: str, counts: list[np.ndarray]) -> None:
    for index, count in enumerate(counts):
        plain, estimate = entropy(count)
        bits = math.log2(len(count))
        print(
            f"| {name} | {split} | {index} of {len(count)} | {count.sum()} "
            f"| {(count > 0).mean():.1%} | {plain:.2f} of {bits:.2f} bits ({plain / bits:.0%}) "
            f"| {estimate:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
