"""The recipes of the tokenizers that ship."""

from ...codecs.dmel.config import DMelConfig
from ...codecs.dmel.neural_vocoder import NeuralVocoderConfig
from ...codecs.neural.harmonic_head import HarmonicHeadConfig
from ..data.augment import AugmentConfig
from ..recipe import DataConfig, OptimizerConfig, ScheduleConfig, ValidationConfig
from .codec_task import FSQRecipe, RVQRecipe
from .supervision import SupervisionConfig
from .vocoder_task import VocoderRecipe

_OPTIMIZER = OptimizerConfig(lr=1e-3, muon_lr=3e-3, weight_decay=0.01, clip_norm=5.0)
_VALIDATION = ValidationConfig(every=1000, utterances=24, best_by="PESQ-wb")


def _data(crop_samples: int) -> DataConfig:
    # Utterances of 8 kHz, as fsdd has them, would teach that there is nothing above 4 kHz. No
    # source gives more than half of what is heard.
    return DataConfig(
        exclude_sources=("fsdd",),
        crop_samples=crop_samples,
        temperature=0.7,
        max_share=0.5,
        augment=AugmentConfig(gain_db=(-6.0, 3.0)),
    )


def rvq_16k() -> RVQRecipe:
    """0.5 to 4 kbit/s by the number of codebooks."""
    return RVQRecipe(
        name="rvq-16k",
        steps=11_000,
        batch_size=8,
        data=_data(20_480),
        optimizer=_OPTIMIZER,
        schedule=ScheduleConfig(warmup_steps=100, final_ratio=0.03),
        ema_decay=0.998,
        bf16=True,
        validation=_VALIDATION,
        quantize_from=3500,
        supervision=SupervisionConfig(own_pitch_from=7_000),
    )


def fsq_16k() -> FSQRecipe:
    """0.8 kbit/s, one codebook."""
    return FSQRecipe(
        name="fsq-16k",
        steps=6_000,
        batch_size=8,
        data=_data(20_480),
        optimizer=_OPTIMIZER,
        schedule=ScheduleConfig(warmup_steps=100, final_ratio=0.03),
        ema_decay=0.998,
        bf16=True,
        validation=_VALIDATION,
    )


def dmel_vocoder() -> VocoderRecipe:
    """For 40 frames a second."""
    return _dmel("dmel", hop=400, rate=4)


def dmel_fine_vocoder() -> VocoderRecipe:
    """For 80 frames a second."""
    return _dmel("dmel-fine", hop=200, rate=2)


def _dmel(name: str, hop: int, rate: int) -> VocoderRecipe:
    return VocoderRecipe(
        name=name,
        steps=5_000,
        batch_size=8,
        data=_data(20_800),
        optimizer=_OPTIMIZER,
        schedule=ScheduleConfig(warmup_steps=100, final_ratio=0.03),
        ema_decay=0.998,
        bf16=True,
        validation=_VALIDATION,
        tokens=DMelConfig(hop_length=hop),
        model=NeuralVocoderConfig(head=HarmonicHeadConfig(hop=hop, rate=rate, window=400)),
    )
