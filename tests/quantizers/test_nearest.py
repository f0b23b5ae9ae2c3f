"""Nearest codes: float64's answer from every backend, batch, thread count and dtype."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from syllabary.errors import QuantizerError
from syllabary.quantizers import NearestCode, ResidualChain, fsq_decode, fsq_encode, nearest
from syllabary.quantizers.search.products import ProductSearch
from syllabary.quantizers.search.scores import METRICS, folded_sum

BACKENDS = ("torch", "products", "panels", "cells")


def brute_force(x, codebook, metric):
    """Float64 scores (N, K), straight from the definitions, in numpy."""
    x, codebook = x.double().numpy(), codebook.double().numpy()
    if metric == "l2":
        return np.square(x[:, None] - codebook[None]).sum(-1)
    products = -(x[:, None] * codebook[None]).sum(-1)
    if metric == "ip":
        return products
    lengths = np.linalg.norm(codebook, axis=1)
    return products / np.where(lengths == 0, 1, lengths)


def check(x, codebook, metric, codes, rounding=1e-13):
    """The codes are the lowest of the best, where float64 itself can tell."""
    scores = brute_force(x, codebook, metric)
    chosen = scores[np.arange(len(x)), codes]
    scale = np.abs(scores).max(1) + 1e-300
    assert ((chosen - scores.min(1)) <= rounding * scale).all()
    lowest = (scores <= scores.min(1, keepdims=True) + rounding * scale[:, None]).argmax(1)
    exact = (scores == scores.min(1, keepdims=True)).sum(1) > 1
    same = (codebook[codes] == codebook[lowest]).all(1).numpy()
    # Among codes that are equal in every bit, always the first.
    first = np.array([int((codebook == codebook[code]).all(1).nonzero()[0]) for code in codes])
    assert (codes.numpy() == first).all()
    # Cosines of codes of other lengths tie up to rounding: those of (5, -5) and (2, -2) may round
    # apart as one writes them, and not as another does.
    squares = codebook.double().square().sum(1).numpy()
    untold = squares[codes] != squares[lowest] if metric == "cosine" else np.zeros(len(x), bool)
    assert (same | ~exact | untold | (codes.numpy() == lowest)).all()


def usable(backend, metric):
    return not (backend == "cells" and metric == "ip")


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("rows", "size", "dim"),
    [(1, 1, 1), (7, 5, 3), (300, 1000, 8), (130, 257, 16), (65, 129, 33), (40, 300, 200)],
)
def test_the_codes_are_those_of_float64(rows, size, dim, backend, metric):
    if not usable(backend, metric):
        pytest.skip("boxes bound distances, not inner products")
    generator = torch.Generator().manual_seed(rows * dim)
    x = torch.randn(rows, dim, generator=generator)
    codebook = torch.randn(size, dim, generator=generator) + 0.3
    codes = nearest(x, codebook, metric, backend=backend)
    assert codes.dtype == torch.int64
    check(x, codebook, metric, codes)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("backend", BACKENDS)
@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_ties_of_a_coarse_grid_go_to_the_lowest_code(backend, metric, data):
    """Integers make ties everywhere, and float64 sums of them are exact."""
    if not usable(backend, metric):
        return
    seed = data.draw(st.integers(0, 2**31))
    dim = data.draw(st.integers(1, 40))
    size = data.draw(st.integers(1, 300))
    span = data.draw(st.sampled_from([1, 2, 7]))
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(-span, span + 1, (37, dim), generator=generator).float()
    codebook = torch.randint(-span, span + 1, (size, dim), generator=generator).float()
    codes = nearest(x, codebook, metric, backend=backend)
    assert (codes == nearest(x, codebook, metric, backend="torch")).all()
    if metric == "cosine":
        check(x, codebook, metric, codes)
    else:
        scores = brute_force(x, codebook, metric)
        assert (codes.numpy() == scores.argmin(1)).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_products_that_a_screen_rounds_apart(backend):
    """A tie of codes 10 and 12; bfloat16 rounds their products by 2/3 and 3/4 of what it may."""
    generator = torch.Generator().manual_seed(965)
    x = torch.randint(-1, 2, (37, 22), generator=generator).float()
    codebook = torch.randint(-1, 2, (16, 22), generator=generator).float()
    scores = brute_force(x, codebook, "l2")
    assert scores[23, 10] == scores[23, 12] == scores[23].min()
    codes = nearest(x, codebook, backend=backend)
    assert (codes.numpy() == scores.argmin(1)).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_near_ties_are_told_apart(backend):
    """Codes on both sides of a query, one of them nearer by the last bit of a float32."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 8, generator=generator)
    step = torch.randn(200, 8, generator=generator)
    far = x + step
    near = x - torch.nextafter(step, torch.zeros(8))
    codebook = torch.stack([far, near], 1).reshape(400, 8)
    codes = nearest(x, codebook, backend=backend)
    assert (codes.numpy() == brute_force(x, codebook, "l2").argmin(1)).all()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("scale", [1e-44, 1e-30, 1e-18, 1e14, 1e15, 1e16, 1e17, 1e18, 1e30])
