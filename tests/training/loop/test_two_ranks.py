"""Two gloo ranks, each with half of the batch, train as one rank with all of it."""

import json
import math
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from . import tiny

PROGRAM = Path(__file__).parent / "ranks_run.py"


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folders of the runs on one rank and on two."""
    folder = tmp_path_factory.mktemp("ranks")
    corpus = tiny.write_corpus(folder / "corpus")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    several = ("-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={port}")
    for name, launcher in (("one", ()), ("two", several)):
        arguments = [str(corpus), str(folder / "cache"), str(folder / name)]
        done = subprocess.run(
            [sys.executable, *launcher, str(PROGRAM), *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    return folder / "one", folder / "two"


def lines(folder, kind):
    found = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line for line in found if line["kind"] == kind]


def test_the_losses_are_those_of_the_joined_batch(runs):
    one, two = (lines(folder, "train") for folder in runs)
    assert [line["step"] for line in two] == list(range(1, 9))
    for first, second in zip(one, two, strict=True):
        assert first.keys() == second.keys()
        for name in first.keys() - {"kind", "seconds"}:
            assert math.isclose(first[name], second[name], rel_tol=1e-6), (first["step"], name)
    # The discriminator and the balancer took part.
    assert {"adversarial", "discriminator/game", "norm/mel"} <= two[4].keys()


def test_the_weights_and_the_averages_agree(runs):
    one, two = (torch.load(folder / "state.pt", weights_only=True) for folder in runs)
    for part in ("generator", "average", "discriminator"):
        for name, value in one[part].items():
            close = torch.allclose(value.double(), two[part][name].double(), rtol=1e-7, atol=1e-9)
            assert close, (part, name)


def test_validation_happens_once(runs):
    one, two = (lines(folder, "validation") for folder in runs)
    assert [line["step"] for line in two] == [line["step"] for line in one] == [6, 8]
    assert two[1]["scores"]["mel"] == pytest.approx(one[1]["scores"]["mel"], rel=1e-3)
