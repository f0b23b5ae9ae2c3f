"""The example that gives one data set to two trainers, at a small size."""

import subprocess
import sys

import pytest

from syllabary.audio import write
from syllabary.lm.dataset.build import build_dataset
from syllabary.lm.dataset.settings import Settings

from ..conftest import ROOT, synthetic_speech


@pytest.mark.slow
def test_two_trainers_read_one_data_set(tmp_path):
    pytest.importorskip("megatron.core.datasets.indexed_dataset")
    (tmp_path / "speech").mkdir()
    for number in range(12):
        write(tmp_path / "speech" / f"{number:02}.wav", synthetic_speech(24_000, number), 16_000)
    build_dataset([tmp_path / "speech"], tmp_path / "tokens", Settings("rvq-16k", num_codebooks=2))
    example = ROOT / "examples" / "training_loaders.py"
    command = [sys.executable, example, tmp_path / "tokens", "--rows", "2", "--context", "160"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert lines[0].startswith("nanochat: inputs (2, 160), targets (2, 160), {'position': ")
    assert lines[1] == "gone on from its state, the same batch: True"
    # 1.5 s at 50 frames a second, two codebooks flattened, and two markers.
    assert lines[2] == f"Megatron: 12 documents, {12 * (75 * 2 + 2)} ids, uint16"
