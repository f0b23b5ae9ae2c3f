"""The first pass over all rows: check that they are finite, count them, and draw a sample."""

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
    """Facts about the rows of all processes.

    Attributes:
        rows_of_rank: number of rows of each process.
        largest: (D,) float32, largest absolute value of each column.
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
    """Read all rows once. The result is independent of their distribution over processes.

    Args:
        features: of this process.
        sample_size: rows of the sample; all if there are fewer.
        seed: for the sample.
        batch_size: rows that are read at once.
        processes: all of which call this.
        report: called after each batch with the number of rows read.

    Raises:
        QuantizerError: a value that is NaN or infinite as float32, with its file and row; or
            different dimensions on different ranks.
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
    """Return the number of rows before this process's, in the order of the ranks."""
    if processes.size == 1:
        return 0
    if features.num_rows is None:
        for _ in features.blocks(batch_size):
            pass
    assert features.num_rows is not None
    return sum(processes.gathered(features.num_rows)[: processes.rank])


def _peaks(block: Tensor) -> Tensor:
    """Return the largest absolute value (D,) of each column; not finite if any value is not."""
    return torch.maximum(block.amax(0), -block.amin(0)).cpu()


class _Draw:
    """Draw a sample without replacement in a single pass, in bounded memory.

    Each row has a random key by its index; the sample is the rows with the smallest keys, so it is
    independent of blocks and processes, and in random order when sorted by key.
    """

    def __init__(self, size: int, dim: int, seed: int):
        self._size = size
        self._seed = np.random.default_rng([seed, 0]).integers(1 << 63, dtype=np.uint64)
        self._keys = np.empty(0, np.uint64)
        self._slots = np.empty(0, np.int64)
        self._rows = torch.empty(0, dim)

    def look(self, block: Tensor, start: int) -> None:
        """Add a block (n, D) of candidates, whose first row has the index `start`."""
        keys = _mixed(np.arange(start, start + block.shape[0], dtype=np.uint64) + self._seed)
        if self._keys.size == self._size:
            offered = np.flatnonzero(keys < self._keys[-1])
        else:
            offered = np.arange(keys.size)
        joined = np.concatenate([self._keys, keys[offered]])
        order = np.argsort(joined, kind="stable")[: self._size]
        held = order[order < self._keys.size]
        taken = offered[order[order >= self._keys.size] - self._keys.size]
        # New rows take the places of dropped ones.
        free = np.setdiff1d(np.arange(order.size), self._slots[held], assume_unique=True)
        if order.size > self._rows.shape[0]:
            self._grow(order.size)
        slots = np.empty(order.size, np.int64)
        slots[order < self._keys.size] = self._slots[held]
        slots[order >= self._keys.size] = free
        self._rows[torch.from_numpy(free)] = block[torch.from_numpy(taken).to(block.device)].cpu()
        self._keys, self._slots = joined[order], slots

    def _grow(self, needed: int) -> None:
        # The full size at once, since untouched memory costs nothing.
        rows = torch.empty(max(needed, self._size), self._rows.shape[1])
        rows[: self._rows.shape[0]] = self._rows
        self._rows = rows

    def joined(self, processes: Processes) -> Tensor:
        """Return the sample (m, D) of all processes' rows, in random order."""
        if processes.size == 1:
            _reorder(self._rows.numpy(), self._slots)
            return self._rows[: self._slots.size]
        everyone = np.concatenate(processes.gathered(self._keys))
        chosen = np.sort(everyone)[: self._size]
        rows = torch.zeros(chosen.size, self._rows.shape[1])
        mine = np.isin(self._keys, chosen)
        places = np.searchsorted(chosen, self._keys[mine])
        rows[torch.from_numpy(places)] = self._rows[torch.from_numpy(self._slots[mine])]
        # Every row is on one process, and zero on the others, so the sum is exact.
        return processes.summed(rows)


def _reorder(rows: np.ndarray, order: np.ndarray) -> None:
    """Set row i to row order[i], in place, since a copy would double the peak memory."""
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
    """Return distinct pseudo-random keys of counters, by SplitMix64's finalizer."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = values ^ (values >> np.uint64(31))
    return mixed
