"""Two processes, processes that are killed, and the memory of one."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from syllabary.errors import QuantizerError
from syllabary.quantizers.kmeans import KMeans, KMeansConfig

RANK = """
import sys
from pathlib import Path
import numpy as np
import torch
import torch.distributed as dist
from safetensors.numpy import save_file
from syllabary.errors import QuantizerError
from syllabary.quantizers.kmeans import KMeans, KMeansConfig

folder, rank = Path(sys.argv[1]), int(sys.argv[2])
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
shards = [[folder / "0.npy"], [folder / "1.npy", folder / "2.npy"]][rank]
found = {}
for algorithm in ("lloyd", "mini-batch"):
    config = KMeansConfig(16, algorithm=algorithm, batch_size=200, sample_size=300, iterations=6)
    kmeans = KMeans(config).fit(shards)
    found[algorithm] = kmeans.centroids.numpy()
    found[algorithm + " inertias"] = np.array(kmeans.inertias)
stream = lambda: (np.load(shard) for shard in shards)
config = KMeansConfig(16, sample_size=300, iterations=6)
found["streamed"] = KMeans(config).fit(stream).centroids.numpy()

# Stopped in the middle of a pass, and gone on with.
class Stop(Exception):
    pass
def stop(progress):
    steps.append(progress)
    if progress.stage == "passing" and progress.passes == 2:
        raise Stop
config = KMeansConfig(16, algorithm="mini-batch", batch_size=200, sample_size=300, iterations=6)
steps = []
path = folder / "state.safetensors"
try:
    KMeans(config).fit(shards, checkpoint=path, checkpoint_every=3, progress=stop)
except Stop:
    pass
found["resumed"] = KMeans(config).fit(shards, checkpoint=path).centroids.numpy()

try:
    KMeans(KMeansConfig(4)).fit([folder / "0.npy", folder / "nan.npy"][rank])
except QuantizerError as error:
    (folder / f"error{rank}").write_text(str(error))
try:
    KMeans(KMeansConfig(4)).fit([folder / "0.npy", folder / "missing.npy"][rank])
except QuantizerError as error:
    (folder / f"missing{rank}").write_text(str(error))
save_file(found, folder / f"rank{rank}.safetensors")
dist.destroy_process_group()
"""


def rows_of(num_rows, dim=10, seed=0):
    rng = np.random.default_rng(seed)
    means = 4 * rng.standard_normal((30, dim))
    rows = means[rng.integers(30, size=num_rows)] + rng.standard_normal((num_rows, dim))
    return rows.astype(np.float32)


def test_two_processes_equal_one(tmp_path):
    rows = rows_of(1500)
    for number, part in enumerate(np.split(rows, [900, 1100])):
        np.save(tmp_path / f"{number}.npy", part)
    wrong = rows[:50].copy()
    wrong[7, 1] = np.nan
    np.save(tmp_path / "nan.npy", wrong)
    ranks = [
        subprocess.Popen([sys.executable, "-c", RANK, str(tmp_path), str(rank)]) for rank in (0, 1)
    ]
    try:
        assert [rank.wait(timeout=120) for rank in ranks] == [0, 0]
    finally:
        for rank in ranks:
            rank.kill()
    first, second = (load_file(tmp_path / f"rank{rank}.safetensors") for rank in (0, 1))
    for name, values in first.items():
        assert np.array_equal(values, second[name]), name
    config = KMeansConfig(16, sample_size=300, iterations=6)
    alone = KMeans(config).fit([tmp_path / f"{number}.npy" for number in range(3)])
    assert np.array_equal(first["lloyd"], alone.centroids.numpy())
    assert np.array_equal(first["streamed"], alone.centroids.numpy())
    assert first["lloyd inertias"].tolist() == alone.inertias
    assert first["mini-batch inertias"][-1] < 1.02 * alone.inertia
    assert np.array_equal(first["resumed"], first["mini-batch"])
    assert "nan.npy, row 7," in (tmp_path / "error1").read_text()
    assert (tmp_path / "error0").read_text().startswith("rank 1: ")
    assert (tmp_path / "missing0").read_text().startswith("rank 1: ")


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from syllabary.quantizers.kmeans import KMeans, KMeansConfig

source, checkpoint, algorithm, moment = sys.argv[1:]
torch.set_num_threads(1)
writes = 0
replace = Path.replace
def counted(self, target):
    global writes
    writes += 1
    if moment == "writing" and writes == 9:
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(self, target)
Path.replace = counted
def step(progress):
    if moment == "fitting" and progress.passes == 1 and progress.rows == 800:
        os.kill(os.getpid(), signal.SIGKILL)
config = KMeansConfig(
    16, algorithm=algorithm, batch_size=200, sample_size=300, iterations=4, tolerance=0
)
KMeans(config).fit(source, checkpoint=checkpoint, checkpoint_every=2, progress=step)
"""


