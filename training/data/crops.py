"""Batches of random crops, each a function of its number, and fixed batches for validation."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ...errors import TrainingError
from .draws import draws
from .store import SpeechStore


@dataclass(frozen=True)
class CropBatch:
    """Crops of utterances.

    Attributes:
        waves: (batch, samples) float32 in [-1, 1), zeros after each crop's end.
        lengths: (batch,) int64, samples of each crop.
        names: of the utterances.
        starts: first sample of each crop in its utterance.
        paths: (seed, batch number, row of the whole batch) of each, for random choices such as
            those of `augment`.
    """

    waves: torch.Tensor
    lengths: torch.Tensor
    names: tuple[str, ...]
    starts: tuple[int, ...]
    paths: tuple[tuple[int, int, int], ...]


class CropSampler:
    """An endless sequence of batches of random crops; batch n depends only on the seed and n.

    An utterance is chosen in proportion to its duration, and a crop's start uniformly among those
    of whole crops; an utterance that is shorter than a crop is used whole, padded with zeros. Large
    sources dominate by duration; `temperature` and `max_share` balance the sources. Within a
    source, choices are in proportion to duration.

    Args:
        store: the utterances.
        num_samples: of a crop.
        batch_size: of the whole batch, over all ranks.
        seed: from 0 to 2^64 - 1.
        rank, world_size: this process takes its part of every batch, so that ranks together have
            the batch of one process. Parts are consecutive rows, because quantizers concatenate the
            ranks' frames, and choose from them by position.
        temperature: a source's share is proportional to its duration to this power: 1 for
            proportional, 0 for equal shares (as the exponent 1/T of multilingual models, Conneau et
            al. 2020, https://arxiv.org/abs/1911.02116).
        max_share: maximal share of a source; the excess goes to the others. With so few sources
            that one must have more (a single source has everything), all have the same share.

    Raises:
        TrainingError: a setting is out of its range, or ranks do not divide the batch.
    """

    def __init__(
        self,
        store: SpeechStore,
        num_samples: int,
        batch_size: int,
        seed: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        temperature: float = 1.0,
        max_share: float = 1.0,
    ) -> None:
        if num_samples < 1 or batch_size < 1:
            raise TrainingError(
                f"expected at least one sample and one row, got {num_samples} and {batch_size}"
            )
        if not 0 <= rank < world_size or batch_size % world_size:
            raise TrainingError(
                f"rank {rank} of {world_size} can't take its part of {batch_size} rows; the batch "
                "must be a multiple of the number of ranks"
            )
        self.store = store
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        names = [entry.source or "" for entry in store.entries]
        sources = sorted(set(names))
        source = np.array([sources.index(name) for name in names])
        totals = np.bincount(source, store.lengths)
        shares = _shares(totals, temperature, max_share)
        #: Share of the crops of each source; "" stands for utterances without one.
        self.shares: dict[str, float] = dict(zip(sources, shares.tolist(), strict=True))
        self._ends = np.cumsum(store.lengths * (shares / totals)[source])
        draws("crop", (seed, 0, 0), 0)  # checks the seed

    def batch(self, number: int) -> CropBatch:
        """Return this rank's rows of batch `number`.

        Raises:
            TrainingError: the number is negative.
        """
        indices, starts, paths = [], [], []
        rows = self.batch_size // self.world_size
        for row in range(self.rank * rows, (self.rank + 1) * rows):
            path = (self.seed, number, row)
            which, where = draws("crop", path, 2)
            index = int(np.searchsorted(self._ends, which * self._ends[-1], side="right"))
            index = min(index, len(self.store) - 1)  # guard against rounding
            room = max(self.store.entries[index].length - self.num_samples, 0)
            indices.append(index)
            starts.append(int(where * (room + 1)))
            paths.append(path)
        return _gather(self.store, indices, starts, paths, self.num_samples)

    def batches(self, start: int = 0) -> Iterator[CropBatch]:
        """Yield batches `start`, `start` + 1, … endlessly."""
        while True:
            yield self.batch(start)
            start += 1


def validation_batches(
    store: SpeechStore,
    batch_size: int,
    max_samples: int,
    *,
    count: int | None = None,
    min_samples: int = 1,
    seed: int = 0,
) -> list[CropBatch]:
    """Return fixed validation batches: utterances, truncated to a limit, grouped by length.

    Utterances are chosen from the speakers in turn, so that a few of them have many voices;
    utterances without a speaker are grouped by source.

    Args:
        store: the utterances.
        batch_size: rows of a batch; the last may have fewer.
        max_samples: longer utterances are truncated.
        count: maximal number of utterances; default: all.
        min_samples: shorter utterances are left out (PESQ needs a quarter of a second).
        seed: another seed gives another choice.

    Raises:
        TrainingError: no utterance is long enough, or a setting is not positive.
    """
    if min(batch_size, max_samples, 1 if count is None else count) < 1:
        raise TrainingError(
            f"expected positive numbers, got a batch of {batch_size}, {max_samples} samples and "
            f"{count} utterances"
        )
    by_voice: dict[tuple[str, str], list[tuple[float, int]]] = {}
    for index, entry in enumerate(store.entries):
        if entry.length >= min_samples:
            voice = ("speaker", entry.speaker) if entry.speaker else ("source", entry.source or "")
            # Ordered by a hash of the name: further utterances do not change the order of these.
            order = float(draws(f"validation {entry.name}", (seed,), 1)[0])
            by_voice.setdefault(voice, []).append((order, index))
    rounds = sorted(
        (turn, order, index)
        for items in by_voice.values()
        for turn, (order, index) in enumerate(sorted(items))
    )
    if not rounds:
        raise TrainingError(f"no utterance of {store.folder} has {min_samples} samples")
    chosen = [index for _, _, index in rounds[:count]]
    chosen.sort(key=lambda index: (int(store.lengths[index]), index))
    batches = []
    for number, first in enumerate(range(0, len(chosen), batch_size)):
        indices = chosen[first : first + batch_size]
        width = min(max_samples, int(store.lengths[indices].max()))
        paths = [(seed, number, row) for row in range(len(indices))]
        batches.append(_gather(store, indices, [0] * len(indices), paths, width))
    return batches


def _gather(
    store: SpeechStore,
    indices: Sequence[int],
    starts: Sequence[int],
    paths: Sequence[tuple[int, int, int]],
    num_samples: int,
) -> CropBatch:
    waves = np.zeros((len(indices), num_samples), np.float32)
    lengths = []
    for row, (index, start) in enumerate(zip(indices, starts, strict=True)):
        crop = store.samples(index)[start : start + num_samples]
        np.multiply(crop, np.float32(2**-15), out=waves[row, : crop.shape[0]])
        lengths.append(crop.shape[0])
    return CropBatch(
        torch.from_numpy(waves),
        torch.tensor(lengths, dtype=torch.int64),
        tuple(store.entries[index].name for index in indices),
        tuple(starts),
        tuple(paths),
    )


def _shares(totals: np.ndarray, temperature: float, max_share: float) -> np.ndarray:
    """Return each source's share of the crops, from the durations."""
    if not (0 <= temperature < math.inf and 0 < max_share <= 1):
        raise TrainingError(
            f"temperature must not be negative and max_share lie in (0, 1], got {temperature} and "
            f"{max_share}"
        )
    if max_share * len(totals) < 1:
        return np.full(len(totals), 1 / len(totals))
    weights = (totals / totals.max()) ** temperature
    capped = np.zeros(len(totals), bool)
    shares = weights / weights.sum()
    # The excess of one source is distributed to the others, and may raise another above the limit.
    while (above := ~capped & (shares > max_share)).any():
        capped |= above
        rest = 1 - max_share * np.count_nonzero(capped)
        shares = np.where(capped, max_share, 0.0)
        if not capped.all():
            shares[~capped] = weights[~capped] * (rest / weights[~capped].sum())
    return shares / shares.sum()
