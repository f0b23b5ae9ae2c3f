"""`TrainingSet`: the training speech of a run, and the only place that takes crops of it."""

from collections.abc import Iterator, Mapping

from .data.crops import CropBatch, CropSampler
from .data.store import SpeechStore
from .recipe import Recipe


class TrainingSet:
    """A store, and batches of random crops of it as the recipe samples them.

    Args:
        recipe: whose `data`, `batch_size` and `seed` are used.
        store: the training utterances.
        texts: their transcripts by name, where there are any.
    """

    def __init__(
        self, recipe: Recipe, store: SpeechStore, texts: Mapping[str, str] | None = None
    ) -> None:
        self.recipe, self.store, self.texts = recipe, store, texts or {}

    def crops(self, rank: int = 0, world_size: int = 1) -> CropSampler:
        """Return the batches that steps train on, before augmentation.

        Args:
            rank, world_size: see `CropSampler`.
        """
        return self._sampler(self.recipe.seed, rank, world_size)

    def samples(self, draw: int, count: int) -> Iterator[CropBatch]:
        """Yield whole batches for statistics, such as the latents that initialize a quantizer.

        They are the same on all ranks and in every call.

        Args:
            draw: from 1; each gives other batches, and all give others than `crops`.
            count: number of batches.
        """
        sampler = self._sampler(self.recipe.seed + draw)
        return (sampler.batch(number) for number in range(count))

    def _sampler(self, seed: int, rank: int = 0, world_size: int = 1) -> CropSampler:
        data = self.recipe.data
        return CropSampler(
            self.store,
            data.crop_samples,
            self.recipe.batch_size,
            seed,
            rank=rank,
            world_size=world_size,
            temperature=data.temperature,
            max_share=data.max_share,
        )
