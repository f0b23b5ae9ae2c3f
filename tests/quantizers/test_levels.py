import numpy as np
import pytest

from syllabary.quantizers.levels import fit_levels, uniform_edges


def test_uniform_edges():
    assert uniform_edges(0, 4, 4).tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match="at least 2"):
        uniform_edges(0, 1, 1)
    with pytest.raises(ValueError, match="minimum < maximum"):
        uniform_edges(1, 1, 4)


def test_fitted_levels_of_a_gaussian_are_those_of_max():
    # J. Max, "Quantizing for minimum distortion", 1960, table I: 4 levels of a unit Gaussian.
    values = np.random.default_rng(0).standard_normal(400_000)
    assert fit_levels(values, 4) == pytest.approx([-1.510, -0.4528, 0.4528, 1.510], abs=0.02)


def test_fitted_levels_beat_uniform_ones():
    values = np.random.default_rng(0).exponential(size=20_000)
    fitted = fit_levels(values, 16)
    error = np.abs(values[:, None] - fitted).min(1)
    edges = uniform_edges(0, values.max(), 16)
    uniform = np.concatenate([[edges[0] / 2], edges]) + edges[0] / 2 * (np.arange(16) > 0)
    assert (error**2).mean() < 0.5 * (np.abs(values[:, None] - uniform).min(1) ** 2).mean()


def test_few_values():
    assert fit_levels(np.array([1.0, 5.0, 5.0]), 2).tolist() == [1, 5]
    with pytest.raises(ValueError, match="2 distinct values can't fill 3"):
        fit_levels(np.array([1.0, 5.0, 5.0]), 3)
