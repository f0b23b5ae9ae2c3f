"""K-means beside faiss and scikit-learn: seconds to the same inertia, on features or a likeness.

    python benchmarks/kmeans.py --rows 200000 --dim 768 --clusters 500 2000 --threads 1
    python benchmarks/kmeans.py --features DIR --clusters 500
    python benchmarks/kmeans.py --disk 10

The likeness of self-supervised features (`--seed`): 1,500 clusters, their means and the rows
around them with a spectrum that decays as a power of the dimension, in a random rotation, and
three outlier dimensions. faiss.Kmeans runs 20 iterations on all points; its inertia is the
reference. Contenders run one after the other in each round; a row has the medians. "Seconds to it"
is when a contender's inertia came within 0.1 % of the reference, of all points, by its own account
(ours and faiss's are those of the assignment in each pass). scikit-learn's MiniBatchKMeans gives
its inertia at the end only. Ours reads and checks all rows and finds its start within its time.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from syllabary.quantizers import NearestCode
from syllabary.quantizers.kmeans import KMeans, KMeansConfig, open_features
from timing import machine

TRUE_CLUSTERS = 1500
CLOSE = 1.001


def likeness(num_rows: int, dim: int, seed: int) -> np.ndarray:
    """Rows that are distributed somewhat as the features of an SSL encoder's middle layer."""
    rng = np.random.default_rng(seed)
    spectrum = (np.arange(1, dim + 1) ** -0.5).astype(np.float32)
    rotation = np.linalg.qr(rng.standard_normal((dim, dim)))[0].astype(np.float32)
    means = rng.standard_normal((TRUE_CLUSTERS, dim), np.float32) * spectrum * 1.5
    # Some sounds are much more frequent than others.
    weights = rng.dirichlet(np.full(TRUE_CLUSTERS, 0.7))
    offsets = np.zeros(dim, np.float32)
    outliers = rng.choice(dim, 3, replace=False)
    offsets[outliers] = [-12, 8, 5]
    scales = np.ones(dim, np.float32)
    scales[outliers] = 4
    rows = np.empty((num_rows, dim), np.float32)
    for start in range(0, num_rows, 10_000):
        part = rows[start : start + 10_000]
        noise = rng.standard_normal(part.shape, np.float32) * spectrum
        labels = rng.choice(TRUE_CLUSTERS, len(part), p=weights)
        part[:] = ((means[labels] + noise) @ rotation) * scales + offsets
    return rows


def inertia_of(rows: np.ndarray, centroids: np.ndarray) -> float:
    """The inertia of all rows, in float64."""
    search = NearestCode(torch.from_numpy(np.ascontiguousarray(centroids, np.float32)))
    total = 0.0
    for start in range(0, len(rows), 8192):
        part = rows[start : start + 8192]
        codes = search(torch.from_numpy(part)).numpy()
        total += float(((part - centroids[codes]) ** 2).sum(dtype=np.float64))
    return total


def fit_faiss(rows, clusters, seed, iterations):
    import faiss

    kmeans = faiss.Kmeans(
        rows.shape[1],
        clusters,
        niter=iterations,
        seed=seed,
        max_points_per_centroid=len(rows),
        min_points_per_centroid=1,
    )
    start = time.perf_counter()
    kmeans.train(rows)
    seconds = time.perf_counter() - start
    steps = kmeans.iteration_stats
    shares = [step["time"] for step in steps]
    overhead = seconds - shares[-1]
    trace = [(step["time"] + overhead, step["obj"]) for step in steps]
    return kmeans.centroids, seconds, trace


def fit_sklearn(rows, clusters, seed, iterations, mini_batch):
    from sklearn.cluster import KMeans as Lloyd
    from sklearn.cluster import MiniBatchKMeans

    if mini_batch:
        kmeans = MiniBatchKMeans(
            clusters, batch_size=10_000, max_iter=100, n_init="auto", random_state=seed
        )
    else:
        kmeans = Lloyd(clusters, max_iter=iterations, n_init=1, random_state=seed)
    start = time.perf_counter()
    kmeans.fit(rows)
    seconds = time.perf_counter() - start
    return kmeans.cluster_centers_, seconds, [(seconds, kmeans.inertia_)]


def fit_ours(rows, clusters, seed, iterations, algorithm, init="k-means++"):
    config = KMeansConfig(
        clusters, init=init, algorithm=algorithm, iterations=iterations, seed=seed
    )
    trace = []
    start = time.perf_counter()

    def note(progress):
        if progress.inertia is not None and len(trace) < progress.passes:
            trace.append((time.perf_counter() - start, progress.inertia))

    kmeans = KMeans(config).fit(rows, progress=note)
    return kmeans.centroids.numpy(), time.perf_counter() - start, trace


