"""Training of RVQ and FSQ codecs."""

import copy
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...codecs.fsq.tokenizer import FSQCodec, FSQConfig
from ...codecs.interface import AudioTokenizer
from ...codecs.neural.causal import CausalBlock
from ...codecs.neural.codec import SpectralCodec
from ...codecs.neural.network import SpectralDecoder
from ...codecs.rvq.tokenizer import RVQCodec, RVQConfig
from ...quantizers.modules.result import Quantized
from ..data.store import SpeechStore
from ..discriminators import Discriminators
from ..recipe import Recipe
from ..task import Batch, Generated, Task
from .supervision import Supervision, SupervisionConfig


@dataclass(frozen=True, kw_only=True)
class SpectralRecipe(Recipe):
    """What recipes of spectral codecs share.

    Attributes:
        supervision: losses.
        quantize_from: step before which latents go through unquantized, so that the codebooks
            start from latents that mean something.
    """

    supervision: SupervisionConfig = field(default_factory=SupervisionConfig)
    quantize_from: int = 300


@dataclass(frozen=True, kw_only=True)
class RVQRecipe(SpectralRecipe):
    """Recipe of an `RVQCodec`."""

    task: ClassVar[str] = "rvq"
    model: RVQConfig = RVQConfig()


@dataclass(frozen=True, kw_only=True)
class FSQRecipe(SpectralRecipe):
    """Recipe of an `FSQCodec`."""

    task: ClassVar[str] = "fsq"
    model: FSQConfig = FSQConfig()


R = TypeVar("R", bound=SpectralRecipe)


class SpectralTask(Task[R]):
    """Encoder, quantizer and decoder together; a family makes the codec.

    Args:
        recipe: see `SpectralRecipe`.
    """

    generator: SpectralCodec
    discriminator: Discriminators | None

    def __init__(self, recipe: R) -> None:
        super().__init__(recipe)
        self.generator = self.make(recipe)
        head = self.generator.network.head
        self.supervision = Supervision(recipe.supervision, head.step)
        self.discriminator = (
            Discriminators(recipe.supervision.discriminators) if recipe.adversarial else None
        )

    def make(self, recipe: R) -> SpectralCodec:
        raise NotImplementedError

    def prepare(self, store: SpeechStore) -> None:
        self.supervision.prepare(store)

    def hidden_matrices(self) -> Iterable[nn.Parameter]:
        return hidden_matrices(self.generator)

    def generate(self, batch: Batch, step: int) -> Generated:
        codec, supervision = self.generator, self.supervision
        network, samples = codec.network, batch.inputs.shape[1]
        pitch, voiced = supervision.pitch(batch)
        latents, guess, _ = codec.encoder(codec.encoder.windows_of(batch.inputs))
        latents = latents[:, network.encoder_look_ahead :].float()
        losses: dict[str, Tensor] = {}
        figures: dict[str, Tensor] = {}
        if step >= self.recipe.quantize_from:
            quantized = self.quantize(latents)
            latents, losses = quantized.quantized, dict(quantized.losses)
            figures = {
                f"{name}/{stage}": value
                for name, values in quantized.statistics.items()
                for stage, value in enumerate(values)
            }
        rate = network.head.rate
        wave, logits = rendered(
            codec.decoder, latents, network.delay, network.hop, samples,
            pitch if step < self.recipe.supervision.own_pitch_from else None,
        )  # fmt: skip
        losses |= supervision.spectral_losses(wave, batch)
        ahead = network.encoder_look_ahead
        guess = guess[:, : guess.shape[1] - ahead]
        losses["pitch_guess"] = supervision.pitch_loss(
            guess, pitch[:, rate - 1 :: rate], voiced[:, rate - 1 :: rate]
        )
        losses["pitch"] = supervision.pitch_loss(logits, pitch, voiced)
        return Generated(wave, losses, figures)

    def quantize(self, latents: Tensor) -> Quantized:
        quantizer: Any = self.generator.quantizer
        return quantizer(latents)  # type: ignore[no-any-return]

    def discriminator_losses(self, batch: Batch, wave: Tensor, step: int) -> dict[str, Tensor]:
        assert self.discriminator is not None
        return self.supervision.discriminator_losses(self.discriminator, batch, wave)

    def adversarial_losses(
        self, batch: Batch, generated: Generated, step: int
    ) -> dict[str, Tensor]:
        assert self.discriminator is not None
        return self.supervision.adversarial_losses(self.discriminator, batch, generated)

    def tokenizer(self, generator: nn.Module) -> AudioTokenizer:
        codec = copy.deepcopy(generator)
        assert isinstance(codec, SpectralCodec)
        return codec.eval()


class RVQTask(SpectralTask[RVQRecipe]):
    """Trains an `RVQCodec`."""

    Recipe = RVQRecipe

    def make(self, recipe: RVQRecipe) -> SpectralCodec:
        return RVQCodec(recipe.model, recipe.name)


class FSQTask(SpectralTask[FSQRecipe]):
    """Trains an `FSQCodec`."""

    Recipe = FSQRecipe

    def make(self, recipe: FSQRecipe) -> SpectralCodec:
        return FSQCodec(recipe.model, recipe.name)


def hidden_matrices(module: nn.Module) -> Iterable[nn.Parameter]:
    """The weights of the linear layers inside all blocks."""
    for block in module.modules():
        if isinstance(block, CausalBlock):
            yield block.widen.weight
            yield block.narrow.weight


def rendered(
    decoder: SpectralDecoder,
    latents: Tensor,
    delay: int,
    hop: int,
    samples: int,
    pitch: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The wave (batch, samples) and the pitch logits of a crop, with what lags behind it.

    As in a stream, frames of zeros follow the last one to push out what the decoder holds back; so
    it learns to go on by itself for that long.

    Args:
        decoder: of any latents.
        latents: (batch, frames, channels).
        delay: samples that the decoder lags.
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
    logits = result.pitch_logits[:, ahead : ahead + points]
    return result.wave[:, delay : delay + samples], logits
