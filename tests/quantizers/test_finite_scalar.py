"""FSQ: the paper's rounding, counted instead of computed, and packed."""

import math

import numpy as np
import pytest
import torch

from syllabary.errors import QuantizerError
from syllabary.quantizers import fsq_decode, fsq_encode
from syllabary.quantizers.finite_scalar import fsq_bound
from syllabary.quantizers.finite_scalar_levels import fsq_thresholds

LEVELS = [(8, 8, 8, 5, 5, 5), (4,) * 8, (2,), (3, 2), (8, 6, 5), (7, 5, 5, 5, 5), (32, 16)]


def by_definition(z, levels):
    """Round the paper's bound in float64 and number the result."""
    rounded = fsq_bound(z.double(), levels).round().long()
    codes, basis = torch.zeros(z.shape[:-1], dtype=torch.int64), 1
    for channel, size in enumerate(levels):
        codes += (rounded[..., channel] + size // 2) * basis
        basis *= size
    return codes


@pytest.mark.parametrize("levels", LEVELS)
def test_codes_are_those_of_the_definition(levels):
    z = torch.randn(5, 1001, len(levels)) * 2
    codes = fsq_encode(z, levels)
    assert codes.shape == (5, 1001) and codes.dtype == torch.int64
    assert torch.equal(codes, by_definition(z, levels))
    assert int(codes.min()) >= 0 and int(codes.max()) < math.prod(levels)


@pytest.mark.parametrize("size", [2, 3, 4, 5, 8, 17, 64])
def test_thresholds_are_the_float32_next_to_each_step(size):
    steps = fsq_thresholds((size,))[0]
    below = torch.nextafter(steps, torch.tensor(-torch.inf))
    levels = torch.arange(size - 1)
    assert torch.equal(fsq_encode(steps[:, None], (size,)), levels + 1)
    assert torch.equal(fsq_encode(below[:, None], (size,)), levels)
    exact = fsq_bound(steps.double()[:, None], (size,))[:, 0] + size // 2
    torch.testing.assert_close(exact, levels + 0.5, rtol=0, atol=2e-5, check_dtype=False)


@pytest.mark.parametrize("levels", LEVELS)
def test_every_code_is_reached_and_comes_back(levels):
    codes = torch.arange(min(math.prod(levels), 70_000))
    values = fsq_decode(codes, levels)
    assert values.dtype == torch.float32 and values.abs().max() <= 1
    half = torch.tensor([size // 2 for size in levels])
    middle = torch.tensor([0.0 if size % 2 else 0.5 for size in levels])
    width = torch.tensor([(size - 1) * 1.001 / 2 for size in levels])
    shift = torch.atanh(middle / width)
    z = torch.atanh((values * half + middle) / width) - shift
    assert torch.equal(fsq_encode(z, levels), codes)


def test_vector_quantize_pytorch_agrees():
    module = pytest.importorskip("vector_quantize_pytorch")
    levels = (8, 8, 8, 5, 5, 5)
    theirs = module.FSQ(list(levels))
    z = torch.randn(1, 4000, 6)
    codes = fsq_encode(z, levels)
    with torch.no_grad():
        values, indices = theirs(z)
    # Its tanh is float32's: a value at a step may fall on the other side.
    same = indices[0] == codes[0]
    assert same.float().mean() > 0.999
    torch.testing.assert_close(fsq_decode(codes, levels)[0][same], values[0][same])


def test_threads_dtypes_and_strides_change_nothing():
    levels = (8, 5, 5, 5)
    z = torch.randn(100_000, 4)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        codes, values = fsq_encode(z, levels), fsq_decode(fsq_encode(z, levels), levels)
        torch.set_num_threads(3)
        assert torch.equal(fsq_encode(z, levels), codes)
        assert torch.equal(fsq_decode(codes, levels), values)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(fsq_encode(z.T.contiguous().T, levels), codes)
    assert torch.equal(fsq_encode(z.double(), levels), codes)
    assert torch.equal(fsq_decode(codes.int(), levels), values)
    extremes = torch.tensor([[torch.inf] * 4, [-torch.inf] * 4])
    assert fsq_encode(extremes, levels).tolist() == [999, 0]


def test_large_products_of_levels():
    levels = (64,) * 10
    codes = torch.tensor([0, 64**10 - 1, 123456789012345678])
    values = fsq_decode(codes, levels)
    digits = np.array([[int(c) // 64**d % 64 for d in range(10)] for c in codes])
    np.testing.assert_array_equal(values.numpy(), ((digits - 32) / 32).astype(np.float32))


def test_bad_input():
    with pytest.raises(QuantizerError, match="2 or more"):
        fsq_encode(torch.zeros(3, 2), (8, 1))
    with pytest.raises(QuantizerError, match="63 bits"):
        fsq_encode(torch.zeros(3, 16), (16,) * 16)
    with pytest.raises(QuantizerError, match=r"shape \(…, 3\)"):
        fsq_encode(torch.zeros(3, 2), (8, 8, 8))
    with pytest.raises(QuantizerError, match="NaN"):
        fsq_encode(torch.tensor([[0.0, torch.nan]]), (8, 8))
    with pytest.raises(QuantizerError, match=r"code 64 is not in 0\.\.63"):
        fsq_decode(torch.tensor([64]), (8, 8))
    with pytest.raises(QuantizerError, match="integers"):
        fsq_decode(torch.tensor([1.0]), (8, 8))
