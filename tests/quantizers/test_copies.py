"""What was used is copied and sent to other processes, and neither it nor the copy is harmed."""

import copy
import pickle
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch
import torch.multiprocessing
from torch import nn

from syllabary.quantizers import NearestCode, ResidualChain
from syllabary.quantizers.kmeans.config import KMeansConfig
from syllabary.quantizers.kmeans.estimator import KMeans
from syllabary.quantizers.modules import (
    FiniteScalarQuantizer,
    FiniteScalarQuantizerConfig,
    MaskedChannelResidualVectorQuantizer,
    MaskedChannelResidualVectorQuantizerConfig,
    RandomProjectionQuantizer,
    RandomProjectionQuantizerConfig,
    ResidualVectorQuantizer,
    ResidualVectorQuantizerConfig,
    VectorQuantizer,
    VectorQuantizerConfig,
)

COPIES = {
    "pickle": lambda given: pickle.loads(pickle.dumps(given)),
    "worker": lambda given: pickle.loads(ForkingPickler.dumps(given)),
    "deepcopy": copy.deepcopy,
}
STAGE = VectorQuantizerConfig(8, 50)
STACK = ResidualVectorQuantizerConfig(STAGE, 3)
MODULES = {
    "vector": lambda: VectorQuantizer(STAGE),
    "factorised": lambda: VectorQuantizer(VectorQuantizerConfig(8, 50, codebook_dim=4)),
    "residual": lambda: ResidualVectorQuantizer(STACK),
    "masked": lambda: MaskedChannelResidualVectorQuantizer(
        MaskedChannelResidualVectorQuantizerConfig(STACK, 2)
    ),
    "random": lambda: RandomProjectionQuantizer(RandomProjectionQuantizerConfig(8, 50, 4)),
    "finite": lambda: FiniteScalarQuantizer(FiniteScalarQuantizerConfig((5, 4, 3), dim=8)),
}


def rubbish():
    """Memory that was freed is given out again, and overwritten."""
    return [np.full(size, np.nan, np.float32) for size in (64, 512, 4096, 16384, 65536) * 20]


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("backend", ["auto", "torch", "products", "panels", "cells"])
@pytest.mark.parametrize("size, dim", [(1024, 8), (5000, 4), (300, 64)])
def test_searches(how, backend, size, dim):
    search, rows = NearestCode(torch.randn(size, dim), backend=backend), torch.randn(900, dim)
    few = search(rows[:3])  # with another engine
    codes = search(rows)
    for _ in range(2):
        copied = COPIES[how](search)
        held = rubbish()
        for each in (search, copied):
            assert torch.equal(each(rows), codes) and torch.equal(each(rows[:3]), few)
            assert each.backend == search.backend and each.metric == search.metric
        del held


def test_a_codebook_that_was_shared_with_another_process():
    search, rows = NearestCode(torch.randn(1024, 8)), torch.randn(900, 8)
    codes = search(rows)
    search.codebook.share_memory_()
    held = rubbish()
    assert torch.equal(search(rows), codes) and held


@pytest.mark.parametrize("how", COPIES)
def test_chains(how):
    chain, rows = ResidualChain(torch.randn(4, 300, 8)), torch.randn(500, 8)
    codes, left = chain.encode(rows)
    decoded = chain.decode(codes)
    copied = COPIES[how](chain)
    held = rubbish()
    for each in (chain, copied):
        again, rest = each.encode(rows)
        assert torch.equal(again, codes) and torch.equal(rest, left) and held
        assert torch.equal(each.decode(codes), decoded)


@pytest.mark.parametrize("how", COPIES)
def test_kmeans(how):
    kmeans = KMeans(KMeansConfig(num_clusters=40), torch.randn(40, 6))
    rows = torch.randn(500, 6)
    codes = kmeans(rows)
    copied = COPIES[how](kmeans)
    held = rubbish()
    assert torch.equal(copied(rows), codes) and torch.equal(kmeans(rows), codes) and held
    kmeans.centroids.copy_(kmeans.centroids.flip(0).clone())
    assert torch.equal(kmeans(rows), 39 - codes)


@pytest.mark.parametrize("name", MODULES)
def test_modules(name):
    quantizer, x = MODULES[name]().eval(), torch.randn(2, 30, 8)
    codes = quantizer.encode(x)
    copies = [make(quantizer) for make in COPIES.values()]
    held = rubbish()
    for each in (quantizer, *copies):
        assert torch.equal(each.encode(x), codes) and held


@pytest.mark.parametrize("name", MODULES)
def test_modules_made_under_other_defaults_or_cast(name):
    torch.manual_seed(0)
    expected = MODULES[name]().eval()
    x = torch.randn(2, 30, 8)
    codes = expected.encode(x)
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("meta"):
            made = MODULES[name]().eval()
    finally:
        torch.set_default_dtype(torch.float32)
    for cast in (nn.Module.half, nn.Module.double, lambda module: module.type(torch.bfloat16)):
        cast(nn.Sequential(made))
        assert torch.equal(made.encode(x), codes)
