"""Two gloo ranks learn what one rank learns from the joined batch."""

import os
import subprocess
import sys

import pytest
import torch

from . import two_ranks
from .two_ranks import CASES, batch, train


@pytest.fixture(scope="session")
def ranks(tmp_path_factory):
    """What each of two ranks found, by case."""
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, two_ranks.__file__, str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"rank{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("name", CASES)
def test_the_ranks_agree_bit_for_bit(name, ranks):
    first, second = ranks[0][name], ranks[1][name]
    assert first["state"].keys() == second["state"].keys()
    for key, value in first["state"].items():
        assert torch.equal(value, second["state"][key]), key
    assert torch.equal(first["quantized"], second["quantized"])
    for a, b in zip(first["statistics"], second["statistics"], strict=True):
        for key, value in a.items():
            assert torch.equal(value, b[key]), key


@pytest.mark.parametrize("name", CASES)
def test_they_learn_what_one_rank_learns(name, ranks):
    """Tolerance: 1e-5 absolute and relative, some tens of float32 roundings over six steps.

    Sums of the "ema" statistics are float64; DistributedDataParallel adds gradients in float32.
    """
    alone = train(name)
    close = {"atol": 1e-5, "rtol": 1e-5}
    for key, value in alone["state"].items():
        other = ranks[0][name]["state"][key]
        assert torch.allclose(value, other, **close), (key, (value - other).abs().max())
    assert torch.allclose(alone["quantized"], ranks[0][name]["quantized"], **close)
    for step, codes in enumerate(alone["codes"]):
        _, mask = batch(step)
        joined = torch.cat([ranks[rank][name]["codes"][step] for rank in range(2)])
        assert torch.equal(joined.transpose(1, 2)[mask], codes.transpose(1, 2)[mask])
        mean = (ranks[0][name]["losses"][step] + ranks[1][name]["losses"][step]) / 2
        assert torch.allclose(mean, alone["losses"][step], **close)
        for key, value in alone["statistics"][step].items():
            assert torch.allclose(value, ranks[0][name]["statistics"][step][key], **close), key


@pytest.mark.parametrize("name", [name for name in CASES if name != "fsq"])
def test_the_cases_do_revive_and_start(name, ranks):
    """Otherwise the tests above would say nothing about revival."""
    found = ranks[0][name]
    assert found["revived"] > 0
    for key, value in found["state"].items():
        if "has_" in key:
            assert bool(value), key


def test_dropout_takes_the_same_number_everywhere_and_different_ones(ranks):
    for name in ("residual-ema", "residual-gradient", "grouped"):
        numbers = [[codes.shape[1] for codes in rank[name]["codes"]] for rank in ranks]
        assert numbers[0] == numbers[1]
        assert len(set(numbers[0])) > 1
