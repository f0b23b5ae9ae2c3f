"""Configuration of a fit."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from ...errors import QuantizerError

Init = Literal["k-means++", "random"]
Algorithm = Literal["lloyd", "mini-batch"]


@dataclass(frozen=True)
class KMeansConfig:
    """Configuration of `KMeans`. The defaults suit frames of a self-supervised speech encoder.

    Args:
        num_clusters: number of centroids.
        init: "k-means++" (Arthur and Vassilvitskii 2007) or "random" rows, from the sample.
        algorithm: "lloyd" updates the centroids after each pass over all rows; "mini-batch" after
            each batch, with Sculley's steps of 1/count in the first pass. Later passes first remove
            each row's contribution from the pass before (Newling and Fleuret 2016), so that it
            converges like "lloyd".
        iterations: maximum number of passes over all rows.
        tolerance: stop when a pass reduces the inertia by less than this fraction.
        batch_size: rows that are read and assigned at once. For "lloyd" it does not change a bit of
            the result.
        sample_size: rows drawn at random for the initialization. None: 128 per cluster, at least
            16,384 rows, and at most 192 MB unless the clusters need more.
        sample_iterations: maximum number of Lloyd iterations on the sample before the first pass
            (Bradley and Fayyad 1998); 0 starts directly from the seeds.
        seed: for all random choices.

    Raises:
        QuantizerError: a value is out of range.
    """

    num_clusters: int
    init: Init = "k-means++"
    algorithm: Algorithm = "lloyd"
    iterations: int = 20
    tolerance: float = 1e-4
    batch_size: int = 16384
    sample_size: int | None = None
    sample_iterations: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        for name, smallest in {
            "num_clusters": 1,
            "iterations": 1,
            "batch_size": 1,
            "sample_iterations": 0,
            "seed": 0,
        }.items():
            value = getattr(self, name)
            if type(value) is not int or value < smallest:
                raise QuantizerError(f"{name} must be an integer from {smallest} up, got {value!r}")
        for name, known in {"init": get_args(Init), "algorithm": get_args(Algorithm)}.items():
            if getattr(self, name) not in known:
                choices = " or ".join(map(repr, known))
                raise QuantizerError(f"{name} must be {choices}, got {getattr(self, name)!r}")
        if not 0 <= self.tolerance < 1:
            raise QuantizerError(f"tolerance must be in [0, 1), got {self.tolerance!r}")
        if self.sample_size is not None and self.sample_size < self.num_clusters:
            raise QuantizerError(
                f"sample_size must be at least num_clusters, {self.num_clusters}, "
                f"got {self.sample_size}"
            )

    def rows_of_sample(self, dim: int) -> int:
        """Number of rows of the sample, for features of `dim` dimensions."""
        if self.sample_size is not None:
            return self.sample_size
        wanted = max(128 * self.num_clusters, 16384)
        return max(min(wanted, (192 << 20) // (4 * dim)), 4 * self.num_clusters)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
