"""`KMeans`: fit centroids in memory that does not grow with the number of features."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ...errors import QuantizerError
from ...filesystem import printable, remove_leftovers, replacing
from ..modules.prepared import Prepared
from ..nearest import NearestCode
from .checkpoints import fit_of, load_checkpoint, save_checkpoint
from .config import KMeansConfig
from .features import Features, Source, as_matrix, open_features
from .fitting import Fit, Progress
from .processes import Processes
from .seeding import plus_plus, random_rows
from .survey import Survey, survey

_FORMAT = "syllabary.kmeans.1"
# Rows per cluster from which k-means++ draws.
_SEEDED_ROWS = 16


class KMeans:
    """K-means clustering (Lloyd, "Least squares quantization in PCM", 1982) with exact search.

    Memory: a batch of rows, the sample, K × D sums in float64, and four bytes per row for its code.
    Under `torch.distributed` each process fits its own share of the rows, and all get the same
    centroids.

    The same settings and rows give bit-identical centroids: for "lloyd" with any number of threads,
    batch size and distribution over processes (rank 0's rows first), for "mini-batch" with any
    number of threads.

    Attributes:
        config: settings.
        centroids: (K, D) float32.
        inertia: sum of squared distances of the rows to the means of their clusters in the last
            pass; assigning them again can only lower it. None if unknown.
        inertias: the same after each pass.

    Example:
        >>> kmeans = KMeans(KMeansConfig(num_clusters=500)).fit("features/")
        >>> kmeans.save("units.safetensors")
        >>> units = KMeans.load("units.safetensors")(rows)
    """

    def __init__(self, config: KMeansConfig, centroids: Tensor | None = None):
        self.config = config
        self._centroids: Tensor | None = None
        self._search = Prepared(NearestCode)
        self.inertia: float | None = None
        self.inertias: list[float] = []
        if centroids is not None:
            self._set_centroids(_checked_start(centroids, config.num_clusters, None))

    @property
    def centroids(self) -> Tensor:
        if self._centroids is None:
            raise QuantizerError("the centroids have not been fitted or loaded")
        return self._centroids

    def _set_centroids(self, centroids: Tensor) -> None:
        self._centroids = centroids

    def __call__(self, rows: Tensor) -> Tensor:
        """Return codes (N,) int64 of rows (N, D): the index of the nearest centroid."""
        return self._search([self.centroids])(rows)

    def fit(
        self,
        features: Source | Features,
        *,
        dim: int | None = None,
        start: Tensor | None = None,
        checkpoint: str | Path | None = None,
        checkpoint_every: int = 256,
        device: str | torch.device = "cpu",
        progress: Callable[[Progress], None] | None = None,
        alone: bool = False,
    ) -> "KMeans":
        """Fit the centroids and return self.

        Args:
            features: (N, D) rows; see `open_features`. With several processes, this process's
                share; those of rank 0 come first.
            dim: of the rows of raw files.
            start: (K, D) initial centroids, instead of seeds from a sample.
            checkpoint: a file for the state, from which a fit with the same settings and features
                continues. It is kept after the fit.
            checkpoint_every: batches between two checkpoints; one is also written after each pass.
            device: for assigning and summing rows.
            progress: called after each batch.
            alone: use only this process, even if `torch.distributed` has several.

        Raises:
            QuantizerError: fewer rows than clusters, or fewer distinct ones in the sample; a value
                that is not finite, with its file and row; features of wrong shape or dtype, or
                that change between passes; a checkpoint of another fit.
        """
        with torch.autocast(torch.device(device).type, enabled=False), torch.no_grad():
            return self._fit(
                features, dim, start, checkpoint, checkpoint_every, device, progress, alone
            )

    def _fit(
        self,
        features: Source | Features,
        dim: int | None,
        start: Tensor | None,
        checkpoint: str | Path | None,
        checkpoint_every: int,
        device: str | torch.device,
        progress: Callable[[Progress], None] | None,
        alone: bool,
    ) -> "KMeans":
        config, processes = self.config, Processes(alone)
        report = progress or (lambda _: None)
        stream, looked = self._look(features, dim, processes, report)
        path = Path(checkpoint) if checkpoint is not None else None
        where = torch.device(device)
        if start is not None:
            start = _checked_start(start, config.num_clusters, stream.dim)
        fit = self._prepare(stream, looked, start, path, where, processes, report)
        for number, step in enumerate(fit.steps(), 1):
            report(step)
            # A pass ends when the batch counter is reset.
            if path and (number % checkpoint_every == 0 or not fit.state.batches):
                save_checkpoint(path, fit.state, fit_of(config, looked, start), processes)
        self._set_centroids(fit.state.centroids)
        self.inertias = fit.state.inertias
        self.inertia = self.inertias[-1]
        return self

    def _look(
        self,
        features: Source | Features,
        dim: int | None,
        processes: Processes,
        report: Callable[[Progress], None],
    ) -> tuple[Features, Survey]:
        error: QuantizerError | None = None
        try:
            stream = open_features(features, dim)
        except QuantizerError as caught:
            error = caught
        processes.raise_together(error)
        config = self.config
        looked = survey(
            stream,
            config.rows_of_sample(stream.dim),
            config.seed,
            config.batch_size,
            processes,
            lambda rows: report(Progress("looking", rows=rows, num_rows=stream.num_rows)),
        )
        if looked.num_rows < config.num_clusters:
            raise QuantizerError(
                f"{looked.num_rows} rows can't fill {config.num_clusters} clusters"
            )
        return stream, looked

    def _prepare(
        self,
        stream: Features,
        looked: Survey,
        start: Tensor | None,
        checkpoint: Path | None,
        device: torch.device,
        processes: Processes,
        report: Callable[[Progress], None],
    ) -> Fit:
        """Create a fit at its start, or continue from the checkpoint."""
        config = self.config
        blank = torch.zeros(config.num_clusters, stream.dim, device=device)
        if checkpoint is not None:
            remove_leftovers([checkpoint])
            fit = Fit(stream, looked, config, blank, processes)
            if load_checkpoint(checkpoint, fit.state, fit_of(config, looked, start), processes):
                return fit
        if start is not None:
            centroids = start.to(device)
        else:
            report(Progress("starting"))
            centroids = processes.first(start_on_sample(looked, config, device))
        return Fit(stream, looked, config, centroids, processes)

    def save(self, path: str | Path) -> None:
        """Write the centroids as safetensors, with the settings as metadata.

        Raises:
            QuantizerError: nothing has been fitted, or the file can't be written.
        """
        target = Path(path)
        metadata = {
            "format": _FORMAT,
            "config": json.dumps(self.config.to_dict()),
            "inertias": json.dumps(self.inertias),
        }
        tensors = {"centroids": self.centroids.cpu().contiguous()}
        try:
            with replacing(target) as temporary:
                save_file(tensors, temporary, metadata)
        except (OSError, SafetensorError) as error:
            raise QuantizerError(f"{printable(target)} can't be written: {error}") from error

    @classmethod
    def load(cls, path: str | Path) -> "KMeans":
        """Load a file from `save`. For the files of other programs see `load_centroids`.

        Raises:
            QuantizerError: the file is missing, damaged or of another kind.
        """
        source = Path(path)
        try:
            with safe_open(source, "pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != _FORMAT:
                    raise QuantizerError(f"{printable(source)} is not a file of KMeans.save")
                kmeans = cls(
                    KMeansConfig(**json.loads(metadata["config"])), file.get_tensor("centroids")
                )
                kmeans.inertias = json.loads(metadata["inertias"])
        except (OSError, SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise QuantizerError(f"{printable(source)} can't be read: {error}") from error
        kmeans.inertia = kmeans.inertias[-1] if kmeans.inertias else None
        return kmeans


def start_on_sample(looked: Survey, config: KMeansConfig, device: torch.device) -> Tensor:
    """Return initial centroids (K, D): seeds from the sample, refined by Lloyd's on the sample.

    Raises:
        QuantizerError: the sample has too few distinct rows.
    """
    rows = looked.sample.to(device)
    if config.init == "k-means++":
        few = rows[: max(_SEEDED_ROWS * config.num_clusters, 4096)]
        seeds = plus_plus(few, config.num_clusters, [config.seed, 1])
    else:
        seeds = random_rows(rows, config.num_clusters, [config.seed, 1])
    if not config.sample_iterations:
        return seeds
    own = Survey([rows.shape[0]], looked.largest, looked.sample)
    settings = replace(config, algorithm="lloyd", iterations=config.sample_iterations)
    fit = Fit(open_features(rows), own, settings, seeds, Processes(alone=True))
    for _ in fit.steps():
        pass
    return fit.state.centroids


def _checked_start(centroids: Tensor, num_clusters: int, dim: int | None) -> Tensor:
    values = as_matrix(centroids, "centroids").float().clone()
    expected = (num_clusters, dim or values.shape[1])
    if tuple(values.shape) != expected:
        raise QuantizerError(f"centroids must have shape {expected}, got {tuple(values.shape)}")
    if not bool(values.isfinite().all()):
        raise QuantizerError("centroids have NaN or infinite values")
    return values
