"""What entropy coding of `.syl` payloads saves, and how fast it is, by tokenizer.

SYLLABARY_SPEECH=DIR python benchmarks/entropy_coder.py [--codec NAME]…

The codes of the test sentences of LibriSpeech and speechocean762 (186 files, 20 minutes), one after
another, in chunks of a minute as `--compress` writes them, on one thread, whose own time counts and
not that of other programs. Megabytes are those of packed codes.
"""

import argparse
import os
import sys
import time

import numpy as np
import torch

import syllabary
from syllabary.audio import read, read_manifest
from syllabary.codecs.container import bits, entropy
from syllabary.codecs.container.writer import CODED_CHUNK_SECONDS
from syllabary.codecs.spec import bits_for

sys.path.insert(0, __file__.rpartition("/")[0])
from timing import machine

CODECS = ("dmel", "dmel-fine", "rvq-16k", "fsq-16k", "ts3-16k", "units-16k")
SOURCES = ("librispeech_tc100", "librispeech_test_other", "speechocean762")


def codes_of(name: str, files: list) -> tuple[np.ndarray, list[int], float]:
    """Codes (positions, codebooks), the codebooks' widths, and positions a second."""
    tokenizer = syllabary.load(name)
    parts = [tokenizer.encode(*read(path)).codes[0].T.numpy() for path in files]
    spec = tokenizer.spec.tokens
    return np.concatenate(parts), list(map(bits_for, spec.codebook_sizes)), float(spec.frame_rate)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--codec", action="append", help="default: those that ship")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    items = read_manifest(f"{os.environ['SYLLABARY_SPEECH']}/manifest.jsonl")
    files = [
        item.path for item in items if item.split == "test" and item.extra.get("source") in SOURCES
    ]
    print(f"{machine()}; {len(files)} files\n")
    print("| tokenizer | saved | encode, × real time | MB/s | decode, × real time | MB/s |")
    print("| --- | --- | --- | --- | --- | --- |")
    entropy.decode(entropy.encode(np.array([[1]]), [1]), 1, [1])  # compiled, if not yet
    for name in arguments.codec or CODECS:
        codes, widths, rate = codes_of(name, files)
        size = min(round(CODED_CHUNK_SECONDS * rate), entropy.MAX_CODED_BITS // sum(widths))
        chunks = [codes[at : at + size] for at in range(0, len(codes), size)]
        packed = sum(bits.packed_size(len(chunk), widths) for chunk in chunks)
        seconds = len(codes) / rate
        start = time.process_time()
        coded = [entropy.encode(chunk, widths) for chunk in chunks]
        encoding = time.process_time() - start
        start = time.process_time()
        for chunk, data in zip(chunks, coded, strict=True):
            assert np.array_equal(entropy.decode(data, len(chunk), widths), chunk)
        decoding = time.process_time() - start
        kept = sum(
            min(len(data), bits.packed_size(len(chunk), widths))
            for chunk, data in zip(chunks, coded, strict=True)
        )
        print(
            f"| {name} | {1 - kept / packed:.1%} | {seconds / encoding:,.0f} "
            f"| {packed / encoding / 1e6:.2f} | {seconds / decoding:,.0f} "
            f"| {packed / decoding / 1e6:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
