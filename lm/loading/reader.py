"""`Reader`: batches of a sequence of samples, for one rank and one worker of many."""

import os
from collections.abc import Iterator
from itertools import count

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from ...errors import DatasetError
from .batch import Batch, batch_of
from .samples import Samples

#: Steps of training that are worked out together.
_AHEAD = 32


class Reader(IterableDataset[Batch]):
    """A data set of torch whose elements are batches; `lm.reader` makes it.

    Steps of training take the samples in turn: of the ``ranks × batch`` that follow a position,
    rank r has the r-th `batch`. So the samples that all ranks have seen together are the first ones
    of the sequence, and the next position says everything about them, whatever the number of ranks,
    workers and rows, which may be others when training goes on.

    Attributes:
        samples: the sequence.
        batch: positions in a batch.
        position: of the first sample.
        stop: where the sequence ends; None: never.
        drop_last: whether it ends before a step that is not full for every rank.
        rank, ranks: which part of each step is given here.
    """

    def __init__(
        self,
        samples: Samples,
        batch: int,
        position: int = 0,
        stop: int | None = None,
        rank: int | None = None,
        ranks: int | None = None,
        drop_last: bool = False,
    ) -> None:
        self.drop_last = drop_last
        self.samples, self.batch, self.position, self.stop = samples, batch, position, stop
        self.rank, self.ranks = _rank(rank, ranks)
        if batch < 1 or position < 0:
            raise DatasetError(
                f"a batch has 1 or more samples and begins at 0 or later; got {batch} samples at "
                f"position {position}"
            )

    @property
    def num_samples(self) -> int:
        """Positions of one epoch of all data sets."""
        return sum(len(source.plan) for source in self.samples.sources)

    def at(self, position: int) -> "Reader":
        """The same reader from another position on: `Batch.next` of a checkpoint."""
        return Reader(
            self.samples, self.batch, position, self.stop, self.rank, self.ranks, self.drop_last
        )

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        each = self.ranks * self.batch
        for first_step in count(number, _AHEAD * workers):
            # Which units come is worked out for some steps at once.
            steps = first_step + workers * np.arange(_AHEAD)
            firsts = self.position + each * steps
            begins = firsts + self.rank * self.batch
            positions = begins[:, None] + np.arange(self.batch)
            sources, units = self.samples.units(positions.reshape(-1))
            for place, (begin, first) in enumerate(
                zip(begins.tolist(), firsts.tolist(), strict=True)
            ):
                kept, following = self.batch, first + each
                if self.stop is not None:
                    if self.drop_last and following > self.stop:
                        return
                    kept, following = min(kept, self.stop - begin), min(following, self.stop)
                    if kept <= 0:
                        return
                here = slice(place * self.batch, place * self.batch + kept)
                yield batch_of(self.samples.rows_of(sources[here], units[here]), following)

    def __getitem__(self, position: int) -> Batch:
        """The sample of one position, as a batch: for looking at it; any order, no state."""
        if position < 0 or (self.stop is not None and position >= self.stop):
            raise IndexError(f"position {position} of {self.stop or 'an endless sequence'}")
        return batch_of(self.samples.rows(np.array([position])), position + 1)

    def document(self, item: int, source: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        """The whole document of an item: ids and targets, (steps,) or (streams, steps)."""
        ids, targets = map(torch.from_numpy, self.samples.document(source, item))
        return (ids[0], targets[0]) if len(ids) == 1 else (ids, targets)


def _rank(rank: int | None, ranks: int | None) -> tuple[int, int]:
    """As given; else of torch.distributed; else as torchrun says it; else one."""
    if (rank is None) != (ranks is None):
        raise DatasetError("give rank and ranks together")
    if rank is None or ranks is None:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            rank, ranks = torch.distributed.get_rank(), torch.distributed.get_world_size()
        else:
            rank, ranks = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if not 0 <= rank < ranks:
        raise DatasetError(f"rank {rank} of {ranks}")
    return rank, ranks
