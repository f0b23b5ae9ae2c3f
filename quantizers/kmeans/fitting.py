"""Passes over all rows: Lloyd's algorithm and mini-batch k-means in one loop.

The state has a code for every row, and the exact sum of the rows of every cluster. A batch is
assigned to clusters, and rows whose code has changed are subtracted from one sum and added to
another. Lloyd's algorithm computes centroids from the sums after each pass, mini-batch k-means
after each batch. Sums (`sums.py`) and search are exact: centroids depend neither on batches
(Lloyd's) nor on the distribution of rows over processes, and a continued fit gives bit-identical
results.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from ...errors import QuantizerError
from ..nearest import NearestCode
from .config import KMeansConfig
from .features import Features
from .processes import Processes
from .seeding import plus_plus
from .sums import ClusterSums, column_squares, exact_grid, square_grids
from .survey import Survey


@dataclass(frozen=True)
class Progress:
    """Progress of a fit.

    Attributes:
        stage: "looking" (reading all rows), "starting" (on the sample), or "passing" (over all
            rows).
        passes: completed passes.
        rows: rows of this process read in the current pass.
        num_rows: rows of this process, or None until they have been counted.
        inertia: after the last completed pass, or None before the first.
        moved: rows of all processes that changed their cluster in the last completed pass.
    """

    stage: Literal["looking", "starting", "passing"]
    passes: int = 0
    rows: int = 0
    num_rows: int | None = None
    inertia: float | None = None
    moved: int | None = None


@dataclass
class FitState:
    """State of a fit between two batches.

    Attributes:
        centroids: (K, D) float32, for the next batch.
        codes: (N,) int32, clusters of this process's rows; -1 before the first assignment.
        totals: sums and counts of this process's rows by these codes.
        prior: sums and counts of the sample, which stabilize mini-batch steps in the first pass.
        squares: (2, D) float64, this process's sums of squares, see `column_squares`.
        batches: completed in the current pass.
        moved: this process's rows that changed their cluster in it.
        inertias: after each pass.
        moves: rows of all processes that changed their cluster in each pass.
        finished: whether the fit is complete.
    """

    centroids: Tensor
    codes: Tensor
    totals: ClusterSums
    prior: ClusterSums
    squares: Tensor
    batches: int = 0
    moved: int = 0
    inertias: list[float] = field(default_factory=list)
    moves: list[int] = field(default_factory=list)
    finished: bool = False


class Fit:
    """Run passes over features, batch by batch.

    Args:
        features: rows of this process.
        survey: of the rows of all processes.
        config: settings.
        start: (K, D) float32 initial centroids, the same on all processes. Computation runs on the
            tensor's device.
        processes: that fit together.
    """

    def __init__(
        self,
        features: Features,
        survey: Survey,
        config: KMeansConfig,
        start: Tensor,
        processes: Processes,
    ):
        self._features = features
        self._survey = survey
        self._config = config
        self._processes = processes
        self.num_rows = survey.rows_of_rank[processes.rank]
        largest = survey.largest.to(start.device)
        # The prior's rows are counted along with the others.
        counted = survey.num_rows + survey.sample.shape[0]
        self._grid = exact_grid(largest, counted)
        self._square_grids = square_grids(largest, counted)
        count, dim = start.shape
        self.state = FitState(
            centroids=start.float().contiguous(),
            codes=torch.full((self.num_rows,), -1, dtype=torch.int32, device=start.device),
            totals=ClusterSums.zeros(count, dim, start.device),
            prior=ClusterSums.zeros(count, dim, start.device),
            squares=torch.zeros(2, dim, dtype=torch.float64, device=start.device),
        )

    def steps(self) -> Iterator[Progress]:
        """Continue from the state, batch by batch, until the fit is finished."""
        while not self.state.finished:
            yield from self._pass()

    def _pass(self) -> Iterator[Progress]:
        state, config = self.state, self._config
        by_batch = config.algorithm == "mini-batch"
        first_pass = not state.inertias
        if by_batch and first_pass and not state.batches:
            self._weigh_start()
        search = NearestCode(state.centroids)
        blocks = self._features.blocks(config.batch_size, state.batches * config.batch_size)
        # A process with fewer rows takes part in the others' steps.
        for _ in range(state.batches, self._batches_of_pass()):
            block = next(blocks, None)
            if block is not None:
                self._assign(block.to(state.centroids.device), search, first_pass)
            state.batches += 1
            if by_batch:
                state.centroids = self._means(first_pass)
                search = NearestCode(state.centroids)
            if state.batches < self._batches_of_pass():
                yield self._progress()
        if next(blocks, None) is not None:
            raise QuantizerError("the features have more rows than in the first look at them")
        self._finish_pass()
        yield self._progress()

    def _batches_of_pass(self) -> int:
        return -(-max(self._survey.rows_of_rank) // self._config.batch_size)

    def _assign(self, block: Tensor, search: NearestCode, first_pass: bool) -> None:
        state = self.state
        start = state.batches * self._config.batch_size
        if start + block.shape[0] > self.num_rows:
            raise QuantizerError("the features have more rows than in the first look at them")
        codes = search(block)
        known = state.codes[start : start + block.shape[0]]
        state.moved += state.totals.move(block, known.long(), codes, self._grid)
        known.copy_(codes)
        if first_pass:
            state.squares += column_squares(block, self._square_grids)

    def _weigh_start(self) -> None:
        """Use the sample as a prior, so that the first batches keep most of the initialization."""
        state = self.state
        rows = self._survey.sample.to(state.centroids.device)
        codes = NearestCode(state.centroids)(rows)
        state.prior.move(rows, torch.full_like(codes, -1), codes, self._grid)

    def _joined(self) -> ClusterSums:
        totals = self.state.totals
        return ClusterSums(
            self._processes.summed(totals.sums), self._processes.summed(totals.counts)
        )

    def _means(self, first_pass: bool) -> Tensor:
        totals, prior = self._joined(), self.state.prior
        if first_pass:
            totals = ClusterSums(totals.sums + prior.sums, totals.counts + prior.counts)
        return totals.means(self.state.centroids)

    def _finish_pass(self) -> None:
        state, config = self.state, self._config
        totals = self._joined()
        if int(totals.counts.sum()) != self._survey.num_rows:
            raise QuantizerError("the features have fewer rows than in the first look at them")
        squares = float(self._processes.summed(state.squares).cpu().numpy().sum())
        # Rounding may give a value slightly below zero.
        inertia = max(0.0, squares - totals.explained())
        moved = int(self._processes.summed(torch.tensor(state.moved)))
        state.centroids = totals.means(state.centroids)
        repaired = self._repair(totals.counts == 0)
        before = state.inertias[-1] if state.inertias else None
        settled = before is not None and before - inertia <= config.tolerance * inertia
        state.inertias.append(inertia)
        state.moves.append(moved)
        state.batches = state.moved = 0
        state.finished = len(state.inertias) == config.iterations or (
            not repaired and (settled or not moved)
        )

    def _repair(self, empty: Tensor) -> bool:
        """Move centroids without rows to rows of the sample that are far from all others."""
        state = self.state
        count = int(empty.sum())
        if not count:
            return False
        seed = [self._config.seed, 2, len(state.inertias)]
        rows = self._survey.sample.to(state.centroids.device)
        try:
            seeds = plus_plus(rows, count, seed, state.centroids[~empty])
        except QuantizerError:
            # Every row of the sample is a centroid: no cluster can be divided.
            return False
        state.centroids[empty] = self._processes.first(seeds)
        return True

    def _progress(self) -> Progress:
        state = self.state
        return Progress(
            "passing",
            passes=len(state.inertias),
            rows=min(state.batches * self._config.batch_size, self.num_rows),
            num_rows=self.num_rows,
            inertia=state.inertias[-1] if state.inertias else None,
            moved=state.moves[-1] if state.moves else None,
        )
