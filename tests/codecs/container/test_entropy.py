"""Entropy coding: the bytes are fixed, whatever computes them."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from syllabary.codecs.container import bits, entropy, entropy_kernels

from . import range_coder
from .test_bits import codes_and_widths

#: Widths of codebooks, positions, and the digests of three kinds of codes: even, walks, constant.
GOLDEN = {
    "dmel": ([4] * 80, 60, ("6ad04ffff80dd92d", "0fce02a5bcb0e454", "d164bb9540ff6734")),
    "rvq": ([10] * 8, 200, ("bb881e3514a4fef8", "f8938b8dcffbe61d", "37e87e0468d80258")),
    "ts3": ([16], 2000, ("d18c59b4a013e9f5", "c284fcb72700961a", "98d346815ca2f643")),
    "units": ([9], 3000, ("979513573ce0d2d7", "14d47c24a02cb89e", "e6de44edf200adf9")),
    "one bit": ([1], 500, ("989443283583f5ad", "2a1613aaaa7ddce6", "1605625ce1384e35")),
    "wide": ([31, 1, 17], 300, ("d553cee338b390e8", "0bf3af6804283de6", "ea2a84224e57f18b")),
    "mixed": ([3, 8, 5, 12], 400, ("44f371ccb23edefe", "179dcdb10e2129fe", "9f412d4ef1d7348e")),
}


def drawn(count: int) -> np.ndarray:
    """Numbers as good as random, from no library that may change."""
    values, state = np.empty(count, np.int64), 7
    for index in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        values[index] = state >> 33
    return values


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_bytes(name):
    """Digests of what the first version wrote: files of then are read, and are written again."""
    widths, positions, digests = GOLDEN[name]
    sizes = 2 ** np.array(widths)
    even = drawn(positions * len(widths)).reshape(positions, -1)
    kinds = (even % sizes, np.cumsum(even % 3 - 1, 0) % sizes, np.zeros_like(even) + sizes - 1)
    for codes, digest in zip(kinds, digests, strict=True):
        data = entropy.encode(codes, widths)
        assert hashlib.sha256(data).hexdigest()[:16] == digest
        assert np.array_equal(entropy.decode(data, positions, widths), codes)


def test_the_bytes_of_the_format_page():
    golden = entropy.encode(np.array([[5, 2], [1, 3], [5, 2], [5, 2]]), [3, 2])
    assert golden.hex() == "00b0f852c14900"


@settings(deadline=None)  # the first call compiles
@given(codes_and_widths())
@example((np.zeros((0, 2), np.int64), [4, 4]))
def test_there_and_back_as_the_plain_coder(case):
    codes, widths = case
    data = entropy.encode(codes, widths)
    assert data == range_coder.encode(codes.tolist(), widths)
    assert np.array_equal(entropy.decode(data, len(codes), widths), codes)


@settings(max_examples=20, deadline=None)
@given(codes_and_widths(), st.sampled_from([np.int32, np.uint16, np.int64]), st.booleans())
def test_any_layout_and_type_of_codes(case, dtype, transposed):
    codes, widths = case
    codes = codes % np.minimum(2 ** np.array(widths), 2**15)
    given = codes.astype(dtype)
    if transposed:
        given = np.asfortranarray(given)
    assert entropy.encode(given, widths) == entropy.encode(codes, widths)


@settings(max_examples=15, deadline=None)
@given(codes_and_widths(), st.integers(0, 2), st.integers(0, 30))
def test_kernels_stay_inside_their_arrays(case, model, cut):
    """Run as plain Python, where NumPy checks every index; data cut short included."""
    codes, widths = case
    codes, sizes = codes[:5, :6], np.array(widths[:6], np.int64)
    out = np.zeros(codes[:, :6].shape[0] * int(sizes.sum()) + 6, np.uint8)
    written = entropy_kernels.encode.py_func(np.ascontiguousarray(codes), sizes, model, out)
    again = np.empty_like(codes)
    entropy_kernels.decode.py_func(out[1:written], sizes, model, again)
    assert np.array_equal(again, codes)
    entropy_kernels.decode.py_func(out[1:written][:cut], sizes, model, again)
    assert ((again >= 0) & (again < 2**sizes)).all()


@pytest.mark.parametrize(("widths", "model"), [([16], 0), ([31], 1), ([4] * 80, 2), ([10] * 8, 1)])
def test_the_largest_chunk(widths, model):
    """So many contexts that tables and blocks double several times."""
    positions = entropy.MAX_CODED_BITS // sum(widths)
    codes = np.random.default_rng(1).integers(0, 2 ** np.array(widths), (positions, len(widths)))
    data = entropy.encode(codes, widths)
    assert np.array_equal(entropy.decode(data, positions, widths), codes)
    coded = entropy._encode(codes, widths, model)
    assert np.array_equal(entropy.decode(coded, positions, widths), codes)
    assert len(coded) < 1.1 * bits.packed_size(positions, widths)


def test_structure_is_found():
    rng = np.random.default_rng(0)
    steps = rng.integers(-1, 2, (400, 8)).cumsum(0).clip(0, 15)
    packed = len(bits.pack(steps, [4] * 8))
    assert len(entropy.encode(steps, [4] * 8)) < 0.6 * packed
    noise = rng.integers(0, 16, (400, 8))
    assert len(entropy.encode(noise, [4] * 8)) < 1.1 * packed
    silence = np.zeros((4000, 8), int)
    # 44 times smaller and no more: what a forged file can make of itself is bounded.
    assert packed / 400 * 4000 / 45 < len(entropy.encode(silence, [4] * 8)) < 400


@settings(deadline=None)
@given(st.binary(max_size=60), st.integers(0, 200))
def test_whatever_the_data_decoding_ends(data, positions):
    try:
        codes = entropy.decode(data, positions, [5, 9])
    except ValueError:
        return
    assert codes.shape == (positions, 2) and (codes >= 0).all() and (codes < [32, 512]).all()


def test_numba_is_loaded_by_coded_chunks_only():
    code = "import syllabary.codecs.container.reader, sys; assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