def test_extreme_magnitudes(backend, metric, scale):
    if not usable(backend, metric):
        pytest.skip("boxes bound distances, not inner products")
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(30, 9, generator=generator) * scale
    codebook = torch.randn(70, 9, generator=generator) * scale
    check(x, codebook, metric, nearest(x, codebook, metric, backend=backend))
    # One code, or one row, unlike all others.
    codebook[3] *= 1e6
    x[4] *= 1e6
    check(x, codebook, metric, nearest(x, codebook, metric, backend=backend))


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_offset_far_from_zero_costs_no_exactness(backend):
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(100, 12, generator=generator) + 1000
    codebook = torch.randn(500, 12, generator=generator) + 1000
    check(x, codebook, "l2", nearest(x, codebook, backend=backend))


@pytest.mark.parametrize("dim", [8, 64])
@pytest.mark.parametrize("backend", BACKENDS)
def test_batch_split_and_threads_change_nothing(backend, dim):
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(9000, dim, generator=generator)
    codebook = torch.randn(700, dim, generator=generator)
    search = NearestCode(codebook, backend=backend)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        codes, distances = search(x, return_distances=True)
        torch.set_num_threads(4)
        again, threaded = search(x, return_distances=True)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(codes, again) and torch.equal(distances, threaded)
    parts = [search(part) for part in x.split([1, 2, 5, 992, 3000, 5000])]
    assert torch.equal(torch.cat(parts), codes)
    assert torch.equal(search(x.flip(0)).flip(0), codes)


def test_all_backends_agree_on_many_codes():
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(700, 8, generator=generator)
    codebook = torch.randn(9000, 8, generator=generator)
    codebook[8000:] = codebook[:1000]
    for metric in ("l2", "cosine"):
        answers = [nearest(x, codebook, metric, backend=backend) for backend in BACKENDS]
        assert all(torch.equal(answers[0], answer) for answer in answers)


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_a_tree_of_several_blocks_of_groups(metric):
    generator = torch.Generator().manual_seed(8)
    x = torch.randn(3000, 8, generator=generator)
    codebook = torch.randn(40_000, 8, generator=generator)
    cells = NearestCode(codebook, metric, backend="cells")
    assert torch.equal(cells(x), nearest(x, codebook, metric, backend="torch"))


@pytest.mark.parametrize("scale", [1e15, 1e16, 1e17])
def test_many_large_codes(scale):
    generator = torch.Generator().manual_seed(0)
    codebook = torch.randn(5000, 8, generator=generator) * scale
    x = torch.randn(500, 8, generator=generator) * scale * 0.3
    answers = [nearest(x, codebook, backend=backend) for backend in BACKENDS]
    assert all(torch.equal(answers[0], answer) for answer in answers)


@pytest.mark.parametrize("dim", [8, 40])
def test_what_a_screen_can_not_tell(dim):
    """Rows far longer than the codes, an outlier among the codes, more rivals than are listed."""
    generator = torch.Generator().manual_seed(9)
    x = torch.randn(300, dim, generator=generator)
    codebook = torch.randn(4500, dim, generator=generator)
    crowded = codebook.clone()
    crowded[1000:1400] = x[0]
    outlier = codebook.clone()
    outlier[7] = 1000
    for rows, codes in ((x * 3, codebook), (x * 30, codebook), (x, crowded), (x, outlier)):
        expected = nearest(rows, codes, backend="torch")
        for backend in BACKENDS:
            search = NearestCode(codes, backend=backend)
            assert torch.equal(search(rows), expected)
            assert torch.equal(search(rows, True)[0], expected)


