"""What the tasks of codecs and of vocoders share: their supervision, and the discriminators."""

from dataclasses import dataclass, field
from typing import TypeVar

from torch import Tensor

from ..data import SpeechStore
from ..discriminators import Discriminators
from ..recipe import Recipe
from ..task import Batch, Generated, Task
from .supervision import Supervision, SupervisionConfig


@dataclass(frozen=True, kw_only=True)
class SupervisedRecipe(Recipe):
    """A recipe with a `Supervision`.

    Attributes:
        supervision: losses.
    """

    supervision: SupervisionConfig = field(default_factory=SupervisionConfig)


S = TypeVar("S", bound=SupervisedRecipe)


class SupervisedTask(Task[S]):
    """A task with a `Supervision`; a subclass makes the generator and calls `supervise`."""

    discriminator: Discriminators | None

    def supervise(self, step: int) -> None:
        """Make losses, and discriminators where the recipe has them.

        Args:
            step: samples between the points of the pitch.
        """
        config = self.recipe.supervision
        self.supervision = Supervision(config, step)
        self.discriminator = (
            Discriminators(config.discriminators) if self.recipe.adversarial else None
        )

    def prepare(self, store: SpeechStore) -> None:
        self.supervision.prepare(store)

    def discriminator_losses(self, batch: Batch, wave: Tensor, step: int) -> dict[str, Tensor]:
        assert self.discriminator is not None
        return self.supervision.discriminator_losses(self.discriminator, batch, wave)

    def adversarial_losses(
        self, batch: Batch, generated: Generated, step: int
    ) -> dict[str, Tensor]:
        assert self.discriminator is not None
        return self.supervision.adversarial_losses(self.discriminator, batch, generated)
