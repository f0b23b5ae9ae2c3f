from itertools import pairwise

import faiss
import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans as SklearnKMeans

from syllabary.errors import QuantizerError
from syllabary.quantizers import NearestCode
from syllabary.quantizers.kmeans import KMeans, KMeansConfig

CLUSTERS = 20


def mixture(num_rows, dim=24, seed=0, true_clusters=50):
    """Rows around many means, with a decaying spectrum and one outlier dimension."""
    rng = np.random.default_rng(seed)
    scale = np.arange(1, dim + 1) ** -0.4
    scale[dim // 2] = 20
    means = 3 * rng.standard_normal((true_clusters, dim))
    noise = rng.standard_normal((num_rows, dim))
    return ((means[rng.integers(true_clusters, size=num_rows)] + noise) * scale).astype(np.float32)


def squared_distances(rows, centroids):
    return ((rows[:, None].astype(np.float64) - centroids) ** 2).sum(2)


def brute_force_lloyd(rows, centroids, iterations):
    for _ in range(iterations):
        codes = squared_distances(rows, centroids).argmin(1)
        means = [rows[codes == code].mean(0, dtype=np.float64) for code in range(len(centroids))]
        # Centroids are kept in float32 between iterations.
        centroids = np.stack(means).astype(np.float32)
    return centroids, codes


@pytest.fixture(scope="module")
def rows():
    return mixture(3000)


def fit(rows, start=None, **settings):
    start = None if start is None else torch.from_numpy(start)
    return KMeans(KMeansConfig(CLUSTERS, **settings)).fit(rows, start=start)


@pytest.mark.parametrize("iterations", [1, 2, 7])
def test_lloyd_equals_float64_brute_force(rows, iterations):
    start = rows[:CLUSTERS]
    kmeans = fit(rows, start, iterations=iterations, tolerance=0)
    expected, codes = brute_force_lloyd(rows, start, iterations)
    assert np.array_equal(kmeans.centroids.numpy(), expected)
    inertia = ((rows - expected.astype(np.float64)[codes]) ** 2).sum()
    assert kmeans.inertia == pytest.approx(inertia, rel=1e-6)


def test_lloyd_equals_sklearn(rows):
    start = rows[:CLUSTERS]
    kmeans = fit(rows, start, iterations=10, tolerance=0)
    theirs = SklearnKMeans(CLUSTERS, init=start, n_init=1, max_iter=10, tol=0).fit(rows)
    assert theirs.n_iter_ == len(kmeans.inertias) == 10
    np.testing.assert_allclose(
        kmeans.centroids.numpy(), theirs.cluster_centers_, rtol=2e-6, atol=2e-6
    )
    assert np.array_equal(kmeans(torch.from_numpy(rows)).numpy(), theirs.labels_)
    # Their inertia is that of one more assignment.
    assert theirs.inertia_ <= kmeans.inertia * (1 + 1e-6)


def test_lloyd_does_not_depend_on_batches_threads_or_storage(rows):
    expected = fit(rows)
    for batch_size in (61, 997, 5000):
        other = fit(rows, batch_size=batch_size)
        assert torch.equal(other.centroids, expected.centroids)
        assert other.inertias == expected.inertias
    torch.set_num_threads(2)
    assert torch.equal(fit(rows).centroids, expected.centroids)
    pieces = np.array_split(rows, 7)
    assert torch.equal(fit(pieces).centroids, expected.centroids)
    assert torch.equal(fit(lambda: iter(pieces)).centroids, expected.centroids)


# From random rows, which optimum is reached is a matter of luck.
@pytest.mark.parametrize(("init", "share"), [("k-means++", 1.005), ("random", 1.1)])
@pytest.mark.parametrize("algorithm", ["lloyd", "mini-batch"])
def test_inertia_beside_that_of_faiss(algorithm, init, share):
    rows = mixture(20_000)
    theirs = faiss.Kmeans(24, CLUSTERS, niter=20, seed=1, max_points_per_centroid=10**9)
    theirs.train(rows)
    kmeans = fit(rows, algorithm=algorithm, init=init, batch_size=1000)
    assert kmeans.inertia < share * theirs.obj[-1]
    codes = kmeans(torch.from_numpy(rows)).numpy()
    again = ((rows - kmeans.centroids.numpy().astype(np.float64)[codes]) ** 2).sum()
    assert again <= kmeans.inertia * (1 + 1e-9)
    assert again == pytest.approx(kmeans.inertia, rel=2e-3)


def test_mini_batch_ends_where_lloyd_would_not_move(rows):
    kmeans = fit(rows, algorithm="mini-batch", batch_size=100, iterations=200, tolerance=0)
    assert len(kmeans.inertias) < 200
    further = fit(rows, kmeans.centroids.numpy(), iterations=1)
    assert torch.equal(further.centroids, kmeans.centroids)


def test_mini_batch_needs_fewer_passes(rows):
    settings = {"iterations": 3, "tolerance": 0, "sample_iterations": 0}
    lloyd = fit(rows, rows[:CLUSTERS], **settings)
    mini_batch = fit(rows, rows[:CLUSTERS], algorithm="mini-batch", batch_size=300, **settings)
    assert mini_batch.inertia < lloyd.inertia


def test_inertia_never_rises(rows):
    inertias = fit(rows, rows[:CLUSTERS], iterations=30, tolerance=0).inertias
    assert all(after <= before for before, after in pairwise(inertias))


def test_the_seed_decides(rows):
    first, again, other = (fit(rows, seed=seed, sample_iterations=0) for seed in (3, 3, 4))
    assert torch.equal(first.centroids, again.centroids)
    assert not torch.equal(first.centroids, other.centroids)


def test_empty_clusters_are_repaired(rows):
    start = rows[:CLUSTERS].copy()
    start[5:] = 1e4 + np.arange(CLUSTERS - 5)[:, None]
    kmeans = fit(rows, start)
    codes = kmeans(torch.from_numpy(rows))
    assert torch.bincount(codes, minlength=CLUSTERS).min() > 0
    assert kmeans.inertia < 1.1 * fit(rows).inertia
    assert torch.equal(kmeans.centroids, fit(rows, start).centroids)


def test_few_distinct_rows(rows):
    some = np.repeat(rows[: CLUSTERS - 1], 10, axis=0)
    for init in ("k-means++", "random"):
        with pytest.raises(QuantizerError, match="only 19 distinct rows to start 20 clusters"):
            fit(some, init=init)
        kmeans = fit(np.repeat(rows[:CLUSTERS], 10, axis=0), init=init)
        assert kmeans.inertia == pytest.approx(0, abs=1e-2)
        assert {tuple(row) for row in kmeans.centroids.tolist()} == {
            tuple(row) for row in rows[:CLUSTERS].tolist()
        }
    with pytest.raises(QuantizerError, match="19 rows can't fill 20 clusters"):
        fit(rows[:19])


def test_clusters_that_must_stay_empty(rows):
    """Given a start, there may be fewer distinct rows than clusters: the rest stays where it is."""
    start = rows[:CLUSTERS]
    some = np.repeat(start[:7], 10, axis=0)
    kmeans = fit(some, start)
    assert np.array_equal(kmeans.centroids.numpy(), start)
    assert kmeans.inertia == pytest.approx(0, abs=1e-2)


def test_wrong_settings():
    for settings, message in (
        ({"num_clusters": 0}, "num_clusters must be an integer from 1"),
        ({"num_clusters": 2.0}, "num_clusters must be an integer"),
        ({"init": "forgy"}, "init must be 'k-means\\+\\+' or 'random'"),
        ({"algorithm": "elkan"}, "algorithm must be 'lloyd' or 'mini-batch'"),
        ({"tolerance": -1}, "tolerance"),
        ({"sample_size": 3}, "sample_size must be at least num_clusters"),
    ):
        with pytest.raises(QuantizerError, match=message):
            KMeansConfig(**{"num_clusters": 5, **settings})


def test_wrong_start(rows):
    with pytest.raises(QuantizerError, match=r"shape \(20, 24\), got \(3, 24\)"):
        fit(rows, rows[:3])
    with pytest.raises(QuantizerError, match=r"shape \(20, 24\), got \(20, 5\)"):
        fit(rows, rows[:CLUSTERS, :5])
    with pytest.raises(QuantizerError, match="NaN"):
        fit(rows, rows[:CLUSTERS] * np.nan)


def test_features_that_change(rows):
    lengths = iter([100, 3000, 2000])
    with pytest.raises(QuantizerError, match="had 3000 rows, and now 2000"):
        fit(lambda: iter([rows[: next(lengths)]]))
    lengths = iter([100, 2000, 3000])
    with pytest.raises(QuantizerError, match="more rows than in the first look"):
        fit(lambda: iter([rows[: next(lengths)]]))


def test_save_and_load(rows, tmp_path):
    kmeans = fit(rows, iterations=3)
    kmeans.save(tmp_path / "units.safetensors")
    loaded = KMeans.load(tmp_path / "units.safetensors")
    assert loaded.config == kmeans.config and loaded.inertias == kmeans.inertias
    assert torch.equal(loaded.centroids, kmeans.centroids)
    queries = torch.from_numpy(rows[:100])
    assert torch.equal(loaded(queries), kmeans(queries))
    (tmp_path / "cut").write_bytes((tmp_path / "units.safetensors").read_bytes()[:-4])
    for path, message in (("cut", "can't be read"), ("missing", "can't be read")):
        with pytest.raises(QuantizerError, match=message):
            KMeans.load(tmp_path / path)
    with pytest.raises(QuantizerError, match="have not been fitted"):
        KMeans(KMeansConfig(2)).save(tmp_path / "never")


@pytest.mark.parametrize("outlier", [1e5, 1e7])
def test_inertia_beside_an_outlier(outlier):
    features = torch.randn(5000, 4, generator=torch.Generator().manual_seed(0))
    features[7, 0] = outlier
    kmeans = KMeans(KMeansConfig(50, tolerance=0, iterations=8)).fit(features)
    distances = NearestCode(kmeans.centroids)(features, True)[1].double()
    # That of the last pass's centroids: a little above what they have become.
    assert float(distances.sum()) <= kmeans.inertia * 1.0001 <= float(distances.sum()) * 1.02


def test_autocast_changes_nothing(rows):
    expected = KMeans(KMeansConfig(7, iterations=3)).fit(rows)
    with torch.autocast("cpu", torch.bfloat16):
        kmeans = KMeans(KMeansConfig(7, iterations=3)).fit(rows)
    assert torch.equal(kmeans.centroids, expected.centroids)
