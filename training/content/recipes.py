"""The recipes of the bundled content encoder: each stage predicts units of the one before."""

from dataclasses import replace

from ...codecs.neural.layers.causal import StackConfig
from ...semantic.content.encoder import ContentConfig
from ..recipe import DataConfig, OptimizerConfig, ScheduleConfig, ValidationConfig
from .perturb import PerturbConfig
from .recipe import ContentRecipe
from .targets import TargetsConfig


def stage_1() -> ContentRecipe:
    """Predicts units of cepstra."""
    return ContentRecipe(
        name="content-16k",
        steps=1_200,
        batch_size=16,
        data=DataConfig(
            exclude_sources=("fsdd",), crop_samples=31_200, temperature=0.7, max_share=0.5
        ),
        optimizer=OptimizerConfig(
            lr=1e-3, muon_lr=3e-3, betas=(0.9, 0.98), weight_decay=0.01, clip_norm=5.0
        ),
        schedule=ScheduleConfig(warmup_steps=100, final_ratio=0.05),
        validation=ValidationConfig(every=0, best_by="mel"),
        ema_decay=0.998,
        bf16=True,
        model=ContentConfig(dim=64),
        targets=TargetsConfig(clusters=(200,)),
    )


def stage_2() -> ContentRecipe:
    """Predicts units of the first stage's last layer."""
    return replace(
        stage_1(),
        steps=2_500,
        start_from="runs/content-stage-1",
        unmasked_weight=0.5,
        targets=TargetsConfig(teacher="runs/content-stage-1", layer=5, clusters=(100, 500)),
    )


def stage_3() -> ContentRecipe:
    """Predicts units of the second stage's averaged features, which change less often."""
    return replace(
        stage_2(),
        steps=2_200,
        start_from="runs/content-stage-2",
        mask_frames=8,
        unmasked_weight=1.0,
        targets=TargetsConfig(
            teacher="runs/content-stage-2", layer=5, smooth=1, clusters=(50, 200, 500)
        ),
    )


def stage_4() -> ContentRecipe:
    """Predicts units of the third stage's steady directions, from more strongly perturbed
    speech.
    """
    return replace(
        stage_3(),
        steps=5_000,
        start_from="runs/content-stage-3",
        mask_share=0.35,
        perturb=PerturbConfig(speed=1.25, noise=0.5, room=0.5, noise_snr_db=(2.0, 25.0)),
        targets=TargetsConfig(teacher="runs/content-stage-3/last", layer=0, clusters=(100, 500)),
    )


def from_whisper() -> ContentRecipe:
    """Predicts units of Whisper's encoder, with two more blocks than the fourth stage."""
    return replace(
        stage_4(),
        start_from="runs/content-stage-4",
        model=ContentConfig(dim=64, layers=StackConfig(width=320, blocks=7)),
        targets=TargetsConfig(encoder="openai/whisper-base", layer=4, clusters=(100, 500, 2000)),
    )


def phonetic() -> ContentRecipe:
    """Predicts units of directions of Whisper's encoder in which phones differ, less of it masked;
    features are means over three frames.
    """
    return replace(
        from_whisper(),
        steps=4_000,
        start_from="runs/content-from-whisper",
        mask_share=0.15,
        mask_frames=5,
        averaged=3,
        targets=TargetsConfig(encoder="runs/phonetic-whisper", layer=1, clusters=(100, 500, 2000)),
    )
