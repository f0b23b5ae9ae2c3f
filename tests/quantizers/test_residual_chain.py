"""The residual chain: greedy, exact, the same whatever the tiles and the threads."""

import pytest
import torch

from syllabary.errors import QuantizerError
from syllabary.quantizers import ResidualChain


def greedy(x, codebooks):
    """Float64 brute force, stage by stage, on a float32 residual."""
    residual, codes = x.clone(), []
    for codebook in codebooks:
        distances = (residual.double()[:, None] - codebook.double()[None]).square().sum(-1)
        codes.append(distances.argmin(1))
        residual = residual - codebook[codes[-1]]
    return torch.stack(codes, 1), residual


@pytest.fixture(params=[(8, (50, 50, 50)), (40, (64, 200, 3, 64))])
def codebooks(request):
    dim, sizes = request.param
    generator = torch.Generator().manual_seed(dim)
    return [torch.randn(size, dim, generator=generator) * 0.7**i for i, size in enumerate(sizes)]


@pytest.mark.parametrize("backend", ["auto", "torch", "products", "panels", "cells"])
def test_codes_and_residuals_are_those_of_the_definition(codebooks, backend):
    x = torch.randn(333, codebooks[0].shape[1])
    chain = ResidualChain(codebooks, backend=backend)
    codes, residual = chain.encode(x)
    expected, left = greedy(x, codebooks)
    assert torch.equal(codes, expected)
    assert torch.equal(residual, left)
    total = sum(codebook[column] for codebook, column in zip(codebooks, codes.T, strict=True))
    assert torch.equal(chain.decode(codes), total)


def test_fewer_codebooks_are_the_first_ones(codebooks):
    x = torch.randn(70, codebooks[0].shape[1])
    chain = ResidualChain(codebooks)
    codes, _ = chain.encode(x)
    for count in range(1, len(codebooks) + 1):
        some, residual = chain.encode(x, count)
        assert torch.equal(some, codes[:, :count])
        torch.testing.assert_close(chain.decode(some) + residual, x)


def test_batch_split_and_threads_change_nothing(codebooks):
    x = torch.randn(20_000, codebooks[0].shape[1])
    chain = ResidualChain(codebooks)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        codes, residual = chain.encode(x)
        torch.set_num_threads(3)
        again, left = chain.encode(x)
        decoded = chain.decode(codes)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(codes, again) and torch.equal(residual, left)
    parts = [chain.encode(part)[0] for part in x.split([1, 7, 4992, 15_000])]
    assert torch.equal(torch.cat(parts), codes)
    assert torch.equal(chain.decode(codes), decoded)


def test_bad_input():
    chain = ResidualChain(torch.randn(3, 10, 4))
    with pytest.raises(QuantizerError, match="at least one codebook"):
        ResidualChain([])
    with pytest.raises(QuantizerError, match="different dimensions"):
        ResidualChain([torch.randn(3, 4), torch.randn(3, 5)])
    with pytest.raises(QuantizerError, match="num_codebooks must be 1 to 3, got 4"):
        chain.encode(torch.randn(2, 4), 4)
    with pytest.raises(QuantizerError, match=r"x must have shape \(N, 4\)"):
        chain.encode(torch.randn(2, 5))
    with pytest.raises(QuantizerError, match="NaN or infinite"):
        chain.encode(torch.full((2, 4), torch.nan))
    with pytest.raises(QuantizerError, match="codes must be integers"):
        chain.decode(torch.zeros(2, 3))
    with pytest.raises(QuantizerError, match=r"code 10 of stage 1 is not in 0\.\.9"):
        chain.decode(torch.tensor([[0, 10, 0]]))
    with pytest.raises(QuantizerError, match="code -1 of stage 2"):
        chain.decode(torch.tensor([[0, 0, -1]]))
    with pytest.raises(QuantizerError, match="1 to 3"):
        chain.decode(torch.zeros(2, 4, dtype=torch.long))
