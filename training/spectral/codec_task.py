"""Training of RVQ, FSQ and TS3 codecs."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...codecs.fsq.tokenizer import FSQCodec, FSQConfig
from ...codecs.interface import AudioTokenizer
from ...codecs.neural.codec import NeuralCodec
from ...codecs.neural.network import SpectralConfig, SpectralDecoder
from ...codecs.rvq.tokenizer import RVQCodec, RVQConfig
from ...codecs.ts3.tokenizer import TS3Codec, TS3Config
from ...quantizers.modules.result import Quantized
from ...quantizers.modules.vector import VectorQuantizer
from ..data.draws import draws
from ..data.store import SpeechStore
from ..task import Batch, Generated
from .quantizer_start import start_codebook, start_projections
from .supervised_task import SupervisedRecipe, SupervisedTask, rendered


@dataclass(frozen=True, kw_only=True)
class CodecRecipe(SupervisedRecipe):
    """What recipes of neural codecs share.

    Attributes:
        quantize_from: step before which latents go through unquantized, so that the codebooks
            start from latents that mean something.
        start_batches: batches whose latents say where the quantizer starts, for those that need
            more than the first batch; 0 leaves it as it is.
    """

    quantize_from: int = 300
    start_batches: int = 0


@dataclass(frozen=True, kw_only=True)
class RVQRecipe(CodecRecipe):
    """Recipe of an `RVQCodec`."""

    task: ClassVar[str] = "rvq"
    model: RVQConfig = field(default_factory=RVQConfig)


@dataclass(frozen=True, kw_only=True)
class FSQRecipe(CodecRecipe):
    """Recipe of an `FSQCodec`.

    Attributes:
        model: the codec.
        level_dropout: other levels, of as many channels, of which a step takes one in place of the
            model's, so that levels may be chosen after training.
        dropout_share: of the steps that do.
    """

    task: ClassVar[str] = "fsq"
    model: FSQConfig = field(default_factory=FSQConfig)
    level_dropout: tuple[tuple[int, ...], ...] = ()
    dropout_share: float = 0.3
    start_batches: int = 32


@dataclass(frozen=True, kw_only=True)
class TS3Recipe(CodecRecipe):
    """Recipe of a `TS3Codec`."""

    task: ClassVar[str] = "ts3"
    model: TS3Config = field(default_factory=TS3Config)
    start_batches: int = 64


R = TypeVar("R", bound=CodecRecipe)


class CodecTask(SupervisedTask[R]):
    """Encoder, quantizer and decoder together; a family makes the codec.

    A spectral trunk is also taught the pitch.

    Args:
        recipe: see `CodecRecipe`.
    """

    generator: NeuralCodec

    def __init__(self, recipe: R) -> None:
        super().__init__(recipe)
        self.generator = self.make(recipe)
        network = self.generator.network
        step = network.head.step if isinstance(network, SpectralConfig) else network.hop
        self.supervise(step)

    def make(self, recipe: R) -> NeuralCodec:
        raise NotImplementedError

    def prepare(self, store: SpeechStore) -> None:
        self._store = store
        if isinstance(self.generator.network, SpectralConfig):
            super().prepare(store)

    def generate(self, batch: Batch, step: int) -> Generated:
        network = self.generator.network
        if isinstance(network, SpectralConfig):
            return self._spectral(network, batch, step)
        codec, samples = self.generator, batch.inputs.shape[1]
        latents, _ = codec.encoder.latents(codec.encoder.windows_of(batch.inputs))
        latents, losses, figures = self._quantized(latents, step)
        # Frames of zeros push out what the decoder holds back, as at the end of a stream.
        latents = functional.pad(latents, (0, 0, 0, network.decoder_look_ahead))
        wave, _ = codec.decoder.wave(latents)
        wave = wave[:, network.delay : network.delay + samples].float()
        losses |= self.supervision.spectral_losses(wave, batch)
        return Generated(wave, losses, figures)

    def _spectral(self, network: SpectralConfig, batch: Batch, step: int) -> Generated:
        codec, supervision = self.generator, self.supervision
        samples = batch.inputs.shape[1]
        pitch, voiced = supervision.pitch(batch)
        latents, guess, _ = codec.encoder(codec.encoder.windows_of(batch.inputs))
        latents, losses, figures = self._quantized(latents, step)
        rate = network.head.rate
        assert isinstance(codec.decoder, SpectralDecoder)
        wave, logits = rendered(
            codec.decoder, latents, network.delay, network.hop, samples,
            supervision.forced_pitch(pitch, step),
        )  # fmt: skip
        losses |= supervision.spectral_losses(wave, batch)
        ahead = network.encoder_look_ahead
        guess = guess[:, : guess.shape[1] - ahead]
        losses["pitch_guess"] = supervision.pitch_loss(
            guess, pitch[:, rate - 1 :: rate], voiced[:, rate - 1 :: rate]
        )
        losses["pitch"] = supervision.pitch_loss(logits, pitch, voiced)
        return Generated(wave, losses, figures)

    def _quantized(
        self, latents: Tensor, step: int
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """Latents of the frames as the decoder gets them, the quantizer's losses, and figures.

        Args:
            latents: (batch, look-ahead + frames, latent_dim) as the encoder gives them.
            step: from 0.
        """
        latents = latents[:, self.generator.network.encoder_look_ahead :].float()
        if step < self.recipe.quantize_from:
            return latents, {}, {}
        if step == self.recipe.quantize_from and self.recipe.start_batches:
            self.start_quantizer(self._sampled_latents())
        quantized = self.quantize(latents, step)
        figures = {
            f"{name}/{stage}": value
            for name, values in quantized.statistics.items()
            for stage, value in enumerate(values)
        }
        return quantized.quantized, dict(quantized.losses), figures

    def quantize(self, latents: Tensor, step: int) -> Quantized:
        """Latents (batch, frames, latent_dim) through the quantizer, in training mode."""
        quantizer: Any = self.generator.quantizer
        return quantizer(latents)

    def start_quantizer(self, latents: Tensor) -> None:
        """Give the quantizer its start from latents (N, latent_dim), for `start_batches`."""
        raise NotImplementedError(f"{type(self).__name__} starts from the first batch")

    @torch.no_grad()
    def _sampled_latents(self) -> Tensor:
        """Latents (N, latent_dim) of the training set, the same on all ranks."""
        recipe, codec = self.recipe, self.generator
        crops, parts = recipe.crops(self._store, recipe.seed + 1), []
        for number in range(recipe.start_batches):
            waves = crops.batch(number).waves.to(codec.device)
            latents, _ = codec.encoder.latents(codec.encoder.windows_of(waves))
            parts.append(latents[:, codec.network.encoder_look_ahead :].float().flatten(0, 1))
        return torch.cat(parts)

    def begin_with(self, weights: Mapping[str, Tensor]) -> None:
        """Another codec's encoder and decoder, and its quantizer if it is of the same kind."""
        codec = self.generator
        if any(
            name.startswith("quantizer.") and name not in weights for name in codec.state_dict()
        ):
            own = {k: v for k, v in codec.state_dict().items() if k.startswith("quantizer.")}
            weights = {k: v for k, v in weights.items() if not k.startswith("quantizer.")} | own
        codec.load_state_dict(weights)

    def is_whole(self, step: int) -> bool:
        return step > self.recipe.quantize_from

    def tokenizer(self, generator: nn.Module) -> AudioTokenizer:
        codec = copy.deepcopy(generator)
        assert isinstance(codec, NeuralCodec)
        return codec.eval()


