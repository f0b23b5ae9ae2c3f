"""The data of a run: speech stores built once and cached, and numbered batches, prepared ahead."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from ...audio.manifests import Utterance, collect
from ...errors import TrainingError
from ..data import CropBatch, SpeechStore, augment, build_store, validation_batches
from ..data.automatic_split import split_automatically
from ..data.store import utterance_name
from ..recipe import Recipe
from ..task import Batch
from ..training_set import TrainingSet
from .ranks import Ranks

_AHEAD = 3
_WORKERS = 2


def default_cache() -> Path:
    """Default folder for decoded data sets: $XDG_CACHE_HOME/syllabary/stores, or ~/.cache/…"""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "syllabary" / "stores"


class Feed:
    """The stores that a recipe uses, and batches from them.

    A folder or manifest without splits is divided by speakers: see `split_automatically`. A data
    set is decoded at its first use and kept under `cache`, in a folder whose name is derived
    from the manifest's path and the selection from it.

    Args:
        recipe: whose `data` is used.
        ranks: this process among others.
        cache: folder of the stores; default: `default_cache()`.
        progress: called with (files done, files in total) while a store is built.

    Raises:
        TrainingError: no manifest is named, or no utterance is left of it.
        ManifestError: a manifest can't be read.
    """

    def __init__(
        self,
        recipe: Recipe,
        ranks: Ranks,
        cache: Path | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.recipe, self.ranks = recipe, ranks
        data = recipe.data

        def store(
            place: str, items: Sequence[Utterance], split: str, without: Sequence[str]
        ) -> SpeechStore:
            chosen = [str(Path(place).resolve()), split, sorted(without), data.sample_rate]
            name = hashlib.sha256(json.dumps(chosen).encode()).hexdigest()[:16]
            return build_store(
                items,
                (cache or default_cache()) / name,
                data.sample_rate,
                split=split or None,
                exclude_sources=without,
                channels=data.channels,
                progress=progress,
            )

        #: What the user should know of how the data was prepared.
        self.notes: list[str] = []
        place = _place(data.manifest, "data.manifest", "SYLLABARY_SPEECH")
        items = self._with_splits(collect([place]))
        texts = {utterance_name(item): item.text for item in items if item.text}
        self.train = store(place, items, data.train_split, data.exclude_sources)
        self.valid = store(place, items, data.valid_split, data.exclude_sources)
        self.noise = None
        if data.augment.noise_probability > 0:
            noise = _place(data.noise, "data.noise", "SYLLABARY_NOISE")
            self.noise = store(noise, collect([noise]), data.noise_split, ())
        #: The training utterances and their crops, for the task's own statistics.
        self.training_set = TrainingSet(recipe, self.train, texts)
        self._mine = self.training_set.crops(ranks.rank, ranks.size)

    def _with_splits(self, items: Sequence[Utterance]) -> Sequence[Utterance]:
        """Divide the utterances into the recipe's splits, if they have none."""
        data = self.recipe.data
        wanted = data.train_split and data.valid_split
        if not wanted or any(item.split is not None for item in items):
            return items
        found = split_automatically([item for item in items if item.unreadable is None])
        self.notes.append(found.note)
        # Folders that can't be read stay, and are reported like files that can't.
        unreadable = tuple(item for item in items if item.unreadable is not None)
        parts = (data.train_split, found.train + unreadable), (data.valid_split, found.valid)
        return [replace(item, split=split) for split, part in parts for item in part]

    @property
    def stores(self) -> tuple[SpeechStore, ...]:
        """Return all stores."""
        return tuple(store for store in (self.train, self.valid, self.noise) if store is not None)

    def digests(self) -> dict[str, str]:
        """Return digests of the samples that a run's results depend on, independent of file
        paths.
        """
        found = {"train": self.train.samples_digest}
        if self.noise is not None:
            found["noise"] = self.noise.samples_digest
        return found

    def batch(self, number: int) -> Batch:
        """Return this rank's rows of a batch, on the CPU."""
        return self._augmented(self._mine.batch(number))

    def joined_batch(self, number: int) -> Batch:
        """Return the rows of all ranks."""
        return self._augmented(self.training_set.crops().batch(number))

    def _augmented(self, crops: CropBatch) -> Batch:
        data = self.recipe.data
        both = augment(
            crops.waves, crops.lengths, crops.paths, data.augment, data.sample_rate, self.noise
        )
        return Batch(both.inputs, both.targets, crops.lengths, crops.names, crops.starts)

    @contextmanager
    def batches(self, start: int) -> Iterator[Iterator[Batch]]:
        """Yield batches `start`, `start` + 1, … on the device, endlessly, prepared ahead by
        threads.
        """
        with ThreadPoolExecutor(_WORKERS, "syllabary-batches") as pool:
            try:
                yield self._made_ahead(pool, start)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _made_ahead(self, pool: ThreadPoolExecutor, start: int) -> Iterator[Batch]:
        waiting: list[Future[Batch]] = [pool.submit(self._ready, start + n) for n in range(_AHEAD)]
        number = start + _AHEAD
        while True:
            waiting.append(pool.submit(self._ready, number))
            number += 1
            yield on_device(waiting.pop(0).result(), self.ranks.device)

    def _ready(self, number: int) -> Batch:
        batch = self.batch(number)
        if self.ranks.device.type != "cuda":
            return batch
        return Batch(
            batch.inputs.pin_memory(),
            batch.targets.pin_memory(),
            batch.lengths.pin_memory(),
            batch.names,
            batch.starts,
        )

    def validation(self) -> list[CropBatch]:
        """Return the validation utterances, always the same."""
        config = self.recipe.validation
        rate = self.recipe.data.sample_rate
        return validation_batches(
            self.valid,
            batch_size=4,
            max_samples=int(config.max_seconds * rate),
            count=config.utterances,
            min_samples=int(config.min_seconds * rate),
        )


def _place(given: str, field: str, variable: str) -> str:
    """Return the path of data; the environment's where the recipe names none.

    Raises:
        TrainingError: neither does.
    """
    place = given or os.environ.get(variable, "")
    if not place:
        raise TrainingError(f"the recipe names no data: set {field} or ${variable}")
    return place


def on_device(batch: Batch, device: torch.device) -> Batch:
    """Move a batch to a device, asynchronously from pinned memory."""
    return Batch(
        batch.inputs.to(device, non_blocking=True),
        batch.targets.to(device, non_blocking=True),
        batch.lengths.to(device, non_blocking=True),
        batch.names,
        batch.starts,
    )
