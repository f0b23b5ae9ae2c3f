from itertools import permutations

import numpy as np
import pytest
import torch

from syllabary.errors import QuantizerError
from syllabary.quantizers.kmeans.seeding import plus_plus, random_rows, squared_distances


def sequence_probabilities(rows, count):
    """The probability of each sequence of k-means++ seeds, from its definition."""
    between = ((rows[:, None] - rows) ** 2).sum(2)
    result = {}
    for sequence in permutations(range(len(rows)), count):
        probability = 1 / len(rows)
        for step in range(1, count):
            distances = between[list(sequence[:step])].min(0)
            probability *= distances[sequence[step]] / distances.sum()
        result[sequence] = probability
    return result


def test_plus_plus_draws_from_its_distribution():
    rows = np.array([[0, 0], [1, 0], [0, 2], [5, 5], [6, 5]], np.float32)
    # Four seeds: the last are drawn at once, from distances that lag behind.
    expected = sequence_probabilities(rows, 4)
    places = {tuple(row): index for index, row in enumerate(rows.tolist())}
    draws = 1000
    counts = dict.fromkeys(expected, 0)
    for seed in range(draws):
        seeds = plus_plus(torch.from_numpy(rows), 4, [seed], trials=1)
        counts[tuple(places[tuple(row)] for row in seeds.tolist())] += 1
    likely = [sequence for sequence, p in expected.items() if p * draws >= 5]
    rest = set(expected) - set(likely)
    observed = np.array([counts[s] for s in likely] + [sum(counts[s] for s in rest)])
    wanted = draws * np.array([expected[s] for s in likely] + [sum(expected[s] for s in rest)])
    chi_square = ((observed - wanted) ** 2 / wanted).sum()
    degrees = len(observed) - 1
    assert chi_square < degrees + 5 * np.sqrt(2 * degrees)


@pytest.mark.parametrize("draw", [plus_plus, random_rows])
def test_seeds_are_distinct_rows(draw):
    generator = torch.Generator().manual_seed(0)
    some = torch.randn(300, 8, generator=generator)
    rows = some[torch.randint(300, (3000,), generator=generator)]
    distinct = len(rows.unique(dim=0))
    seeds = draw(rows, distinct, [5])
    assert torch.equal(seeds.unique(dim=0), rows.unique(dim=0))
    assert torch.equal(seeds, draw(rows, distinct, [5]))
    with pytest.raises(QuantizerError, match=f"only {distinct} distinct rows"):
        draw(rows, distinct + 1, [5])


def test_rows_that_differ_by_less_than_products_tell():
    rows = torch.randn(60, 4, generator=torch.Generator().manual_seed(0)).repeat(4, 1)
    rows[::60] = 1e4
    rows[1::2] += 5e3
    distinct = len(rows.unique(dim=0))
    assert len(plus_plus(rows, distinct, [0]).unique(dim=0)) == distinct
    with pytest.raises(QuantizerError, match="distinct"):
        plus_plus(rows, distinct + 1, [0])


def test_plus_plus_beside_centroids_that_are_there():
    groups = torch.arange(4.0)[:, None] * 100
    rows = (groups[:, None] + torch.rand(4, 50, 3)).reshape(200, 3)
    seeds = plus_plus(rows, 2, [1], before=rows[[0, 60]])
    assert sorted((seeds[:, 0] // 100).tolist()) == [2, 3]


def test_plus_plus_starts_better_than_random_rows():
    rng = np.random.default_rng(0)
    # Clusters of very unequal sizes.
    means = 30 * rng.standard_normal((64, 16))
    sizes = rng.geometric(0.05, 64) ** 2
    rows = np.repeat(means, sizes, axis=0) + rng.standard_normal((sizes.sum(), 16))
    rows = torch.from_numpy(rows.astype(np.float32))
    errors = [float(squared_distances(rows, draw(rows, 64, [0])).sum()) for draw in DRAWS]
    assert errors[0] < 0.5 * errors[1]


DRAWS = (plus_plus, random_rows)
