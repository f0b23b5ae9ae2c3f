"""The data of a run: speech stores built once and cached, and numbered batches, prepared ahead."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import torch

from ...errors import TrainingError
from ..data import CropBatch, SpeechStore, augment, build_store, validation_batches
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

    A data set is decoded at its first use and kept under `cache`, in a folder whose name is derived
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

        def store(manifest: str, variable: str, split: str, without: Sequence[str]) -> SpeechStore:
            place = manifest or os.environ.get(variable, "")
            if not place:
                field = "data.noise" if variable == "SYLLABARY_NOISE" else "data.manifest"
                raise TrainingError(f"the recipe names no data: set {field} or ${variable}")
            chosen = [str(Path(place).resolve()), split, sorted(without), data.sample_rate]
            name = hashlib.sha256(json.dumps(chosen).encode()).hexdigest()[:16]
            return build_store(
                place,
                (cache or default_cache()) / name,
                data.sample_rate,
                split=split or None,
                exclude_sources=without,
                progress=progress,
            )

        self.train = store(
            data.manifest, "SYLLABARY_SPEECH", data.train_split, data.exclude_sources
        )
        self.valid = store(
            data.manifest, "SYLLABARY_SPEECH", data.valid_split, data.exclude_sources
        )
        self.noise = None
        if data.augment.noise_probability > 0:
            self.noise = store(data.noise, "SYLLABARY_NOISE", data.noise_split, ())
        #: The training utterances and their crops, for the task's own statistics.
        self.training_set = TrainingSet(recipe, self.train)
        self._mine = self.training_set.crops(ranks.rank, ranks.size)

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


def on_device(batch: Batch, device: torch.device) -> Batch:
    """Move a batch to a device, asynchronously from pinned memory."""
    return Batch(
        batch.inputs.to(device, non_blocking=True),
        batch.targets.to(device, non_blocking=True),
        batch.lengths.to(device, non_blocking=True),
        batch.names,
        batch.starts,
    )