@pytest.mark.parametrize("backend", ["products", "panels"])
def test_codebooks_of_equal_codes(backend):
    assert nearest(torch.randn(20, 30), torch.ones(600, 30), backend=backend).eq(0).all()


def test_boxes_that_do_not_help_fall_back_to_all_codes():
    """In 20 dimensions no box is far; the answer is the same."""
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(400, 20, generator=generator)
    codebook = torch.randn(5000, 20, generator=generator)
    assert torch.equal(nearest(x, codebook, backend="cells"), nearest(x, codebook, backend="torch"))


def test_float32_products_where_there_are_no_bfloat16_ones():
    generator = torch.Generator().manual_seed(6)
    x = torch.randn(600, 48, generator=generator)
    codebook = torch.randn(300, 48, generator=generator)
    codes = np.empty(600, np.int64)
    search = ProductSearch(codebook, "l2", bfloat16=False)
    search.search(x.numpy(), codes, np.empty(0))
    assert torch.equal(torch.from_numpy(codes), nearest(x, codebook, backend="torch"))


def test_float32_panels_where_there_are_no_pair_products():
    """The same search where numba is told of no VNNI, in another process."""
    script = """
import torch
from syllabary.quantizers import NearestCode, nearest
g = torch.Generator().manual_seed(0)
x, c = torch.randn(500, 8, generator=g), torch.randn(5000, 8, generator=g)
answers = [nearest(x, c, backend=backend) for backend in ("torch", "panels", "cells")]
assert not NearestCode(c, backend="panels")._engine("panels")._on_grid
assert torch.equal(answers[0], answers[1]) and torch.equal(answers[0], answers[2])
"""
    told = os.environ | {"NUMBA_CPU_NAME": "generic"}
    subprocess.run([sys.executable, "-c", script], env=told, check=True)


@pytest.mark.parametrize("metric", METRICS)
def test_distances(metric):
    x, codebook = torch.randn(50, 10), torch.randn(60, 10)
    codes, distances = nearest(x, codebook, metric, return_distances=True)
    expected = brute_force(x, codebook, metric)[np.arange(50), codes]
    if metric == "cosine":
        expected = 1 + expected / x.double().norm(dim=1).numpy()
    assert distances.dtype == torch.float32
    np.testing.assert_allclose(distances, expected, rtol=1e-6, atol=1e-7)


def test_autocast_other_dtypes_and_strides():
    x, codebook = torch.randn(80, 32), torch.randn(90, 32)
    codes = nearest(x, codebook)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(nearest(x, codebook), codes)
    assert torch.equal(nearest(x.double(), codebook.double()), codes)
    assert torch.equal(nearest(x.T.contiguous().T, codebook), codes)
    half = x.bfloat16()
    assert torch.equal(nearest(half, codebook), nearest(half.float(), codebook))
    assert nearest(x[:0], codebook).shape == (0,)
    torch.set_default_dtype(torch.float64)
    try:
        answers = [nearest(x, codebook, backend=backend) for backend in BACKENDS]
        residual = ResidualChain(codebook[None]).encode(x)[1]
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(answer, codes) for answer in answers)
    assert residual.dtype == torch.float32
    with torch.inference_mode():
        search = NearestCode(codebook)
    assert torch.equal(search(x.requires_grad_()), codes)


def test_the_codebook_is_a_copy():
    codebook = torch.randn(20, 4)
    search = NearestCode(codebook)
    x = torch.randn(30, 4)
    before = search(x)
    codebook.zero_()
    assert torch.equal(search(x), before)


@pytest.mark.parametrize("backend", ["auto", *BACKENDS])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dim", [3, 50])
def test_what_is_not_finite_is_refused(backend, value, dim):
    x = torch.randn(300, dim)
    x[217, 1] = value
    with pytest.raises(QuantizerError, match="NaN or infinite values in row 217"):
        nearest(x, torch.randn(100, dim), backend=backend)
    with pytest.raises(QuantizerError, match="codebook has NaN"):
        nearest(torch.randn(100, dim), x)


