"""The settings of a fit."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from ...errors import QuantizerError

Init = Literal["k-means++", "random"]
Algorithm = Literal["lloyd", "mini-batch"]


@dataclass(frozen=True)
class KMeansConfig:
    """How to fit centroids. The defaults suit frames of a self-supervised speech encoder.

    Args:
        num_clusters: how many centroids.
        init: "k-means++" (Arthur and Vassilvitskii 2007) or "random" rows, from the sample.
        algorithm: "lloyd" updates the centroids after each pass over all rows; "mini-batch" after
            each batch, by Sculley's steps of 1/count in the first pass. Later passes first take
            back what a row gave in the pass before (Newling and Fleuret 2016), so that both end
            where nothing moves.
        iterations: at most so many passes over all rows.
        tolerance: stop when a pass lowers the inertia by less than this share of it.
        batch_size: rows that are read and assigned at once. For "lloyd" it changes no bit of the
            result.
        sample_size: rows drawn at random for the start. None: 128 a cluster, from 16,384 rows up,
            and no more than 192 MB unless the clusters need them.
        sample_iterations: at most so many iterations of Lloyd on the sample before the first pass
            (Bradley and Fayyad 1998); 0 starts from the seeds themselves.
        seed: of all that is random.

    Raises:
        QuantizerError: a value out of its range.
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
        """How many rows the start is found on, of features of `dim` dimensions."""
        if self.sample_size is not None:
            return self.sample_size
        wanted = max(128 * self.num_clusters, 16384)
        return max(min(wanted, (192 << 20) // (4 * dim)), 4 * self.num_clusters)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
