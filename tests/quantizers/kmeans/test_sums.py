from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from syllabary.quantizers.kmeans.sums import (
    ClusterSums,
    column_squares,
    exact_grid,
    on_grid,
    square_grids,
)


def sums_of(rows, codes, grid, order):
    totals = ClusterSums.zeros(5, rows.shape[1], rows.device)
    for part in order:
        totals.move(rows[part], torch.full((len(part),), -1), codes[part], grid)
    return totals


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 900))
def test_sums_are_exact_in_any_order(seed, num_rows):
    generator = torch.Generator().manual_seed(seed)
    # Magnitudes that float64 itself could not add without rounding.
    scales = 10.0 ** torch.randint(-30, 30, (3,), generator=generator)
    rows = torch.randn(num_rows, 3, generator=generator) * scales.float()
    rows *= 10.0 ** torch.randint(-6, 1, (num_rows, 1), generator=generator)
    codes = torch.randint(5, (num_rows,), generator=generator)
    grid = exact_grid(rows.abs().amax(0), num_rows)
    whole = sums_of(rows, codes, grid, [torch.arange(num_rows)])
    parts = torch.randperm(num_rows, generator=generator).split(17)
    shuffled = sums_of(rows, codes, grid, parts)
    assert torch.equal(whole.sums, shuffled.sums) and torch.equal(whole.counts, shuffled.counts)
    values = on_grid(rows.double(), grid)
    for code in range(5):
        exact = sum((Fraction(v) for v in values[codes == code, 0].tolist()), Fraction())
        assert exact == Fraction(whole.sums[code, 0].item())
    elsewhere = torch.randint(5, (num_rows,), generator=generator)
    whole.move(rows, codes, elsewhere, grid)
    assert torch.equal(whole.sums, sums_of(rows, elsewhere, grid, parts).sums)


@pytest.mark.parametrize("num_rows", [1, 1000, 2**27])
def test_the_grid_is_fine(num_rows):
    largest = torch.tensor([1.0, 1e-3, 1000.0, 0.0, 3e38])
    values = (torch.rand(1000, 5) * 2 - 1) * largest
    step = largest.double() * 2.0 ** -(50 - np.ceil(np.log2(num_rows + 1)))
    error = (on_grid(values.double(), exact_grid(largest, num_rows)) - values.double()).abs()
    assert (error <= step).all()
    # No coarser than float32 is at the largest value.
    assert (step <= largest * 2.0**-22).all()


def test_moving_counts_rows_that_move():
    rows, codes = torch.randn(10, 2), torch.arange(10) % 5
    grid = exact_grid(rows.abs().amax(0), 10)
    totals = sums_of(rows, codes, grid, [torch.arange(10)])
    before = totals.sums.clone()
    assert totals.move(rows, codes, codes, grid) == 0
    other = codes.clone()
    other[3] = 0
    assert totals.move(rows, codes, other, grid) == 1
    assert totals.counts.tolist() == [3, 2, 2, 1, 2]
    totals.move(rows, other, codes, grid)
    assert torch.equal(totals.sums, before)


def test_means_and_explained():
    rows, codes = torch.randn(300, 4), torch.arange(300) % 4
    grid = exact_grid(rows.abs().amax(0), 300)
    totals = sums_of(rows, codes, grid, [torch.arange(300)])
    fallback = torch.full((5, 4), 7.0)
    means = totals.means(fallback)
    assert means[4].tolist() == [7] * 4
    expected = torch.stack([rows[codes == code].double().mean(0) for code in range(4)])
    torch.testing.assert_close(means[:4], expected.float(), rtol=0, atol=1e-7)
    squares = column_squares(rows, square_grids(rows.abs().amax(0), 300))
    inertia = (rows.double() - expected[codes]).square().sum()
    assert float(squares.sum()) - totals.explained() == pytest.approx(float(inertia), rel=1e-9)


def test_squares_of_small_values_beside_a_large_one():
    rows = torch.randn(5000, 3, generator=torch.Generator().manual_seed(0))
    rows[7, 0] = 0
    small = rows.double().square().sum(0)
    rows[7, 0] = 1e7
    coarse, fine = column_squares(rows, square_grids(rows.abs().amax(0), 5000))
    assert float(coarse[0]) - 1e14 != pytest.approx(float(small[0]), rel=1e-3)
    large = torch.tensor([1e14, 0, 0], dtype=torch.float64)
    torch.testing.assert_close(coarse - large + fine, small, rtol=1e-9, atol=0)
