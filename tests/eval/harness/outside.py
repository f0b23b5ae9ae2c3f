"""A package outside of ours, which adds a tokenizer, a system, a metric, a study and a task."""

import os
import sys
from pathlib import Path

import numpy as np
import soundfile

from ...conftest import synthetic_speech

MODULE = '''
"""What somebody else wrote."""

import os
import tempfile
import time

import numpy as np
import syllabary
from syllabary.eval.metrics.interface import Metric, MetricError
from syllabary.eval.probes.task import SplitBy, ProbeTask
from syllabary.eval.studies.interface import Findings, Study, Value
from syllabary.eval.systems.interface import Reconstruction
from syllabary.eval.systems.references import Original


def tokenizer(**options):
    return syllabary.load("dmel-40ch", **options)


class Halved(Original):
    """Half as loud; it can't stand one file, another kills it, and others keep it for minutes."""

    name, setting = "halved", "half as loud"
    digest = "d" * 64

    def reconstruct(self, wave):
        if len(wave) == 4001:
            raise RuntimeError("I don't like this one")
        if len(wave) == 4002:
            os._exit(1)
        if len(wave) == 4003:
            with tempfile.TemporaryDirectory(dir="at-work"):
                time.sleep(300)
        return Reconstruction(wave / 2, 8.0 * len(wave))


def loudness(clip):
    peak = float(np.abs(clip.reference).max())
    if not peak:
        raise MetricError("the reference is silent")
    return float(np.abs(clip.estimate).max()) / peak


METRIC = Metric(
    "peak", "peak", loudness, "Peak of the estimate over that of the reference.", None, (0, None)
)
STUDY = Study(
    "count",
    "Counting",
    lambda bench: Findings([Value("items", "items", float(len(bench.items)))]),
    "How many items there are.",
)
TASK = ProbeTask(
    name="outside",
    kind="classification",
    label="speaker",
    split_by=SplitBy("utterance", 0.5),
    max_seconds=0.5,
)
'''

ENTRY_POINTS = """
[syllabary.tokenizers]
outside-dmel = outside_package:tokenizer
[syllabary.systems]
halved = outside_package:Halved
[syllabary.metrics]
peak = outside_package:METRIC
[syllabary.studies]
count = outside_package:STUDY
[syllabary.tasks]
outside = outside_package:TASK
"""


def install(folder: Path) -> dict[str, str]:
    """Put the package where a process with this environment finds it."""
    (folder / "outside_package.py").write_text(MODULE)
    metadata = folder / "outside_package-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: outside-package\nVersion: 1.0\n"
    )
    (metadata / "entry_points.txt").write_text(ENTRY_POINTS)
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


def write_speech(folder: Path, lengths: dict[str, int], silent: tuple[str, ...] = ()) -> Path:
    """A manifest of synthetic speech; names are of the form `domain/name`."""
    lines = []
    for number, (name, length) in enumerate(lengths.items()):
        path = folder / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        wave = synthetic_speech(length, number) * (name not in silent)
        soundfile.write(path, (wave * 32767).astype(np.int16), 16000, "PCM_16")
        speaker = f"speaker-{number % 2}"
        lines.append(
            f'{{"path": "{name}.wav", "duration_s": {length / 16000}, "split": "test", '
            f'"speaker": "{speaker}"}}'
        )
    manifest = folder / "manifest.jsonl"
    manifest.write_text("\n".join(lines))
    return manifest


def command(*words: str) -> list[str]:
    """The command line of this checkout, run by this Python."""
    return [sys.executable, "-m", "syllabary", *words]