class RVQTask(CodecTask[RVQRecipe]):
    """Trains an `RVQCodec`."""

    Recipe = RVQRecipe

    def make(self, recipe: RVQRecipe) -> NeuralCodec:
        return RVQCodec(recipe.model, recipe.name)


class FSQTask(CodecTask[FSQRecipe]):
    """Trains an `FSQCodec`."""

    Recipe = FSQRecipe

    def make(self, recipe: FSQRecipe) -> NeuralCodec:
        return FSQCodec(recipe.model, recipe.name)

    def start_quantizer(self, latents: Tensor) -> None:
        assert isinstance(self.generator, FSQCodec)
        start_projections(self.generator.quantizer, latents)

    def quantize(self, latents: Tensor, step: int) -> Quantized:
        assert isinstance(self.generator, FSQCodec)
        quantizer, others = self.generator.quantizer, self.recipe.level_dropout
        # The same on all ranks, so not by torch's generators.
        dropped, which = draws("levels", (self.recipe.seed, step), 2)
        if others and dropped < self.recipe.dropout_share:
            quantizer = quantizer.with_levels(others[int(which * len(others))])
        quantized: Quantized = quantizer(latents)
        return quantized


class TS3Task(CodecTask[TS3Recipe]):
    """Trains a `TS3Codec`."""

    Recipe = TS3Recipe

    def make(self, recipe: TS3Recipe) -> NeuralCodec:
        return TS3Codec(recipe.model, recipe.name)

    def start_quantizer(self, latents: Tensor) -> None:
        assert isinstance(self.generator, TS3Codec)
        quantizer = self.generator.quantizer
        if isinstance(quantizer, VectorQuantizer):
            start_codebook(quantizer, latents)
        else:
            start_projections(quantizer, latents)
