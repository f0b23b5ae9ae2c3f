"""`Samples`: the sequence of training samples, of which any can be had by its number alone.

    samples = Samples([source, other], Mixture((0.7, 0.3), seed=0), context=2048)
    batch = samples.rows(np.array([1000, 1001]))

A position stands for a row, or for a batch of rows of similar length. Which one is a function of
the seed, the settings and what the data sets hold; nothing is kept from one position to the next.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ..interleaving.sequence import IGNORE
from .filling import Layout, filled
from .mixture import Mixture
from .packing import Plan
from .shuffle import Shuffle, mixed
from .store import FlatStore


class Rows(NamedTuple):
    """Rows of ids, in NumPy.

    Attributes:
        ids, targets: (rows, streams, steps) int64.
        positions: (rows, steps) int64.
        lengths: (rows,) int64, steps that are not padding.
        parts: (parts, 5) int64: row, source, item, first step, last step + 1, in order of rows.
    """

    ids: np.ndarray
    targets: np.ndarray
    positions: np.ndarray
    lengths: np.ndarray
    parts: np.ndarray


@dataclass(eq=False)
class Source:
    """One data set of a sequence of samples.

    Attributes:
        store: what it holds.
        layout: how an item becomes a document.
        make_plan: which parts of which documents stand in which row; called when first needed, and
            again in another process, so that the plan is not sent there.
    """

    store: FlatStore
    layout: Layout
    make_plan: Callable[["Source"], Plan]
    _plan: Plan | None = field(default=None, repr=False)

    @property
    def plan(self) -> Plan:
        if self._plan is None:
            self._plan = self.make_plan(self)
        return self._plan

    def lengths(self) -> np.ndarray:
        """(items,) steps of each document."""
        if self.store.documents:
            return self.store.frames
        return self.layout.lengths(self.store.frames)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_plan": None}


@dataclass(frozen=True, eq=False)
class Samples:
    """The sequence of samples; see the module.

    Attributes:
        sources: of the mixture, in its order; all with equally many streams.
        mixture: which source a position is of.
        width: steps of each row; None: those of the longest row of a batch, rounded up to
            `multiple`, at most `most`.
        shuffle: False gives every epoch in the plan's own order.
    """

    sources: list[Source]
    mixture: Mixture
    width: int | None
    multiple: int = 1
    shuffle: bool = True
    most: int | None = None
    _orders: dict[tuple[int, int], Shuffle] = field(default_factory=dict, repr=False)

    @property
    def streams(self) -> int:
        return self.sources[0].layout.streams

    def units(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Source of some positions, and number of the unit of its plan: two (n,) int64."""
        sources, numbers = self.mixture[positions]
        units = np.empty_like(numbers)
        for source in range(len(self.sources)):
            here = _where(sources, source, len(self.sources))
            if not len(here):
                continue
            epochs, places = np.divmod(numbers[here], len(self.sources[source].plan))
            if self.shuffle:
                for epoch in range(int(epochs.min()), int(epochs.max()) + 1):
                    there = epochs == epoch
                    places[there] = self._order(source, epoch)[places[there]]
            units[here] = places
        return sources, units

    def _order(self, source: int, epoch: int) -> Shuffle:
        """Of a source's units in an epoch; the last few are kept."""
        if (source, epoch) not in self._orders:
            while len(self._orders) > 2 * len(self.sources):
                del self._orders[next(iter(self._orders))]
            key = mixed(self.mixture.seed, source, epoch, 4)
            self._orders[source, epoch] = Shuffle(len(self.sources[source].plan), key)
        return self._orders[source, epoch]

    def rows(self, positions: np.ndarray) -> Rows:
        """The rows of some positions, (n,) int64, one below the other."""
        return self.rows_of(*self.units(positions))

    def rows_of(self, sources: np.ndarray, units: np.ndarray) -> Rows:
        """The rows of some units, which `units` gave."""
        if self.width is None:
            wanted = [
                (source, row)
                for source, unit in zip(sources.tolist(), units.tolist(), strict=True)
                for row in self.sources[source].plan.rows(unit)
            ]
            sources, units = np.ascontiguousarray(np.array(wanted, np.int64).reshape(-1, 2).T)
        width = self.width or self._longest(sources, units)
        shape = (len(units), self.streams, width)
        ids, targets = np.empty(shape, np.int64), np.empty(shape, np.int64)
        positions, lengths = np.empty((len(units), width), np.int64), np.empty(len(units), np.int64)
        parts = []
        for number, source in enumerate(self.sources):
            slots = _where(sources, number, len(self.sources))
            if len(slots):
                rows = units if len(self.sources) == 1 else units[slots]
                out = (ids, targets, positions, lengths)
                parts.append(
                    filled(number, source.store, source.layout, source.plan, rows, slots, out)
                )
        if len(parts) > 1:
            joined = np.concatenate(parts)
            parts = [joined[np.argsort(joined[:, 0], kind="stable")]]
        return Rows(ids, targets, positions, lengths, parts[0])

    def document(self, source: int, item: int) -> tuple[np.ndarray, np.ndarray]:
        """A whole document: ids and targets, (streams, steps) int64."""
        found = self.sources[source]
        steps = int(found.lengths()[item])
        one = Plan(
            np.array([item]),
            np.zeros(1, np.int32),
            np.full(1, steps, np.int32),
            np.array([0, 1] if steps else [0, 0]),
        )
        ids = np.empty((1, self.streams, steps), np.int64)
        targets = np.full_like(ids, IGNORE)
        out = (ids, targets, np.empty((1, steps), np.int64), np.empty(1, np.int64))
        zero = np.zeros(1, np.int64)
        filled(source, found.store, found.layout, one, zero, zero, out)
        return ids[0], targets[0]

    def _longest(self, sources: np.ndarray, rows: np.ndarray) -> int:
        longest = 1
        for number in np.unique(sources).tolist():
            plan, here = self.sources[number].plan, rows[sources == number]
            first = plan.row_starts[here]
            longest = max(longest, int((plan.stops[first] - plan.starts[first]).max()))
        padded = -(-longest // self.multiple) * self.multiple
        return padded if self.most is None else min(padded, self.most)


def _where(sources: np.ndarray, number: int, count: int) -> np.ndarray:
    """Places of one of `count` sources."""
    return np.arange(len(sources)) if count == 1 else np.flatnonzero(sources == number)
