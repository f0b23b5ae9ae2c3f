"""Training of RVQ, FSQ and TS3 codecs."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...codecs.checkpoint import build, inference_state
from ...codecs.fsq.tokenizer import FSQCodec, FSQConfig
from ...codecs.interface import AudioTokenizer
from ...codecs.neural.codec import NeuralCodec
from ...codecs.neural.trunks.spectral import SpectralConfig, SpectralDecoder
from ...codecs.rvq.tokenizer import RVQCodec, RVQConfig
from ...codecs.ts3.tokenizer import TS3Codec, TS3Config
from ...errors import TrainingError
from ...quantizers.modules.gradient import pass_gradient
from ...quantizers.modules.interface import full_precision
from ...quantizers.modules.result import Quantized
from ...quantizers.modules.vector import VectorQuantizer
from ..data.draws import draws
from ..held_still import held_still
from ..losses import Distillation, DistillationConfig, TranscriptLoss, TranscriptLossConfig
from ..state import model_at
from ..task import Batch, Generated
from ..training_set import TrainingSet
from .growth import load_grown
from .quantizer_start import start_codebook, start_projections
from .supervised_task import SupervisedRecipe, SupervisedTask, rendered


@dataclass(frozen=True, kw_only=True)
class CodecRecipe(SupervisedRecipe):
    """Fields shared by the recipes of neural codecs.

    Attributes:
        quantize_from: step before which latents are not quantized, so that the codebooks
            are initialized from meaningful latents.
        keep_quantizer: use the quantizer of `start_from` if its configuration is the same;
            else a new one is initialized.
        start_batches: batches whose latents initialize a new quantizer, if it needs more than the
            first batch; 0 disables this.
        distillation: of a speech encoder's features into the first codebooks.
        transcript_weight: of the letters of the transcripts, which the same codebooks predict; 0
            disables it.
        transcripts: its letters.
        decoder_only: train the decoder alone: the codes, and tokens that exist, stay what they are.
    """

    quantize_from: int = 300
    keep_quantizer: bool = True
    start_batches: int = 0
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    transcript_weight: float = 0.0
    transcripts: TranscriptLossConfig = field(default_factory=TranscriptLossConfig)
    decoder_only: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        begins_whole = self.start_from and self.keep_quantizer and not self.quantize_from
        if self.decoder_only and not begins_whole:
            raise TrainingError(
                "decoder_only: expected start_from, a codec with codes, quantize_from=0 and "
                f"keep_quantizer=true; got start_from={self.start_from!r}, {self.quantize_from} "
                f"and {self.keep_quantizer}"
            )


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
        level_dropout: alternatives to the model's levels, for as many channels, one of which is
            used at some steps, so that levels may be chosen after training.
        dropout_share: share of these steps.
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


class TaughtCodec(nn.Module):
    """A codec, and layers that predict from its first codebooks what these learn to say.

    Args:
        codec: the codec.
        widths: of the layers, by their names in `HEADS`.
    """

    CODEC: ClassVar[str] = "codec"
    #: The layers, and what they find.
    HEADS: ClassVar[dict[str, str]] = {
        "features": "the teacher's features",
        "letters": "the letters of transcripts",
    }

    def __init__(self, codec: NeuralCodec, widths: Mapping[str, int]) -> None:
        super().__init__()
        self.codec = codec
        for name, width in widths.items():
            self.add_module(name, nn.Linear(codec.network.latent_dim, width))


class CodecTask(SupervisedTask[R]):
    """Trains encoder, quantizer and decoder together; subclasses make the codec.

    Spectral trunks are also supervised by the pitch.

    Args:
        recipe: see `CodecRecipe`.
    """

    generator: NeuralCodec | TaughtCodec

    def __init__(self, recipe: R) -> None:
        super().__init__(recipe)
        self.codec = self.generator = self.make(recipe)
        network = self.codec.network
        self.distillation: Distillation | None = None
        self.transcripts: TranscriptLoss | None = None
        widths: dict[str, int] = {}
        teaches = not recipe.decoder_only
        if recipe.distillation.weight and teaches:
            frames = recipe.data.crop_samples // network.hop
            if recipe.distillation.delay >= frames:
                raise TrainingError(
                    f"distillation.delay: expected less than the {frames} frames of a crop, got "
                    f"{recipe.distillation.delay}"
                )
            self.distillation = Distillation(recipe.distillation, network.sample_rate)
            widths["features"] = self.distillation.width
        if recipe.transcript_weight and teaches:
            self.transcripts = TranscriptLoss(recipe.transcripts)
            widths["letters"] = self.transcripts.width
        if widths:
            self.generator = TaughtCodec(self.codec, widths)
        step = network.head.step if isinstance(network, SpectralConfig) else network.hop
        self.supervise(step, network.hop, network.sample_rate)

    def make(self, recipe: R) -> NeuralCodec:
        raise NotImplementedError

    def prepare(self, data: TrainingSet) -> None:
        self._data = data
        if isinstance(self.codec.network, SpectralConfig):
            super().prepare(data)
        if self.distillation is not None:
            samples = data.samples(2, self.distillation.batches)
            self.distillation.standardise(crops.waves.to(self.codec.device) for crops in samples)
        if self.transcripts is not None:
            self.transcripts.prepare(data.store, data.texts, self.recipe.data.crop_samples)

    def notes(self) -> Sequence[str]:
        recipe, idle = self.recipe, []
        if recipe.decoder_only:
            weights = (recipe.distillation.weight, recipe.transcript_weight)
            names = ("distillation", "transcript_weight")
            idle = [name for name, weight in zip(names, weights, strict=True) if weight]
        return [f"{name} has no effect: decoder_only leaves codes as they are" for name in idle]

    def digests(self) -> dict[str, str]:
        found = super().digests()
        if self.distillation is not None:
            found["teacher"] = self.distillation.digest
        if self.transcripts is not None:
            found["transcripts"] = self.transcripts.digest
        return found

    def frozen(self, step: int) -> Iterable[nn.Module]:
        return (self.codec.encoder, self.codec.quantizer) if self.recipe.decoder_only else ()

    def generate(self, batch: Batch, step: int) -> Generated:
        network = self.codec.network
        if isinstance(network, SpectralConfig):
            return self._spectral(network, batch, step)
        codec, samples = self.codec, batch.inputs.shape[1]
        latents, _ = codec.encoder.latents(codec.encoder.windows_of(batch.inputs))
        latents, losses, figures = self._quantized(latents, batch, step)
        # Frames of zeros flush the decoder's delayed samples, as at the end of a stream.
        latents = functional.pad(latents, (0, 0, 0, network.decoder_look_ahead))
        wave, _ = codec.decoder.wave(latents)
        wave = wave[:, network.delay : network.delay + samples].float()
        losses |= self.supervision.spectral_losses(wave, batch)
        return Generated(wave, losses, figures)

    def _spectral(self, network: SpectralConfig, batch: Batch, step: int) -> Generated:
        codec, supervision = self.codec, self.supervision
        samples = batch.inputs.shape[1]
        pitch, voiced = supervision.pitch(batch)
        latents, guess, _ = codec.encoder(codec.encoder.windows_of(batch.inputs))
        latents, losses, figures = self._quantized(latents, batch, step)
        rate = network.head.rate
        assert isinstance(codec.decoder, SpectralDecoder)
        wave, voicing = rendered(
            codec.decoder, latents, network.delay, network.hop, samples,
            supervision.forced_pitch(pitch, step),
        )  # fmt: skip
        losses |= supervision.spectral_losses(wave, batch)
        ahead = network.encoder_look_ahead
        guess = guess[:, : guess.shape[1] - ahead]
        if not self.recipe.decoder_only:
            losses["pitch_guess"] = supervision.pitch_loss(
                guess, pitch[:, rate - 1 :: rate], voiced[:, rate - 1 :: rate]
            )
        losses |= supervision.voicing_losses(voicing, pitch, voiced)
        return Generated(wave, losses, figures)

    def _quantized(
        self, latents: Tensor, batch: Batch, step: int
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """Return the latents for the decoder, the quantizer's losses, and figures.

        Args:
            latents: (batch, look-ahead + frames, latent_dim), the encoder's output.
            batch: their batch.
            step: from 0.
        """
        latents = latents[:, self.codec.network.encoder_look_ahead :].float()
        if step < self.recipe.quantize_from:
            losses, figures = self._taught(latents, batch)
            return latents, losses, figures
        given = self.memory.get("quantizer") == "given"
        if step == self.recipe.quantize_from and self.recipe.start_batches and not given:
            self.start_quantizer(self._sampled_latents())
        quantized = self.quantize(latents, step)
        figures = {
            f"{name}/{stage}": value
            for name, values in quantized.statistics.items()
            for stage, value in enumerate(values)
        }
        if self.recipe.decoder_only:
            return quantized.quantized.detach(), {}, figures
        losses = dict(quantized.losses)
        if isinstance(self.generator, TaughtCodec):
            taught = self._taught(self.first_codebooks(latents, quantized), batch)
            losses, figures = losses | taught[0], figures | taught[1]
        return quantized.quantized, losses, figures

    def _taught(self, vectors: Tensor, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Losses of what the first codebooks learn to say, and figures.

        Args:
            vectors: of these codebooks, (batch, frames, latent_dim).
            batch: their batch.
        """
        losses: dict[str, Tensor] = {}
        figures: dict[str, Tensor] = {}
        hop, heads = self.codec.network.hop, self.generator
        if self.distillation is not None:
            found = heads.get_submodule("features")(vectors)
            losses["distillation"] = self.distillation(found, batch.targets, batch.lengths, hop)
        if self.transcripts is not None:
            scores = heads.get_submodule("letters")(vectors)
            loss, figures["with_transcript"] = self.transcripts(
                scores, batch.names, batch.lengths, hop
            )
            losses["transcripts"] = self.recipe.transcript_weight * loss
        return losses, figures

    def first_codebooks(self, latents: Tensor, quantized: Quantized) -> Tensor:
        """Return the vectors of the taught codebooks (batch, frames, latent_dim), with a
        gradient.
        """
        return quantized.quantized

    def quantize(self, latents: Tensor, step: int) -> Quantized:
        """Quantize latents (batch, frames, latent_dim) in training mode."""
        quantizer: Any = self.codec.quantizer
        return quantizer(latents)

    def start_quantizer(self, latents: Tensor) -> None:
        """Initialize the quantizer from latents (N, latent_dim), for `start_batches`."""
        raise NotImplementedError(f"{type(self).__name__} starts from the first batch")

    @torch.no_grad()
    def _sampled_latents(self) -> Tensor:
        """Return latents (N, latent_dim) of the training set, the same on all ranks."""
        codec, parts = self.codec, []
        for crops in self._data.samples(1, self.recipe.start_batches):
            waves = crops.waves.to(codec.device)
            latents, _ = codec.encoder.latents(codec.encoder.windows_of(waves))
            parts.append(latents[:, codec.network.encoder_look_ahead :].float().flatten(0, 1))
        return torch.cat(parts)

    def begin_with(self, weights: Mapping[str, Tensor]) -> Sequence[str]:
        """Load another codec's encoder and decoder, and its quantizer if the configuration is the
        same.

        An exported codec lacks state that only training needs, such as the codebooks' usage counts,
        which is newly initialized. Stacks may have more layers than the loaded ones.
        """
        codec, inside = self.codec, f"{TaughtCodec.CODEC}."
        head: dict[str, Tensor] = {}
        if any(name.startswith(inside) for name in weights):
            head = {k: v for k, v in weights.items() if not k.startswith(inside)}
            weights = {
                k.removeprefix(inside): v for k, v in weights.items() if k.startswith(inside)
            }
        quantizer: Any = codec.quantizer
        prefix, own = "quantizer.", quantizer.state_dict()
        given = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
        like = (
            self.recipe.keep_quantizer
            and given.keys() <= own.keys()
            and all(
                name in given and given[name].shape == tensor.shape
                for name, tensor in inference_state(quantizer).items()
            )
        )
        if self.recipe.decoder_only:
            self._check_same_codes(like)
        if like:
            quantizer.load_state_dict(given)
        rest = {k: v for k, v in weights.items() if not k.startswith(prefix)}
        load_grown(codec, rest | {prefix + k: v for k, v in quantizer.state_dict().items()})
        self.memory["quantizer"] = "given" if like else "new"
        anew = [] if like else ["the quantizer"]
        for name, layer in self.generator.named_children():
            if name not in TaughtCodec.HEADS:
                continue
            inside = f"{name}."
            found = {k.removeprefix(inside): v for k, v in head.items() if k.startswith(inside)}
            wanted = layer.state_dict()
            if {k: v.shape for k, v in found.items()} == {k: v.shape for k, v in wanted.items()}:
                layer.load_state_dict(found)
            else:
                anew.append(f"the layer that finds {TaughtCodec.HEADS[name]}")
        return anew

    def _check_same_codes(self, like: bool) -> None:
        """Refuse to train the decoder alone if codes would not be those of `start_from`."""
        place = self.recipe.start_from
        before = build(type(self.codec), model_at(Path(place)), place).token_config()
        now = self.codec.token_config()
        differing = [name for name in sorted(now) if now[name] != before.get(name)]
        if differing or not like:
            named = ", ".join(f"model.{name}" for name in differing) or "the quantizer"
            raise TrainingError(
                f"decoder_only: codes would not be those of {place}, as {named} differs"
            )

    def is_whole(self, step: int) -> bool:
        return step > self.recipe.quantize_from

    def tokenizer(self, generator: nn.Module) -> AudioTokenizer:
        codec = generator.codec if isinstance(generator, TaughtCodec) else generator
        assert isinstance(codec, NeuralCodec)
        return copy.deepcopy(codec).eval()


