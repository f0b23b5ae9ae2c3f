"""A codec small enough to train in a test, with all that real ones have.

As a program: `python tiny.py ARGUMENTS…` is `syllabary train ARGUMENTS…` with the task known. With
$TINY_KILL_AT=N it ends by SIGKILL after N steps; with $TINY_NAN_AT=N a loss is NaN at step N.
"""

import copy
import json
import os
import signal
import sys
from dataclasses import dataclass, field
from typing import ClassVar

import soundfile
import torch
from torch import nn

import syllabary
from syllabary.codecs.spec import TokenizerSpec
from syllabary.codecs.windowed import StatelessDecoder, WindowEncoder
from syllabary.quantizers.modules import (
    ResidualVectorQuantizer,
    ResidualVectorQuantizerConfig,
    VectorQuantizerConfig,
)
from syllabary.training.data import AugmentConfig
from syllabary.training.discriminators import MultiPeriodConfig, MultiPeriodDiscriminator
from syllabary.training.losses import (
    AdversarialLoss,
    MelLossConfig,
    MultiScaleMelLoss,
    feature_matching_loss,
)
from syllabary.training.recipe import (
    AdversarialConfig,
    DataConfig,
    OptimizerConfig,
    Recipe,
    ScheduleConfig,
    ValidationConfig,
)
from syllabary.training.recipe_registry import RECIPES, register
from syllabary.training.task import Generated, TrainingTask

HOP = 80


@dataclass(frozen=True)
class TinyConfig:
    width: int = 12
    dropout: float = 0.1
    double: bool = False  # layers in float64, so that rounding decides next to nothing
    quantizer: ResidualVectorQuantizerConfig = field(
        default_factory=lambda: ResidualVectorQuantizerConfig(
            VectorQuantizerConfig(6, 16, kmeans_rounds=2, decay=0.9), 2, (1, 2)
        )
    )


@dataclass(frozen=True, kw_only=True)
class TinyRecipe(Recipe):
    task: ClassVar[str] = "tiny"
    model: TinyConfig = field(default_factory=TinyConfig)
    mel_weight: float = 1.0
    freeze_encoder_from: int | None = None


class TinyCodec(nn.Module):
    """Every frame for itself: linear layers around a quantizer."""

    def __init__(self, config):
        super().__init__()
        dim = config.quantizer.quantizer.dim
        self.encoder = nn.Sequential(
            nn.Linear(HOP, config.width), nn.Tanh(), nn.Linear(config.width, dim)
        )
        self.dropout = nn.Dropout(config.dropout)
        self.quantizer = ResidualVectorQuantizer(config.quantizer)
        self.decoder = nn.Sequential(
            nn.Linear(dim, config.width), nn.Tanh(), nn.Linear(config.width, HOP)
        )

    def forward(self, wave):
        frames = wave.unflatten(1, (-1, HOP))
        result = self.quantizer(self.dropout(self.encoder(frames)))
        return self.decoder(result.quantized.to(frames.dtype)).flatten(1), result


class TinyTokenizer(syllabary.AudioTokenizer):
    family = "tiny-trained"
    Config = TinyConfig

    def __init__(self, config, name=None):
        super().__init__(config, name)
        self.codec = TinyCodec(config)

    def describe(self):
        config = self.config.quantizer
        sizes = [config.quantizer.codebook_size] * config.num_codebooks
        return TokenizerSpec(
            tokens=self.token_spec(HOP, sizes, 16000),
            family=self.family,
            causal=True,
            encoder_latency=HOP,
            decoder_latency=0,
            min_codebooks=1,
            parameters=0,
            macs_per_second=0,
            license="Apache-2.0",
            source="a test",
            description="linear layers",
        )

    def token_config(self):
        return {"width": self.config.width}

    def start_encoder(self, batch_size, num_codebooks):
        def encode_tile(windows):
            codes = self.codec.quantizer.encode(self.codec.encoder(windows)[:, None])
            return codes[:, :num_codebooks, 0]

        return WindowEncoder(
            encode_tile,
            batch_size=batch_size,
            hop=HOP,
            window=HOP,
            before=0,
            tile=16,
            num_codebooks=num_codebooks,
            device=self.device,
        )

    def start_decoder(self, batch_size):
        count = self.config.quantizer.num_codebooks

        def decode_tile(codes):
            return self.codec.decoder(self.codec.quantizer.decode(codes[..., None])[:, 0])

        return StatelessDecoder(
            decode_tile, num_codebooks=count, hop=HOP, tile=16, device=self.device
        )


