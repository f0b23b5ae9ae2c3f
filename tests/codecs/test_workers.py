"""Workers in other processes give the codes of one process, however they were started."""

import subprocess
import sys

import pytest
import torch

from syllabary.audio.files import write

from ..conftest import synthetic_speech

FILES = 24

#: Run by itself: what is spawned imports it again.
DATA_LOADER = """
import sys
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

import syllabary
from syllabary.audio.files import read
from syllabary.codecs.registry import SHIPPED


class Codes(Dataset):
    def __init__(self, paths, tokenizers):
        self.paths, self.tokenizers = paths, tokenizers

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        wave, rate = read(self.paths[index], 16000)
        return [tokenizer.encode(wave, rate).codes[0] for tokenizer in self.tokenizers]


def main(folder, methods):
    torch.set_num_threads(2)  # of which the parent has made use before it forks
    torch.ones(1_000_000).sum()
    paths = sorted(Path(folder).glob("*.wav"))
    codes = Codes(paths, [syllabary.load(name) for name in SHIPPED])
    expected = [codes[index] for index in range(len(codes))]
    for method in methods:
        loader = DataLoader(codes, batch_size=None, num_workers=2, multiprocessing_context=method)
        found = list(loader)
        assert len(found) == len(expected)
        for each, wanted in zip(found, expected):
            for name, a, b in zip(SHIPPED, each, wanted, strict=True):
                assert torch.equal(a, b), (method, name)
        assert all(map(torch.equal, codes[0], expected[0])), f"the parent after {method}"


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
"""

#: The parent has used its threads, which do not live on in what is forked.
POOL = """
import multiprocessing, sys
import numpy as np, torch, syllabary

torch.set_num_threads(2)
tokenizer = syllabary.load("{name}")
wave = np.sin(np.arange(60_000) / 20).astype(np.float32) / 3
here = tokenizer.encode(wave, 16000)
tokenizer.decode(here)
torch.randn(2_000_000).exp().sum()

def work(index):
    loaded = syllabary.load("{name}")
    there = tokenizer.encode(wave, 16000)
    sound = tokenizer.decode(there)
    with tokenizer.stream() as session:
        streamed = session.encode(wave, final=True)
    return torch.get_num_threads(), all(
        t.codes.tolist() == here.codes.tolist()
        for t in (there, streamed, loaded.encode(wave, 16000))
    )

if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(2) as pool:
        print(pool.map_async(work, range(3)).get(200))
"""


def run(tmp_path, script, *arguments):
    path = tmp_path / "script.py"
    path.write_text(script)
    done = subprocess.run(
        [sys.executable, str(path), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_a_data_loader_with_two_workers(tmp_path):
    for index in range(FILES):
        write(tmp_path / f"{index:02}.wav", synthetic_speech(4000 + 250 * index, index), 16000)
    run(tmp_path, DATA_LOADER, str(tmp_path), "fork", "spawn", "forkserver")


@pytest.mark.parametrize("name", ["rvq-16k", "units-16k", "dmel"])
def test_a_forked_pool_does_not_hang(tmp_path, name):
    out = run(tmp_path, POOL.format(name=name))
    assert eval(out) == [(1, True)] * 3


def test_a_published_model_in_spawned_workers(tmp_path):
    """Its normalised weights are computed from others, which torch does not pickle."""
    pytest.importorskip("transformers")
    from .. import tiny_models

    tiny_models.directory("tiny-encodec")
    import syllabary

    tokenizer = syllabary.load(tiny_models.directory("tiny-encodec"))
    wave = synthetic_speech(9000, 0, tokenizer.spec.sample_rate)
    expected = tokenizer.encode(wave, tokenizer.spec.sample_rate)
    context = torch.multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        (found,) = pool.starmap(tokenizer.encode, [(wave, tokenizer.spec.sample_rate)])
    assert found.equal(expected)