class RVQTask(CodecTask[RVQRecipe]):
    """Trains an `RVQCodec`."""

    Recipe = RVQRecipe

    def make(self, recipe: RVQRecipe) -> NeuralCodec:
        return RVQCodec(recipe.model, recipe.name)

    def quantize(self, latents: Tensor, step: int) -> Quantized:
        """Quantize; what the exclusively distilled codebooks see of the latents gets no gradient.

        The gradient passes through to the encoder, and reaches what these codebooks add to the
        sound.
        """
        assert isinstance(self.codec, RVQCodec)
        quantizer, config = self.codec.quantizer, self.recipe.distillation
        if self.recipe.decoder_only:
            # It doesn't train, so it counts no steps, and keeps all codebooks by itself.
            return quantizer(latents, num_codebooks=quantizer.draw_num_codebooks(step))
        teaches = isinstance(self.generator, TaughtCodec)
        taught = config.codebooks if teaches and config.exclusive else 0
        projections = [stage.project_in for stage in quantizer.stages[:taught]]
        with held_still(parameter for part in projections for parameter in part.parameters()):
            return super().quantize(latents, step)

    def first_codebooks(self, latents: Tensor, quantized: Quantized) -> Tensor:
        assert isinstance(self.codec, RVQCodec)
        quantizer, rest = self.codec.quantizer, latents
        count = min(self.recipe.distillation.codebooks, quantized.codes.shape[1])
        total: Tensor | None = None
        with full_precision(latents.device):
            for number in range(count):
                stage = quantizer.stage(number)
                vectors = stage.project_in(rest)
                chosen = functional.embedding(quantized.codes[:, number], stage.codebook.float())
                said = stage.project_out(pass_gradient(vectors, chosen, stage.config.passing))
                rest = rest - said
                total = said if total is None else total + said
        assert total is not None
        return total


class FSQTask(CodecTask[FSQRecipe]):
    """Trains an `FSQCodec`."""

    Recipe = FSQRecipe

    def make(self, recipe: FSQRecipe) -> NeuralCodec:
        return FSQCodec(recipe.model, recipe.name)

    def start_quantizer(self, latents: Tensor) -> None:
        assert isinstance(self.codec, FSQCodec)
        start_projections(self.codec.quantizer, latents)

    def quantize(self, latents: Tensor, step: int) -> Quantized:
        assert isinstance(self.codec, FSQCodec)
        quantizer, others = self.codec.quantizer, self.recipe.level_dropout
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
        assert isinstance(self.codec, TS3Codec)
        quantizer = self.codec.quantizer
        if isinstance(quantizer, VectorQuantizer):
            start_codebook(quantizer, latents)
        else:
            start_projections(quantizer, latents)
