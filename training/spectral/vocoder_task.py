"""Training of the vocoder from dMel's levels to speech."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from ...audio.mel import MelSpectrogram
from ...codecs.dmel.config import DMelConfig
from ...codecs.dmel.neural_vocoder import NeuralVocoder, NeuralVocoderConfig
from ...codecs.dmel.tokenizer import DMel
from ...codecs.interface import AudioTokenizer
from ...errors import TrainingError
from ..task import Batch, Generated
from .growth import load_grown
from .supervised_task import SupervisedRecipe, SupervisedTask, rendered


@dataclass(frozen=True, kw_only=True)
class VocoderRecipe(SupervisedRecipe):
    """Recipe of a `NeuralVocoder`.

    Attributes:
        tokens: the dMel tokenizer whose levels are its input.
        model: the vocoder.
    """

    task: ClassVar[str] = "dmel-vocoder"
    tokens: DMelConfig = field(default_factory=DMelConfig)
    model: NeuralVocoderConfig = field(default_factory=NeuralVocoderConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        tokens, model = self.tokens, self.model
        if (tokens.hop_length, tokens.num_mels) != (model.head.hop, model.num_mels):
            raise TrainingError(
                "the vocoder's hop and channels must be the tokenizer's, got "
                f"{model.head.hop}, {model.num_mels} and {tokens.hop_length}, {tokens.num_mels}"
            )


class VocoderTask(SupervisedTask[VocoderRecipe]):
    """Trains a `NeuralVocoder` on the levels of a dMel tokenizer.

    Args:
        recipe: see `VocoderRecipe`.
    """

    Recipe = VocoderRecipe

    generator: NeuralVocoder

    def __init__(self, recipe: VocoderRecipe) -> None:
        super().__init__(recipe)
        self.generator = NeuralVocoder(recipe.model)
        tokens = recipe.tokens
        self.mel = MelSpectrogram(
            tokens.sample_rate,
            tokens.n_fft,
            tokens.window_length,
            tokens.hop_length,
            tokens.num_mels,
            tokens.fmin,
            tokens.fmax,
        )
        head = recipe.model.head
        self.supervise(head.step, head.hop, tokens.sample_rate)

    def begin_with(self, weights: Mapping[str, Tensor]) -> Sequence[str]:
        """Load another run's vocoder, or that of a saved tokenizer."""
        prefix = "vocoder."
        load_grown(self.generator, {k.removeprefix(prefix): v for k, v in weights.items()})
        return ()

    def generate(self, batch: Batch, step: int) -> Generated:
        supervision, model = self.supervision, self.recipe.model
        pitch, voiced = supervision.pitch(batch)
        latents = self.generator.inputs(self.levels(batch.inputs))
        wave, voicing = rendered(
            self.generator.decoder,
            latents,
            self.generator.delay,
            model.head.hop,
            batch.inputs.shape[1],
            supervision.forced_pitch(pitch, step),
        )
        losses = supervision.spectral_losses(wave, batch)
        losses |= supervision.voicing_losses(voicing, pitch, voiced)
        return Generated(wave, losses)

    def levels(self, wave: Tensor) -> Tensor:
        """Quantized log10 mel levels (batch, frames, channels) of a wave (batch, samples)."""
        tokens = self.recipe.tokens
        with torch.no_grad(), torch.autocast(wave.device.type, enabled=False):
            around = (tokens.window_length - tokens.hop_length) // 2
            padded = nn.functional.pad(wave, (around, around))
            windows = padded.unfold(1, tokens.window_length, tokens.hop_length)
            amplitudes = self.mel.frames(windows)
            width = (tokens.maximum - tokens.minimum) / tokens.num_levels
            logs = amplitudes.clamp_min(10.0**tokens.minimum).log10()
            code = ((logs - tokens.minimum) / width).floor().clamp(0, tokens.num_levels - 1)
            return tokens.minimum + (code + 0.5) * width

    def tokenizer(self, generator: nn.Module) -> AudioTokenizer:
        vocoder = copy.deepcopy(generator)
        assert isinstance(vocoder, NeuralVocoder)
        config = replace(self.recipe.tokens, vocoder=self.recipe.model)
        return DMel(config, self.recipe.name, vocoder).eval()