class TinyTask(TrainingTask[TinyRecipe]):
    Recipe = TinyRecipe

    def __init__(self, recipe):
        super().__init__(recipe)
        self.generator = TinyCodec(recipe.model)
        if recipe.adversarial is not None:
            self.discriminator = MultiPeriodDiscriminator(
                MultiPeriodConfig(periods=(2, 3), width=2, growth=(1, 2))
            )
        if recipe.model.double:
            self.generator.encoder.double()
            self.generator.decoder.double()
            if recipe.adversarial is not None:
                self.discriminator.double()
        self.mel = MultiScaleMelLoss(MelLossConfig(window_lengths=(128, 512), num_mels=(10, 20)))
        self.game = AdversarialLoss()

    def hidden_matrices(self):
        return [self.generator.encoder[2].weight]

    def generate(self, batch, step):
        if step == int(os.environ.get("TINY_KILL_AT", -1)):
            os.kill(os.getpid(), signal.SIGKILL)
        wave, result = self.generator(batch.inputs.to(self.generator.encoder[0].weight.dtype))
        mel = self.recipe.mel_weight * self.mel(wave, batch.targets, batch.lengths)
        if step == int(os.environ.get("TINY_NAN_AT", -1)):
            mel = mel * float("nan")
        losses = {"mel": mel, "commitment": result.loss}
        return Generated(wave, losses, {"perplexity": result.statistics["perplexity"].mean()})

    def discriminator_losses(self, batch, wave, step):
        real, fake = self.discriminator(batch.targets.to(wave)), self.discriminator(wave)
        return {"game": self.game.discriminator(real.logits, fake.logits)}

    def adversarial_losses(self, batch, generated, step):
        fake = self.discriminator(generated.wave)
        with torch.no_grad():
            real = self.discriminator(batch.targets.to(generated.wave))
        return {
            "adversarial": self.game.generator(fake.logits),
            "features": feature_matching_loss(real.features, fake.features),
        }

    def frozen(self, step):
        start = self.recipe.freeze_encoder_from
        if start is None or step < start:
            return []
        return [self.generator.encoder, self.generator.quantizer]

    def tokenizer(self, generator):
        tokenizer = TinyTokenizer(self.recipe.model, self.recipe.name)
        tokenizer.codec = copy.deepcopy(generator).float()
        return tokenizer


def recipe(manifest="", **fields):
    defaults = {
        "name": "tiny",
        "seed": 3,
        "steps": 14,
        "batch_size": 4,
        "data": DataConfig(
            manifest=str(manifest),
            crop_samples=1600,
            augment=AugmentConfig(gain_probability=0.5),
        ),
        "optimizer": OptimizerConfig(lr=3e-3, muon_lr=3e-3, weight_decay=0.01),
        "schedule": ScheduleConfig(warmup_steps=3),
        "adversarial": AdversarialConfig(start_step=4, discriminator_every=2),
        "validation": ValidationConfig(
            every=6, utterances=2, min_seconds=0.2, max_seconds=0.4, best_by="mel", pictures=1
        ),
        "log_every": 2,
        "save_every": 3,
        "save_minutes": 0.0,
    }
    return TinyRecipe(**{**defaults, **fields})


def write_corpus(folder, seconds=0.5):
    """Six utterances of two speakers for training, two for validation."""
    from ...conftest import synthetic_speech

    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for index in range(8):
        wave = synthetic_speech(int((seconds + 0.01 * index) * 16000), index)
        soundfile.write(folder / f"{index}.wav", wave, 16000, subtype="PCM_16")
        split = "valid" if index >= 6 else "train"
        lines.append({"path": f"{index}.wav", "speaker": f"s{index % 2}", "split": split})
    (folder / "manifest.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder


register(TinyTask)
RECIPES["tiny"] = recipe


if __name__ == "__main__":
    from syllabary.cli.main import main

    torch.set_num_threads(1)
    main(["train", *sys.argv[1:]])
