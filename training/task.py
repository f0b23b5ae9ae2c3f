"""`TrainingTask`: what a family of models supplies, so that one loop trains them all.

A task is a recipe turned into modules and losses::

    @dataclass(frozen=True, kw_only=True)
    class CodecRecipe(Recipe):
        task: ClassVar[str] = "codec"           # its name in `recipes.TASKS`
        model: CodecConfig = field(default_factory=CodecConfig)
        mel_weight: float = 15.0

    class CodecTask(TrainingTask[CodecRecipe]):
        Recipe = CodecRecipe

        def __init__(self, recipe: CodecRecipe) -> None:
            super().__init__(recipe)
            self.generator = Codec(recipe.model)                    # what is trained and averaged
            self.discriminator = Discriminators(recipe.judges)      # optional
            self.mel = MultiScaleMelLoss()                          # neither trained nor saved

        def generate(self, batch, step):
            wave, commitment = self.generator(batch.inputs, batch.lengths)
            mel = self.mel(wave, batch.targets, batch.lengths)
            return Generated(wave, {"mel": self.recipe.mel_weight * mel, "commitment": commitment})

        def tokenizer(self, generator):
            return CodecTokenizer.around(copy.deepcopy(generator))

The loop (`training.loop`) does the rest: data, order, clipping, averages, ranks, logs and states.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Generic, TypeVar

from torch import Tensor, nn

from ..codecs.interface import AudioTokenizer
from ..codecs.neural.layers.causal import CausalBlock
from ..codecs.neural.layers.transformer import TransformerLayer
from .data.store import SpeechStore
from .recipe import Recipe

R = TypeVar("R", bound=Recipe)


@dataclass(frozen=True)
class Batch:
    """This rank's part of a batch, on the task's device.

    Attributes:
        inputs: (batch, samples) float32, what the model hears.
        targets: (batch, samples) float32, what it should give back; differs from `inputs` only
            where the recipe's augmentation says so.
        lengths: (batch,) int64, valid samples; zeros follow.
        names: of the utterances.
        starts: first sample of each crop in its utterance.
    """

    inputs: Tensor
    targets: Tensor
    lengths: Tensor
    names: tuple[str, ...]
    starts: tuple[int, ...]


@dataclass(frozen=True)
class Generated:
    """What the generator made of a batch.

    Attributes:
        wave: (batch, samples), the prediction with its graph. Discriminators hear it, and a
            balancer weighs the gradients that reach it. A task without either may give any
            tensor with a graph.
        losses: scalars by name, weights applied; the loop minimises their sum. Those that the
            recipe's balancer names go through it instead, where fractions replace weights.
        figures: scalars by name that are only logged (codebook usage, perplexity, …).
    """

    wave: Tensor
    losses: dict[str, Tensor]
    figures: dict[str, Tensor] = field(default_factory=dict)


class TrainingTask(nn.Module, ABC, Generic[R]):
    """Modules and losses of a recipe; a subclass sets `Recipe` and supplies the methods below.

    The loop saves, averages (EMA) and optimises `generator`, and saves and optimises
    `discriminator`. Other submodules (losses, teachers) only follow it to the device.

    A step must be a function of the state before it: random numbers come from torch's global
    generators, which the loop seeds from (seed, step, rank) before each step, and nothing is kept
    between steps but the tensors of the two modules. What must be the same on all ranks may not be
    drawn from those generators.

    Weights are made from the recipe's seed: the loop seeds torch before it builds the task.

    Attributes:
        memory: plain values that the loop saves and restores with the modules: what `begin_with`
            found that later steps must know.

    Args:
        recipe: of the class's `Recipe`.
    """

    Recipe: ClassVar[type[Recipe]]

    generator: nn.Module
    discriminator: nn.Module | None

    def __init__(self, recipe: R) -> None:
        super().__init__()
        self.recipe = recipe
        self.memory: dict[str, str] = {}
        # Not as an attribute of the class, which would hide the submodule.
        self.register_module("discriminator", None)

    def prepare(self, store: SpeechStore) -> None:
        """Make what the task needs of the training set beside its samples.

        Called once, before the first step, on every rank.
        """

    def digests(self) -> dict[str, str]:
        """Of what `prepare` found or read that steps depend on, by name.

        A run is not gone on with where one has changed.
        """
        return {}

    def begin_with(self, weights: Mapping[str, Tensor]) -> Sequence[str]:
        """Take another run's averaged weights, for recipes with `start_from`.

        Returns:
            What of the generator those weights do not have, and therefore begins anew, in words.

        Raises:
            RuntimeError: as `load_state_dict` does.
        """
        self.generator.load_state_dict(weights)
        return ()

    def hidden_matrices(self) -> Iterable[nn.Parameter]:
        """Weights (out, in) of the generator's hidden layers, for recipes that use Muon."""
        return ()

    @abstractmethod
    def generate(self, batch: Batch, step: int) -> Generated:
        """One pass of the generator, and the losses that need no discriminator.

        Runs under autocast where the recipe says ``bf16``, in training mode.

        Args:
            batch: this rank's rows. Losses are means over rows: the loop averages gradients over
                ranks, which then are those of the joined batch.
            step: from 0; a recipe's stages may depend on it.
        """

    def discriminator_losses(self, batch: Batch, wave: Tensor, step: int) -> dict[str, Tensor]:
        """Losses of the discriminator by name, weights applied; they are summed.

        Called before the generator's step, from the recipe's `adversarial.start_step` on.

        Args:
            batch: as `generate` had it.
            wave: the prediction, without graph.
            step: from 0.
        """
        raise NotImplementedError(f"{type(self).__name__} has no discriminator_losses")

    def adversarial_losses(
        self, batch: Batch, generated: Generated, step: int
    ) -> dict[str, Tensor]:
        """Further losses of the generator, by the discriminator as it is after its own step.

        The discriminator's parameters take no gradient meanwhile.
        """
        raise NotImplementedError(f"{type(self).__name__} has no adversarial_losses")

    def frozen(self, step: int) -> Iterable[nn.Module]:
        """Parts of the generator that are not trained at this step, for recipes with stages.

        They are in evaluation mode, and their parameters take no gradient and no weight decay.
        A part that was frozen and is not any more goes on with the optimizer's old averages.
        """
        return ()

    def is_whole(self, step: int) -> bool:
        """Whether, after so many steps, all parts of the tokenizer have learned something.

        Before, it is not validated, and no score can hold `best/`.
        """
        return True

    @abstractmethod
    def tokenizer(self, generator: nn.Module) -> AudioTokenizer:
        """A tokenizer with a generator's weights, for validation and for `best/` and `last/`.

        Args:
            generator: like `self.generator`, with averaged weights, in evaluation mode. The loop
                goes on to change it, and a tokenizer's weights must not change: copy it.
        """


def block_matrices(module: nn.Module) -> Iterator[nn.Parameter]:
    """The weights of the linear layers inside all blocks, for `TrainingTask.hidden_matrices`."""
    for block in module.modules():
        if isinstance(block, CausalBlock | TransformerLayer):
            for weight in block.matrices():
                assert isinstance(weight, nn.Parameter)
                yield weight
