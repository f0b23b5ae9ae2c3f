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
from .recipe import Recipe
from .training_set import TrainingSet

R = TypeVar("R", bound=Recipe)


@dataclass(frozen=True)
class Batch:
    """This rank's part of a batch, on the task's device.

    Attributes:
        inputs: (batch, samples) float32, the model's input.
        targets: (batch, samples) float32, the desired output; differs from `inputs` only if the
            recipe's augmentation requires it.
        lengths: (batch,) int64, valid samples, followed by zeros.
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
    """The generator's output for a batch.

    Attributes:
        wave: (batch, samples), the prediction with its graph, the input of discriminators; a
            balancer weighs the gradients with respect to it. A task without either may give any
            tensor with a graph.
        losses: scalars by name, multiplied by their weights; the loop minimises their sum. Those
            named in the recipe's balancer are combined by it instead, with fractions for weights.
        figures: scalars by name that are only logged (codebook usage, perplexity, …).
    """

    wave: Tensor
    losses: dict[str, Tensor]
    figures: dict[str, Tensor] = field(default_factory=dict)


class TrainingTask(nn.Module, ABC, Generic[R]):
    """Modules and losses of a recipe; a subclass sets `Recipe` and implements the methods below.

    The loop saves, averages (EMA) and optimises `generator`, and saves and optimises
    `discriminator`. Other submodules (losses, teachers) are only moved to the device.

    A step must be a function of the state before it: random numbers come from torch's global
    generators, which the loop seeds from (seed, step, rank) before each step, and nothing is kept
    between steps except the tensors of the two modules. Random choices that must be the same on all
    ranks may not use those generators.

    Weights are initialized from the recipe's seed: the loop seeds torch before it builds the task.

    Attributes:
        memory: plain values that the loop saves and restores with the modules, such as results of
            `begin_with` that later steps need.

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
        # Not a class attribute, which would hide the submodule.
        self.register_module("discriminator", None)

    def prepare(self, data: TrainingSet) -> None:
        """Compute what the task needs of the training set besides its samples.

        Called once, before the first step, on every rank.

        Args:
            data: the utterances (`data.store`), and batches of crops of them for statistics.
        """

    def notes(self) -> Sequence[str]:
        """Return what the user should know of the recipe, such as settings without effect."""
        return ()

    def digests(self) -> dict[str, str]:
        """Return digests, by name, of data from `prepare` or other files that steps depend on.

        A run is not resumed if one has changed.
        """
        return {}

    def begin_with(self, weights: Mapping[str, Tensor]) -> Sequence[str]:
        """Load another run's averaged weights, for recipes with `start_from`.

        Returns:
            Descriptions of the generator's parts that are not among the weights and are therefore
                newly
            initialized.

        Raises:
            RuntimeError: as `load_state_dict` does.
        """
        self.generator.load_state_dict(weights)
        return ()

    def hidden_matrices(self) -> Iterable[nn.Parameter]:
        """Return the weights (out, in) of the generator's hidden layers, for recipes that
        use Muon.
        """
        return ()

    @abstractmethod
    def generate(self, batch: Batch, step: int) -> Generated:
        """Run the generator, and compute the losses that need no discriminator.

        Runs in training mode, under autocast if the recipe has ``bf16``.

        Args:
            batch: this rank's rows. Losses must be means over rows: the loop averages gradients
                over
                ranks, which gives those of the whole batch.
            step: from 0; a recipe's stages may depend on it.
        """

    def discriminator_losses(self, batch: Batch, wave: Tensor, step: int) -> dict[str, Tensor]:
        """Compute the losses of the discriminator by name, multiplied by their weights; they are
        summed.

        Called before the generator's step, from the recipe's `adversarial.start_step` on.

        Args:
            batch: the same as for `generate`.
            wave: the prediction, without graph.
            step: from 0.
        """
        raise NotImplementedError(f"{type(self).__name__} has no discriminator_losses")

    def adversarial_losses(
        self, batch: Batch, generated: Generated, step: int
    ) -> dict[str, Tensor]:
        """Compute the generator's adversarial losses, with the discriminator after its own step.

        The discriminator's parameters get no gradient.
        """
        raise NotImplementedError(f"{type(self).__name__} has no adversarial_losses")

    def frozen(self, step: int) -> Iterable[nn.Module]:
        """Return the parts of the generator that are not trained at this step, for recipes with
        stages.

        They are in evaluation mode, and their parameters get no gradient and no weight decay. A
        part that is trained again continues with the optimizer's old averages.
        """
        return ()

    def is_whole(self, step: int) -> bool:
        """Return whether, after so many steps, all parts of the tokenizer have been trained.

        Before, it is not validated, and `best/` is not written.
        """
        return True

    def caution(self, step: int) -> str:
        """Say what whoever loads the tokenizer of this step must know; "" is nothing."""
        if self.is_whole(step):
            return ""
        return (
            f"saved at step {step}, before its codebooks started to learn: its codes mean nothing "
            "yet; the command that trained it goes on with it"
        )

    @abstractmethod
    def tokenizer(self, generator: nn.Module) -> AudioTokenizer:
        """Make a tokenizer with a generator's weights, for validation and for `best/` and `last/`.

        Args:
            generator: like `self.generator`, with averaged weights, in evaluation mode. Copy it:
                the
                loop continues to change it, and a tokenizer's weights must not change.
        """


def block_matrices(module: nn.Module) -> Iterator[nn.Parameter]:
    """Return the weights of the linear layers in all blocks, for `TrainingTask.hidden_matrices`."""
    for block in module.modules():
        if isinstance(block, CausalBlock | TransformerLayer):
            for weight in block.matrices():
                assert isinstance(weight, nn.Parameter)
                yield weight
