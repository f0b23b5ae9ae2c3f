"""Processor time of FSQ and of what it is compared with, and how much of it is page faults.

A copy into fresh memory makes the system give out page after page; so does every intermediate
result of a library. What that costs differs between systems by more than FSQ does between
processors:

    python benchmarks/fsq_pages.py                                          # and --processor avx2
    GLIBC_TUNABLES=glibc.malloc.hugetlb=1 python benchmarks/fsq_pages.py    # huge pages
"""

import argparse
import os
import resource
import sys
from collections.abc import Callable

import torch
from vector_quantize_pytorch import FSQ

from syllabary.kernels.processors import MASKS, masked_environment
from syllabary.quantizers import fsq_encode

LEVELS = (8, 8, 8, 5, 5, 5)
ROUNDS = 7


def spent(call: Callable[[], object]) -> tuple[float, float, int]:
    """Seconds of processor time, those of the system among them, and page faults."""
    before = resource.getrusage(resource.RUSAGE_THREAD)
    call()
    after = resource.getrusage(resource.RUSAGE_THREAD)
    system = after.ru_stime - before.ru_stime
    return after.ru_utime - before.ru_utime + system, system, after.ru_minflt - before.ru_minflt


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processor", choices=list(MASKS), help="hold this process to it")
    parser.add_argument("--rows", type=int, default=4_000_000)
    options = parser.parse_args()
    if options.processor:
        command = [sys.executable, __file__, "--rows", str(options.rows)]
        os.execvpe(sys.executable, command, masked_environment(options.processor))
    torch.set_num_threads(1)
    z = torch.randn(options.rows, len(LEVELS))
    there, theirs = torch.zeros_like(z), FSQ(list(LEVELS)).eval()
    contenders = {
        "syllabary": lambda: fsq_encode(z, LEVELS),
        "a copy into fresh memory": lambda: z.clone(),
        "a copy into memory that is there": lambda: there.copy_(z),
        "vector-quantize-pytorch": lambda: theirs(z[None])[1],
    }
    print("| milliseconds for 10,000,000 rows | processor | of it the system | page faults |")
    print("| --- | --- | --- | --- |")
    scale = 10_000_000 / options.rows
    for name, call in contenders.items():
        call()
        total, system, faults = min(spent(call) for _ in range(ROUNDS))
        row = f"{total * scale * 1e3:.0f} | {system * scale * 1e3:.0f} | {faults * scale:.0f}"
        print(f"| {name} | {row} |", flush=True)


if __name__ == "__main__":
    main()
