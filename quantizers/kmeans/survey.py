"""The first look at all rows: are they finite, how many, how large, and a sample of them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...errors import QuantizerError
from .features import Features
from .processes import Processes


@dataclass(frozen=True)
class Survey:
    """What is known of the rows of all processes.

    Attributes:
        rows_of_rank: how many rows each process has.
        largest: (D,) float32, the largest absolute value of each column.
        sample: (m, D) float32 rows drawn without replacement, in random order.
    """

    rows_of_rank: list[int]
    largest: Tensor
    sample: Tensor

    @property
    def num_rows(self) -> int:
        return sum(self.rows_of_rank)


def survey(
    features: Features,
    sample_size: int,
    seed: int,
    batch_size: int,
    processes: Processes,
    report: Callable[[int], None] | None = None,
) -> Survey:
    """Read all rows once. The outcome is the same however they are split over processes.

    Args:
        features: of this process.
        sample_size: rows of the sample, or all when there are fewer.
        seed: of the sample.
        batch_size: rows that are read at once.
        processes: all of which call this.
        report: is told how many rows have been read, after each batch.

    Raises:
        QuantizerError: a value that is NaN or infinite as float32, with its file and row; ranks
            whose rows differ in dimensions.
    """
    error: QuantizerError | None = None
    largest = torch.zeros(features.dim)
    draw = _Draw(sample_size, features.dim, seed)
    counted = 0
    try:
        start = _first_index(features, batch_size, processes)
        for block in features.blocks(batch_size):
            peaks = _peaks(block)
            if not bool(peaks.isfinite().all()):
                bad = int((~block.isfinite()).any(1).nonzero()[0])
                place = features.where(counted + bad)
                raise QuantizerError(f"{place} has NaN, infinity or a value beyond float32")
            largest = torch.maximum(largest, peaks)
            draw.look(block, start + counted)
            counted += block.shape[0]
            if report:
                report(counted)
    except QuantizerError as caught:
        error = caught
    processes.raise_together(error)
    dims = processes.gathered(features.dim)
    if len(set(dims)) > 1:
        raise QuantizerError(f"the processes' features have different dimensions: {dims}")
    return Survey(processes.gathered(counted), processes.largest(largest), draw.joined(processes))


def _first_index(features: Features, batch_size: int, processes: Processes) -> int:
    """How many rows come before this process's, in the order of the ranks."""
    if processes.size == 1:
        return 0
    if features.num_rows is None:
        for _ in features.blocks(batch_size):
            pass
    assert features.num_rows is not None
    return sum(processes.gathered(features.num_rows)[: processes.rank])


def _peaks(block: Tensor) -> Tensor:
    """The largest absolute value (D,) of each column, not finite where any value is not."""
    return torch.maximum(block.amax(0), -block.amin(0)).cpu()


class _Draw:
    """A sample without replacement from rows that come by once, in bounded memory.

    Each row has a random key by its index; the sample is the rows with the smallest keys, so it
    does not depend on blocks or processes, and is in random order when sorted by key.
    """

    def __init__(self, size: int, dim: int, seed: int):
        self._size = size
        self._seed = np.random.default_rng([seed, 0]).integers(1 << 63, dtype=np.uint64)
        self._keys = np.empty(0, np.uint64)
        self._slots = np.empty(0, np.int64)
        self._rows = torch.empty(0, dim)

    def look(self, block: Tensor, start: int) -> None:
        """Consider a block (n, D) whose first row has the index `start`."""
        keys = _mixed(np.arange(start, start + block.shape[0], dtype=np.uint64) + self._seed)
        if self._keys.size == self._size:
            offered = np.flatnonzero(keys < self._keys[-1])
        else:
            offered = np.arange(keys.size)
        joined = np.concatenate([self._keys, keys[offered]])
        order = np.argsort(joined, kind="stable")[: self._size]
        held = order[order < self._keys.size]
        taken = offered[order[order >= self._keys.size] - self._keys.size]
        # Rows that fell out leave their places to those that come.
        free = np.setdiff1d(np.arange(order.size), self._slots[held], assume_unique=True)
        if order.size > self._rows.shape[0]:
            self._grow(order.size)
        slots = np.empty(order.size, np.int64)
        slots[order < self._keys.size] = self._slots[held]
        slots[order >= self._keys.size] = free
        self._rows[torch.from_numpy(free)] = block[torch.from_numpy(taken).to(block.device)].cpu()
        self._keys, self._slots = joined[order], slots

    def _grow(self, needed: int) -> None:
        # Untouched memory costs nothing, so all of it may as well be asked for at once.
        rows = torch.empty(max(needed, self._size), self._rows.shape[1])
        rows[: self._rows.shape[0]] = self._rows
        self._rows = rows

    def joined(self, processes: Processes) -> Tensor:
        """The sample (m, D) of all processes' rows, in random order."""
        if processes.size == 1:
            _reorder(self._rows.numpy(), self._slots)
            return self._rows[: self._slots.size]
        everyone = np.concatenate(processes.gathered(self._keys))
        chosen = np.sort(everyone)[: self._size]
        rows = torch.zeros(chosen.size, self._rows.shape[1])
        mine = np.isin(self._keys, chosen)
        places = np.searchsorted(chosen, self._keys[mine])
        rows[torch.from_numpy(places)] = self._rows[torch.from_numpy(self._slots[mine])]
        # Every row is one process's, and zero on the others: the sum is exact.
        return processes.summed(rows)


def _reorder(rows: np.ndarray, order: np.ndarray) -> None:
    """Make row i what row order[i] was, in place: a second copy would double the peak of memory."""
    done = np.zeros(order.size, bool)
    for start in range(order.size):
        if done[start]:
            continue
        held = rows[start].copy()
        place = start
        while order[place] != start:
            rows[place] = rows[order[place]]
            done[place] = True
            place = order[place]
        rows[place] = held
        done[place] = True


def _mixed(values: np.ndarray) -> np.ndarray:
    """Keys of counters, distinct and as good as random: the finaliser of SplitMix64."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = values ^ (values >> np.uint64(31))
    return mixed
