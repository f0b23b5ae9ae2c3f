"""The recipes of the tokenizers that ship."""

from typing import Any

from ...codecs.dmel.config import DMelConfig
from ...codecs.dmel.neural_vocoder import NeuralVocoderConfig
from ...codecs.fsq.tokenizer import FSQConfig
from ...codecs.neural.harmonic_head import HarmonicHeadConfig
from ...codecs.neural.network import SpectralConfig
from ...codecs.neural.waveform import WaveformConfig
from ...codecs.rvq.tokenizer import RVQConfig
from ..data.augment import AugmentConfig
from ..losses import MelLossConfig
from ..recipe import DataConfig, OptimizerConfig, ScheduleConfig
from .codec_task import FSQRecipe, RVQRecipe
from .supervision import SupervisionConfig
from .vocoder_task import VocoderRecipe

_OPTIMIZER = OptimizerConfig(lr=1e-3, muon_lr=3e-3, weight_decay=0.01, clip_norm=5.0)


def _common(crop_samples: int, optimizer: OptimizerConfig = _OPTIMIZER) -> dict[str, Any]:
    """What all of them have."""
    # Utterances of 8 kHz, as fsdd has them, would teach that there is nothing above 4 kHz. No
    # source gives more than half of what is heard.
    data = DataConfig(
        exclude_sources=("fsdd",),
        crop_samples=crop_samples,
        temperature=0.7,
        max_share=0.5,
        augment=AugmentConfig(gain_db=(-6.0, 3.0)),
    )
    return {
        "batch_size": 8,
        "data": data,
        "optimizer": optimizer,
        "schedule": ScheduleConfig(warmup_steps=100, final_ratio=0.03),
        "ema_decay": 0.998,
        "bf16": True,
    }


def rvq_16k() -> RVQRecipe:
    """0.5 to 4 kbit/s by the number of codebooks."""
    return RVQRecipe(
        name="rvq-16k",
        steps=11_000,
        **_common(20_480),
        quantize_from=3500,
        supervision=SupervisionConfig(own_pitch_from=7_000),
    )


def rvq_16k_waveform() -> RVQRecipe:
    """The same codec with the other trunk, for comparison: see `docs/training.md`."""
    return RVQRecipe(
        name="rvq-16k-waveform",
        steps=100_000,
        **_common(10_240, OptimizerConfig(lr=1e-3, clip_norm=5.0)),
        model=RVQConfig(network=WaveformConfig()),
        quantize_from=3500,
        # No pulse train decides where pulses begin here, so the short windows count too.
        supervision=SupervisionConfig(mel=MelLossConfig()),
    )


def fsq_16k() -> FSQRecipe:
    """0.8 kbit/s, one codebook."""
    return FSQRecipe(
        name="fsq-16k",
        steps=10_000,
        **_common(20_480),
        # So few bits leave much to guess, and a frame of what follows helps to.
        model=FSQConfig(network=SpectralConfig(decoder_look_ahead=1)),
        quantize_from=3_000,
        supervision=SupervisionConfig(own_pitch_from=6_500, envelope_weight=8.0),
        level_dropout=((5, 5, 5, 5, 5, 5), (4, 4, 4, 4, 4, 4), (16, 16, 16, 8, 8, 8)),
        dropout_share=0.2,
    )


def dmel_vocoder() -> VocoderRecipe:
    """For 40 frames a second, 40 ms behind."""
    return _dmel("dmel", HarmonicHeadConfig(hop=400, rate=5, window=320))


def dmel_fine_vocoder() -> VocoderRecipe:
    """For 80 frames a second, 31 ms behind."""
    return _dmel("dmel-fine", HarmonicHeadConfig(hop=200, rate=2, window=400))


def _dmel(name: str, head: HarmonicHeadConfig) -> VocoderRecipe:
    return VocoderRecipe(
        name=name,
        steps=6_000,
        **_common(20_800),
        supervision=SupervisionConfig(own_pitch_from=3_000),
        tokens=DMelConfig(hop_length=head.hop),
        model=NeuralVocoderConfig(head=head, look_ahead=1),
    )
