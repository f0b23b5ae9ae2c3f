"""Whole-number layers: the same to the bit as plain arithmetic, on any processor."""

import hashlib
import os
import platform
import subprocess
import sys

import numpy as np
import pytest
import torch

from syllabary.codecs.neural.compiled import int8 as int8_kernel
from syllabary.codecs.neural.layers.transformer import Int8Linear
from syllabary.kernels import linear as kernels

SHAPES = [(1, 1), (3, 5), (64, 16), (65, 17), (33, 8), (200, 130), (48, 256)]
# What a processor of 2013 has; 8-bit products are not among it.
PLAIN = "+sse2,+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt,+avx,+avx2,+fma,+f16c,+bmi,+bmi2"


def layer(outputs: int, inputs: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    weight = generator.standard_normal((outputs, inputs)) * generator.lognormal(size=(outputs, 1))
    return weight.astype(np.float32), generator.standard_normal(outputs).astype(np.float32)


def frames_like(inputs: int, dtype: type, frames: int = 11) -> np.ndarray:
    """Frames of all sizes, one of zeros, and one with a single large number."""
    x = np.random.default_rng(1).standard_normal((frames, inputs)).astype(dtype)
    x[3] = 0
    x[4] *= dtype(1e30)
    x[5] *= dtype(1e-30)
    x[6, inputs // 2] = 1e6
    return x


def plain(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """The layer in int64, without tricks."""
    dtype = x.dtype.type
    exact = weight.astype(np.float64)
    scales = (np.abs(exact).max(1) / 127).astype(np.float32)
    scales[scales == 0] = 1
    whole = np.rint(exact / scales.astype(np.float64)[:, None]).astype(np.int64)
    assert np.abs(whole).max() <= 127
    most = np.abs(x).max(1, keepdims=True)
    inverse = dtype(127) / np.where(most > 0, most, dtype(1))
    inputs = np.rint(x * inverse).astype(np.int64)
    assert np.abs(inputs).max() <= 127
    sums = (inputs @ whole.T).astype(dtype)
    return sums * ((most / dtype(127)) * scales.astype(dtype)) + bias.astype(dtype)


def compiled(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, activated=False):
    panels, scales, offsets = int8_kernel.pack_int8(weight, bias)
    out = np.full((len(x), len(offsets)), np.nan, x.dtype)
    int8_kernel.linear_int8(x, panels, scales, offsets, activated, out)
    assert np.isfinite(out).all()
    return out[:, : len(weight)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("outputs, inputs", SHAPES)
def test_equals_plain_arithmetic(outputs, inputs, dtype):
    weight, bias = layer(outputs, inputs)
    x = frames_like(inputs, dtype)
    expected = plain(x, weight, bias)
    assert np.array_equal(compiled(x, weight, bias), expected)
    assert np.array_equal(compiled(x, weight, None), plain(x, weight, np.zeros_like(bias)))
    for t in range(len(x)):
        assert np.array_equal(compiled(x[t : t + 1], weight, bias)[0], expected[t])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_the_module(dtype):
    module = Int8Linear(130, 70).eval()
    x = frames_like(130, dtype)
    weight, bias = (part.detach().numpy() for part in (module.weight, module.bias))
    with torch.no_grad():
        expected = module.to(torch.from_numpy(x).dtype)(torch.from_numpy(x)).numpy()
    assert np.array_equal(compiled(x, weight, bias), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activation_is_that_of_float_layers(dtype):
    weight, bias = layer(33, 20)
    x = frames_like(20, dtype)[:4]
    before = compiled(x, weight, bias)
    panels, offsets = _identity(33, dtype)
    out = np.empty((len(x), len(offsets)), dtype)
    kernels.linear(before.copy(), panels, offsets, True, out)
    assert np.array_equal(compiled(x, weight, bias, activated=True), out[:, :33])


def _identity(size: int, dtype: type) -> tuple[np.ndarray, np.ndarray]:
    from syllabary.codecs.neural.compiled.packing import pack

    return pack(np.eye(size), None, dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extremes(dtype):
    """Sums as large as they become, halves to even, and frames too small to have a scale."""
    weight = np.full((2, 4096), -3.0, np.float32)
    weight[1] = 0
    x = np.full((1, 4096), 2.0, dtype)
    assert compiled(x, weight, None)[0, 0] == -127 * 127 * 4096 * (
        dtype(2) / dtype(127) * dtype(np.float32(3 / 127))
    )
    assert compiled(x, weight, None)[0, 1] == 0
    halves = np.array([[127, 0.5, 1.5, 2.5, -0.5, -1.5]], dtype)
    assert compiled(halves, np.eye(6, dtype=np.float32), None).round(3).tolist() == [
        [127, 0, 2, 2, 0, -2]
    ]
    smallest = np.full((1, 20), np.finfo(dtype).smallest_subnormal, dtype)
    assert not compiled(smallest, layer(5, 20)[0], None).any()


def test_no_pair_of_products_is_clipped():
    """AVX2 adds two products in 16 bits: of any signs, in any number of frames, they fit."""
    signs = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]], np.float32)
    weight, x = np.tile(signs * 3, (17, 20)), np.tile(signs[[0, 1, 2, 3, 0]], (1, 20))
    bias = np.zeros(len(weight), np.float32)
    for frames in range(1, len(x) + 1):
        found = compiled(x[:frames], weight, bias)
        assert np.array_equal(found, plain(x[:frames], weight, bias))
        assert np.array_equal(np.rint(found).astype(int), (x[:frames] @ weight.T).astype(int))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_layer_takes_what_another_gave(dtype):
    """With the places that its panels have and its outputs don't."""
    weight, bias = layer(10, 20)
    x, wide = frames_like(10, dtype), np.empty((11, int8_kernel.PANEL), dtype)
    int8_kernel.linear_int8(x, *int8_kernel.pack_int8(weight.T, None), True, wide)
    assert not wide[:, 20:].any()
    assert np.array_equal(compiled(wide, weight, bias), plain(wide[:, :20], weight, bias))


def digest() -> str:
    """Of what all shapes give."""
    found = hashlib.sha256()
    for dtype in (np.float32, np.float64):
        for outputs, inputs in SHAPES:
            weight, bias = layer(outputs, inputs)
            for activated in (False, True):
                found.update(
                    compiled(frames_like(inputs, dtype), weight, bias, activated).tobytes()
                )
    return found.hexdigest()


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="has other instructions")
def test_processors_without_8_bit_products(tmp_path):
    """Compiled for another processor, in another process: the choice is made at import."""
    env = os.environ | {
        "NUMBA_CPU_NAME": "haswell",
        "NUMBA_CPU_FEATURES": PLAIN,
        "NUMBA_CACHE_DIR": str(tmp_path),
    }
    command = [sys.executable, __file__]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", digest()]


if __name__ == "__main__":
    print(int8_kernel._FAST, digest())
