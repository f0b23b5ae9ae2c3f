"""Shared by the tasks of codecs and of vocoders: their supervision, and the discriminators."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...codecs.neural.trunks.spectral import SpectralDecoder
from ...errors import TrainingError
from ..discriminators import Discriminators
from ..recipe import Recipe
from ..task import Batch, Generated, TrainingTask, block_matrices
from ..training_set import TrainingSet
from .supervision import Supervision, SupervisionConfig, Voicing


@dataclass(frozen=True, kw_only=True)
class SupervisedRecipe(Recipe):
    """A recipe with a `Supervision`.

    Attributes:
        supervision: losses.
    """

    supervision: SupervisionConfig = field(default_factory=SupervisionConfig)


S = TypeVar("S", bound=SupervisedRecipe)


class SupervisedTask(TrainingTask[S]):
    """A task with a `Supervision`; a subclass makes the generator and calls `supervise`."""

    discriminator: Discriminators | None

    def supervise(self, step: int, hop: int, sample_rate: int) -> None:
        """Make losses, and discriminators if the recipe has them.

        Args:
            step: samples between the points of the pitch.
            hop: samples of a frame.
            sample_rate: of the model, in Hz.

        Raises:
            TrainingError: data or losses of another rate, or crops that are not whole frames.
        """
        config, data = self.recipe.supervision, self.recipe.data
        rates = {"data": data.sample_rate, "supervision.mel": config.mel.sample_rate}
        if config.envelope_weight:
            rates["supervision.envelope"] = config.envelope.sample_rate
        if config.loudness_weight:
            rates["supervision.loudness"] = config.loudness.sample_rate
        for name, rate in rates.items():
            if rate != sample_rate:
                raise TrainingError(
                    f"{name}.sample_rate is {rate}, and the model's is {sample_rate}"
                )
        if data.crop_samples % hop:
            nearest = max(1, round(data.crop_samples / hop)) * hop
            raise TrainingError(
                f"data.crop_samples: expected a multiple of the frame, {hop} samples, such as "
                f"{nearest}; got {data.crop_samples}"
            )
        self.supervision = Supervision(config, step, sample_rate)
        self.discriminator = (
            Discriminators(config.discriminators) if self.recipe.adversarial else None
        )

    def prepare(self, data: TrainingSet) -> None:
        self.supervision.prepare(data.store)

    def digests(self) -> dict[str, str]:
        return self.supervision.digests()

    def hidden_matrices(self) -> Iterable[nn.Parameter]:
        """Return the weights of the linear layers in all blocks."""
        return block_matrices(self.generator)

    def discriminator_losses(self, batch: Batch, wave: Tensor, step: int) -> dict[str, Tensor]:
        assert self.discriminator is not None
        return self.supervision.discriminator_losses(self.discriminator, batch, wave)

    def adversarial_losses(
        self, batch: Batch, generated: Generated, step: int
    ) -> dict[str, Tensor]:
        assert self.discriminator is not None
        return self.supervision.adversarial_losses(self.discriminator, batch, generated)


def rendered(
    decoder: SpectralDecoder,
    latents: Tensor,
    delay: int,
    hop: int,
    samples: int,
    pitch: Tensor | None,
) -> tuple[Tensor, Voicing]:
    """Decode a crop, including delayed samples: the wave (batch, samples), and its voicing.

    As in a stream, frames of zeros follow the last one to flush the decoder's delayed samples; so
    it learns to extrapolate for that long.

    Args:
        decoder: of any latents.
        latents: (batch, frames, channels).
        delay: the decoder's delay in samples.
        hop: samples of a frame.
        samples: of the crop.
        pitch: (batch, points) to use instead of the decoder's own.
    """
    step = decoder.head.config.step
    ahead = (delay - decoder.head.config.delay) // step
    latents = functional.pad(latents, (0, 0, 0, -(-delay // hop)))
    total, points = latents.shape[1] * hop, samples // step
    if pitch is not None:
        after = total // step - ahead - points
        pitch = functional.pad(pitch, (ahead, after), mode="replicate")
    noise = torch.randn(latents.shape[0], total, device=latents.device)
    result, _ = decoder(latents, None, pitch, noise)
    voicing = Voicing(
        *(
            x[:, ahead : ahead + points]
            for x in (result.pitch_logits, decoder.head.pulse_level(result))
        )
    )
    return result.wave[:, delay : delay + samples], voicing
