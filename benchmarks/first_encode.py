"""The first encode on a machine: its processor time with nothing compiled, and its codes.

python benchmarks/first_encode.py [--speech FOLDER] [--files N]

Runs `syllabary encode` on the demo clip with an empty cache of kernels, and prints the processor
and wall time of that process. Then encodes N files of the speech by PyTorch and by the compiled
kernels, and counts codes that differ.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import syllabary
from syllabary.audio.manifests import collect
from syllabary.cli.demo import CLIP
from syllabary.codecs.neural.without_compiling import without_compiling
from syllabary.cores import use_one_thread


def first_encode() -> None:
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"NUMBA_CACHE_DIR": folder, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "syllabary", "encode", str(CLIP), "-o", f"{folder}/a.syl"]
        start = time.perf_counter()
        subprocess.run(command, env=environment, check=True, capture_output=True)
        wall = time.perf_counter() - start
        compiled = len(list(Path(folder).rglob("*.nbc")))
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = used.ru_utime + used.ru_stime
    print(f"first encode: {cpu:.1f} s of processor time, {wall:.1f} s, {compiled} kernels compiled")


def compare(folder: str, files: int) -> None:
    use_one_thread()
    tokenizer = syllabary.load("rvq-16k")
    items = collect([folder])
    seconds, codes, differing = 0.0, 0, 0
    for item in items[:: max(1, len(items) // files)][:files]:
        wave, rate = item.read(16_000, "mix")
        compiled = tokenizer.encode(wave, rate)
        with without_compiling():
            plain = tokenizer.encode(wave, rate)
        seconds += len(wave) / rate
        codes += compiled.codes.numel()
        differing += int((compiled.codes != plain.codes).sum())
    print(f"{seconds:.0f} s of speech, {codes:,} codes: {differing} differ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--speech", default=os.environ.get("SYLLABARY_SPEECH"))
    parser.add_argument("--files", type=int, default=100)
    given = parser.parse_args()
    first_encode()
    if given.speech:
        compare(given.speech, given.files)


if __name__ == "__main__":
    main()
