"""Fair timing on noisy machines: contenders take turns in one process, and medians are compared."""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from syllabary.cores import usable_cores


def interleaved(contenders: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each contender over `rounds` rounds, after one that does not count."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, run in contenders.items():
            start = time.perf_counter()
            run()
            if number:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def machine() -> str:
    return (
        f"{platform.machine()}, {usable_cores()} core(s) usable, "
        f"{torch.get_num_threads()} torch thread(s), torch {torch.__version__}"
    )


def speech_manifest(split: str) -> list[Path]:
    """The 16 kHz files of a split of $SYLLABARY_SPEECH."""
    folder = os.environ.get("SYLLABARY_SPEECH")
    if not folder:
        raise SystemExit("set SYLLABARY_SPEECH to a folder of real speech with a manifest.jsonl")
    lines = [json.loads(line) for line in Path(folder, "manifest.jsonl").read_text().splitlines()]
    return [
        Path(folder, line["path"])
        for line in lines
        if line["split"] == split and line["source"] != "fsdd"
    ]