def test_the_row_is_that_of_the_whole_batch():
    x = torch.randn(50_000, 8)
    x[49_999, 3] = torch.nan
    codebook = torch.randn(100, 8)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with pytest.raises(QuantizerError, match="in row 49999 of"):
            nearest(x, codebook)
        with pytest.raises(QuantizerError, match="in row 49999 of"):
            ResidualChain([codebook, codebook]).encode(x)
    finally:
        torch.set_num_threads(before)


def test_values_beyond_float32_are_refused():
    wide = torch.randn(200, 4).double()
    wide[3] = 1e300
    with pytest.raises(QuantizerError, match="codebook has NaN or infinite"):
        nearest(torch.randn(5, 4), wide)
    with pytest.raises(QuantizerError, match="in row 3 of"):
        nearest(wide, torch.randn(5, 4))


def test_inference_mode_and_a_default_device_with_threads():
    x, codebook = torch.randn(50_000, 8), torch.randn(2, 300, 8)
    codes, residual = ResidualChain(codebook).encode(x)
    first = nearest(x, codebook[0])
    scalar = fsq_encode(x, (4,) * 8)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        for context in (torch.inference_mode(), torch.device("meta")):
            with context:
                chain = ResidualChain(codebook)
                again, left = chain.encode(x)
                assert torch.equal(again, codes) and torch.equal(left, residual)
                assert torch.equal(chain.decode(codes), ResidualChain(codebook).decode(codes))
                assert torch.equal(nearest(x, codebook[0]), first)
                wide = torch.randn(100, 64, device="cpu")
                assert nearest(wide, wide).equal(torch.arange(100, device="cpu"))
                assert torch.equal(fsq_encode(x, (4,) * 8), scalar)
                assert fsq_decode(scalar, (4,) * 8).shape == x.shape
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("x", "codebook", "options", "message"),
    [
        (torch.zeros(3, 2), torch.zeros(0, 2), {}, "codebook is empty"),
        (torch.zeros(3, 4), torch.zeros(5, 2), {}, r"x must have shape \(N, 2\), got \(3, 4\)"),
        (torch.zeros(2), torch.zeros(5, 2), {}, r"x must have shape \(N, 2\)"),
        (torch.zeros(3, 2).long(), torch.zeros(5, 2), {}, "x must be a floating-point tensor"),
        (np.zeros((3, 2)), torch.zeros(5, 2), {}, "got ndarray"),
        (torch.zeros(3, 2), torch.zeros(5), {}, r"codebook must have shape \(K, D\)"),
        (torch.zeros(3, 2), torch.zeros(5, 2), {"metric": "l1"}, "unknown metric 'l1'"),
        (torch.zeros(3, 2), torch.zeros(5, 2), {"backend": "faiss"}, "unknown backend 'faiss'"),
        (
            torch.zeros(3, 2),
            torch.zeros(5, 2),
            {"metric": "ip", "backend": "cells"},
            "'cells' is for l2 and cosine",
        ),
    ],
)
def test_bad_input(x, codebook, options, message):
    with pytest.raises(QuantizerError, match=message):
        nearest(x, codebook, **options)


def test_the_folded_sum_is_a_sum():
    for width in (1, 2, 3, 7, 8, 100):
        terms = torch.randn(4, width, dtype=torch.float64)
        torch.testing.assert_close(folded_sum(terms), terms.sum(-1))


def test_importing_the_package_loads_no_numba():
    script = "import sys, syllabary.quantizers; assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.slow
def test_ten_million_random_queries():
    """Against torch's float64 matrix products, with exact decision where they can't tell."""
    generator = torch.Generator().manual_seed(7)
    codebook = torch.randn(1024, 8, generator=generator)
    reference = NearestCode(codebook, backend="torch")
    searches = [NearestCode(codebook, backend=backend) for backend in ("panels", "cells")]
    searches.append(NearestCode(codebook, backend="products"))
    for _ in range(20):
        x = torch.randn(500_000, 8, generator=generator)
        expected = reference(x)
        for search in searches:
            assert torch.equal(search(x), expected)