def contenders(rows, clusters, options):
    """Name to a function that gives centroids, seconds and a trace of (seconds, inertia)."""
    arguments = (rows, clusters, options.seed, options.iterations)
    named = {
        "faiss.Kmeans": lambda: fit_faiss(*arguments),
        "ours, lloyd": lambda: fit_ours(*arguments, "lloyd"),
        "ours, mini-batch": lambda: fit_ours(*arguments, "mini-batch"),
        "ours, lloyd, random": lambda: fit_ours(*arguments, "lloyd", "random"),
        "sklearn MiniBatchKMeans": lambda: fit_sklearn(*arguments, True),
    }
    if rows.size * clusters <= options.small:
        named["sklearn KMeans"] = lambda: fit_sklearn(*arguments, False)
    return {name: run for name, run in named.items() if name not in options.skip}


def compare(rows: np.ndarray, clusters: int, options: argparse.Namespace) -> None:
    runs = {name: [] for name in contenders(rows, clusters, options)}
    for _ in range(options.rounds):
        for name, run in contenders(rows, clusters, options).items():
            runs[name].append(run())
    # The best that faiss says it reached: over all points, as it uses all of them.
    reference = inertia_of(rows, runs["faiss.Kmeans"][0][0])
    print(f"\n{len(rows):,} × {rows.shape[1]}, K = {clusters}, {options.iterations} iterations\n")
    print("| | seconds to it | seconds in all | passes | final inertia, × faiss's |")
    print("| --- | --- | --- | --- | --- |")
    for name, results in runs.items():
        final = [inertia_of(rows, centroids) / reference for centroids, _, _ in results]
        to_it = [
            reached(trace, reference, share)
            for (_, _, trace), share in zip(results, final, strict=True)
        ]
        whole = statistics.median(seconds for _, seconds, _ in results)
        seconds = "never" if None in to_it else f"{statistics.median(to_it):.2f}"
        passes = len(results[0][2]) if len(results[0][2]) > 1 else "–"
        share = f"{statistics.median(final):.4f}"
        print(f"| {name} | {seconds} | {whole:.2f} | {passes} | {share} |", flush=True)


def reached(trace, reference: float, final: float) -> float | None:
    """When the inertia first was within 0.1 % of the reference."""
    for seconds, inertia in trace:
        if inertia <= CLOSE * reference:
            return seconds
    return trace[-1][0] if final <= CLOSE else None


DISK = """
import sys, time, torch
from pathlib import Path
from syllabary.quantizers.kmeans import KMeans, KMeansConfig

torch.set_num_threads(int(sys.argv[3]))
start = time.perf_counter()
config = KMeansConfig(int(sys.argv[2]), iterations=int(sys.argv[4]), algorithm=sys.argv[5])
kmeans = KMeans(config).fit(sys.argv[1])
lines = Path("/proc/self/status").read_text().splitlines()
peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
print(f"{time.perf_counter() - start:.1f} s, {len(kmeans.inertias)} passes, "
      f"inertia {kmeans.inertia:.6g}, peak resident memory {peak / 1e6:.3f} GB")
"""


def fit_from_disk(gigabytes: float, clusters: int, options: argparse.Namespace) -> None:
    """Write features, fit them in a process of its own, and say what memory it took."""
    folder = Path(tempfile.mkdtemp(prefix="kmeans-", dir=options.folder))
    try:
        block = likeness(50_000, options.dim, options.seed)
        count = max(1, round(gigabytes * 1e9 / block.nbytes))
        rng = np.random.default_rng(options.seed)
        for number in range(count):
            # New rows at the price of a copy: each file is shifted and scaled.
            shift = rng.standard_normal(options.dim, np.float32) * 0.1
            np.save(folder / f"{number:05d}.npy", block * np.float32(rng.uniform(0.9, 1.1)) + shift)
        del block
        rows = open_features(folder).num_rows
        size = sum(file.stat().st_size for file in folder.iterdir())
        print(
            f"{size / 1e9:.1f} GB, {rows:,} × {options.dim}, K = {clusters}: ", end="", flush=True
        )
        arguments = [folder, clusters, options.threads, options.iterations, options.algorithm]
        subprocess.run([sys.executable, "-c", DISK, *map(str, arguments)], check=True)
    finally:
        shutil.rmtree(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--clusters", type=int, nargs="+", default=[200])
    parser.add_argument("--features", help="a folder of real features instead")
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--skip", nargs="*", default=[], help="contenders to leave out, by name")
    parser.add_argument(
        "--small", type=float, default=5e9, help="rows × dim × clusters for sklearn's KMeans"
    )
    parser.add_argument("--disk", type=float, help="gigabytes to fit from files instead")
    parser.add_argument("--algorithm", default="lloyd", help="with --disk")
    parser.add_argument("--folder", help="where --disk writes; default the temporary folder")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    print(machine())
    if options.disk:
        for clusters in options.clusters:
            fit_from_disk(options.disk, clusters, options)
        return
    import faiss
    from threadpoolctl import threadpool_limits

    if options.features:
        stream = open_features(options.features)
        rows = torch.cat([block.clone() for block in stream.blocks(65536)]).numpy()
        rows = rows[: options.rows] if options.rows else rows
    else:
        rows = likeness(options.rows, options.dim, options.seed)
    with threadpool_limits(options.threads):
        faiss.omp_set_num_threads(options.threads)
        torch.set_num_threads(options.threads)
        for clusters in options.clusters:
            compare(rows, clusters, options)


if __name__ == "__main__":
    main()