@pytest.mark.parametrize(
    ("algorithm", "moment"), [("lloyd", "fitting"), ("mini-batch", "fitting"), ("lloyd", "writing")]
)
def test_a_killed_fit_goes_on_to_the_same_bits(tmp_path, algorithm, moment):
    source, checkpoint = tmp_path / "rows.npy", tmp_path / "state.safetensors"
    np.save(source, rows_of(1500))
    command = [sys.executable, "-c", KILLED, str(source), str(checkpoint), algorithm, moment]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert checkpoint.exists()
    config = KMeansConfig(
        16, algorithm=algorithm, batch_size=200, sample_size=300, iterations=4, tolerance=0
    )
    steps = []
    resumed = KMeans(config).fit(source, checkpoint=checkpoint, progress=steps.append)
    assert steps[-1].passes == len(resumed.inertias) > 1
    passing = [step for step in steps if step.stage == "passing"]
    # It did not start anew.
    assert passing[0].passes >= 1 and not any(step.stage == "starting" for step in steps)
    whole = KMeans(config).fit(source)
    assert torch.equal(resumed.centroids, whole.centroids)
    assert resumed.inertias == whole.inertias
    # What the killed process was writing is gone.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.npy", "state.safetensors"]
    again = KMeans(config).fit(source, checkpoint=checkpoint)
    assert torch.equal(again.centroids, whole.centroids)


def test_checkpoints_of_another_fit(tmp_path):
    rows, path = rows_of(300), tmp_path / "state.safetensors"
    config = KMeansConfig(4, iterations=2)
    KMeans(config).fit(rows, checkpoint=path)
    for other, features, message in (
        (KMeansConfig(4, iterations=3), rows, "a fit with iterations 2, not 3"),
        (KMeansConfig(5, iterations=2), rows, "a fit with num_clusters 4, not 5"),
        (config, rows[:299], r"\[300\] rows a process, not \[299\]"),
        (config, rows + 1, "of other features"),
    ):
        with pytest.raises(QuantizerError, match=message):
            KMeans(other).fit(features, checkpoint=path)
    one, two = rows[:4], rows[4:8]
    for start in (one, two):
        with pytest.raises(QuantizerError, match=r"a fit of other initial centroids; delete it$"):
            KMeans(config).fit(rows, start=start, checkpoint=path)
    other = tmp_path / "started.safetensors"
    first = KMeans(config).fit(rows, start=one, checkpoint=other)
    again = KMeans(config).fit(rows, start=one, checkpoint=other)
    assert torch.equal(first.centroids, again.centroids)
    for start in (two, None):
        with pytest.raises(QuantizerError, match="of other initial centroids"):
            KMeans(config).fit(rows, start=start, checkpoint=other)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(QuantizerError, match="damaged"):
        KMeans(config).fit(rows, checkpoint=path)
    with pytest.raises(QuantizerError, match="can't be written"):
        KMeans(config).fit(rows, checkpoint=tmp_path / "nowhere" / "state.safetensors")


MEMORY = """
import sys
from pathlib import Path
import torch
from syllabary.quantizers.kmeans import KMeans, KMeansConfig

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

torch.set_num_threads(1)
config = KMeansConfig(8, batch_size=1024, sample_size=1024, iterations=2, tolerance=0)
KMeans(config).fit(torch.randn(5000, 256))
before = peak()
KMeans(config).fit(sys.argv[1])
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_memory_is_bounded_by_the_batch(tmp_path):
    block = rows_of(5000, 256).astype(np.float16)
    for number in range(4):
        with (tmp_path / f"{number}.f16").open("wb") as file:
            for _ in range(5):
                block.tofile(file)
    assert sum(os.path.getsize(path) for path in tmp_path.iterdir()) > 50e6  # noqa: PTH202
    script = MEMORY.replace("fit(sys.argv[1])", "fit(sys.argv[1], dim=256)")
    command = [sys.executable, "-c", script, str(tmp_path)]
    grown = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    # Four bytes a row for codes, and what the allocator keeps.
    assert grown < 20_000
