"""The recipes of the bundled tokenizers."""

from dataclasses import replace
from typing import Any

from ...codecs.dmel.config import DMelConfig
from ...codecs.dmel.neural_vocoder import NeuralVocoderConfig
from ...codecs.fsq.tokenizer import FSQConfig
from ...codecs.neural.layers.analysis import AnalysisConfig
from ...codecs.neural.layers.causal import StackConfig
from ...codecs.neural.layers.harmonic_head import HarmonicHeadConfig
from ...codecs.neural.layers.transformer import TransformerConfig
from ...codecs.neural.trunks.spectral import SpectralConfig
from ...codecs.neural.trunks.waveform import WaveformConfig
from ...codecs.rvq.tokenizer import RVQConfig
from ...codecs.ts3.presets import PRESETS
from ...codecs.ts3.tokenizer import CodebookConfig, TS3Config
from ...semantic.speaking.config import SpeakingConfig
from ..data.augment import AugmentConfig
from ..losses import ContentLossConfig, DistillationConfig, MelLossConfig
from ..recipe import (
    AdversarialConfig,
    DataConfig,
    OptimizerConfig,
    ScheduleConfig,
    ValidationConfig,
)
from .codec_task import FSQRecipe, RVQRecipe, TS3Recipe
from .supervision import SupervisionConfig
from .unit_vocoder_task import UnitVocoderRecipe
from .vocoder_task import VocoderRecipe

_OPTIMIZER = OptimizerConfig(lr=1e-3, muon_lr=3e-3, weight_decay=0.01, clip_norm=5.0)


def _common(crop_samples: int, optimizer: OptimizerConfig = _OPTIMIZER) -> dict[str, Any]:
    """Fields shared by all recipes."""
    # Utterances sampled at 8 kHz, as in fsdd, would teach an empty band above 4 kHz. No source
    # provides more than half of the crops.
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
    """0.5 to 4 kbit/s, depending on the number of codebooks."""
    return RVQRecipe(
        name="rvq-16k",
        steps=11_000,
        **_common(20_480),
        quantize_from=3500,
        supervision=SupervisionConfig(own_pitch_from=7_000),
    )


def rvq_16k_semantic() -> RVQRecipe:
    """0.5 to 4 kbit/s; the first codebook says what was spoken, the others how.

    Continues from `rvq-16k` with two more encoder blocks. The first codebook learns from phonetic
    units of a speech encoder alone (D. Zhang et al., "SpeechTokenizer", arXiv 2308.16692), and may
    say them as many frames late as the decoder looks ahead.
    """
    ahead = 4
    network = SpectralConfig(
        encoder=StackConfig(width=256, blocks=7),
        decoder=StackConfig(width=320, blocks=7),
        decoder_look_ahead=ahead,
    )
    return replace(
        rvq_16k(),
        name="rvq-16k-semantic",
        start_from="rvq-16k",
        steps=2_600,
        quantize_from=0,
        model=RVQConfig(network=network),
        distillation=DistillationConfig(
            weight=10.0,
            encoder="runs/phonetic-whisper",
            layer=1,
            clusters=500,
            exclusive=True,
            delay=ahead,
        ),
        supervision=SupervisionConfig(
            own_pitch_from=0,
            texture_weight=2.0,
            unvoiced_weight=0.5,
            bridged_pitch_weight=0.1,
            content_weight=10.0,
            content=ContentLossConfig(encoder="openai/whisper-tiny.en"),
        ),
    )


def rvq_small() -> RVQRecipe:
    """A small codec of 0.4 to 3.2 kbit/s that is intelligible after ten minutes on two cores."""
    common = _common(12_800)
    return RVQRecipe(
        name="rvq-small",
        steps=1_500,
        **common | {"schedule": ScheduleConfig(warmup_steps=50, final_ratio=0.03)},
        # Few codes, so that a few minutes of speech are enough for each of them.
        model=RVQConfig(
            network=SpectralConfig(
                pitch_hidden=128,
                encoder=StackConfig(width=160, blocks=3),
                latent_dim=96,
                decoder=StackConfig(width=224, blocks=3),
            ),
            codebook_size=256,
        ),
        quantize_from=500,
        supervision=SupervisionConfig(own_pitch_from=900),
        # Without the packages of the other scores, and rarely, as it takes the time of steps.
        validation=ValidationConfig(every=500, utterances=8, max_seconds=4.0, best_by="mel"),
    )


def rvq_16k_waveform() -> RVQRecipe:
    """The same codec with the waveform trunk, for comparison: see `docs/training.md`."""
    return RVQRecipe(
        name="rvq-16k-waveform",
        steps=100_000,
        **_common(10_240, OptimizerConfig(lr=1e-3, clip_norm=5.0)),
        model=RVQConfig(network=WaveformConfig()),
        quantize_from=3500,
        # This trunk has no pulse train of arbitrary phase, so short windows are useful too.
        supervision=SupervisionConfig(mel=MelLossConfig()),
    )


def fsq_16k() -> FSQRecipe:
    """0.8 kbit/s, one codebook."""
    return FSQRecipe(
        name="fsq-16k",
        steps=10_000,
        **_common(20_480),
        # At so few bits the decoder must predict much, and one frame of look-ahead helps.
        model=FSQConfig(network=SpectralConfig(decoder_look_ahead=1)),
        quantize_from=3_000,
        supervision=SupervisionConfig(own_pitch_from=6_500, envelope_weight=8.0),
        level_dropout=((5, 5, 5, 5, 5, 5), (4, 4, 4, 4, 4, 4), (16, 16, 16, 8, 8, 8)),
        dropout_share=0.2,
    )


def ts3_16k_stage_1() -> TS3Recipe:
    """Encoder and decoder of `ts3-16k`; with a small commitment weight, its codebook diverges from
    the latents.
    """
    recipe = _ts3("ts3-16k", AnalysisConfig(), HarmonicHeadConfig())
    return replace(
        recipe,
        steps=4_680,
        schedule=replace(recipe.schedule, decay_steps=12_000),
        model=replace(
            recipe.model, codebook=replace(recipe.model.codebook, commitment_weight=0.25)
        ),
        quantize_from=3_600,
        start_batches=1_500,
        supervision=SupervisionConfig(own_pitch_from=7_200, envelope_weight=8.0),
    )


def ts3_16k() -> TS3Recipe:
    """0.8 kbit/s: one codebook at 50 Hz, causal transformer layers.

    It starts from `ts3-16k-stage-1`, with a new codebook.
    """
    return replace(
        _ts3("ts3-16k", AnalysisConfig(), HarmonicHeadConfig()),
        start_from="runs/ts3-16k-stage-1",
        steps=7_000,
        optimizer=replace(_OPTIMIZER, lr=8e-4, muon_lr=2.4e-3),
        quantize_from=0,
        keep_quantizer=False,
        supervision=SupervisionConfig(own_pitch_from=1_500, envelope_weight=8.0),
    )


def ts3_16k_40hz() -> TS3Recipe:
    """0.64 kbit/s: the same at 40 Hz, from random weights."""
    return _ts3("ts3-16k-40hz", AnalysisConfig(hop=400), HarmonicHeadConfig(hop=400, rate=5))


def _ts3(name: str, analysis: AnalysisConfig, head: HarmonicHeadConfig) -> TS3Recipe:
    network = SpectralConfig(
        analysis=analysis,
        encoder=TransformerConfig(256, 3, 4, 512, 32, int8=True),
        decoder=TransformerConfig(256, 5, 4, 480, 32, int8=True),
        head=head,
        decoder_look_ahead=1,
    )
    return TS3Recipe(
        name=name,
        steps=4_500,
        **_common(25_600),
        model=TS3Config(network, CodebookConfig(65_536, 16)),
        quantize_from=1_400,
        start_batches=900,
        supervision=SupervisionConfig(own_pitch_from=2_600, envelope_weight=8.0),
    )


def ts3_x1() -> TS3Recipe:
    """The paper's X1, 0.8 kbit/s; for GPUs."""
    return _paper("ts3-x1")


def ts3_x2() -> TS3Recipe:
    """The paper's X2, 0.85 kbit/s; for GPUs."""
    return _paper("ts3-x2")


def ts3_x3() -> TS3Recipe:
    """The paper's X3, 0.64 kbit/s; for GPUs."""
    return _paper("ts3-x3")


def ts3_x4() -> TS3Recipe:
    """The paper's X4, 0.68 kbit/s; for GPUs."""
    return _paper("ts3-x4")


def ts3_largest() -> TS3Recipe:
    """The model size in the authors' talk, trained as in the paper; for GPUs."""
    return _paper("ts3-1.6b")


def _paper(name: str) -> TS3Recipe:
    """The paper's training settings, and a codebook initialized by k-means.

    The paper gives no batch size.
    """
    optimizer = OptimizerConfig(lr=2e-4)
    return TS3Recipe(
        name=name,
        steps=500_000,
        batch_size=16,
        data=DataConfig(exclude_sources=("fsdd",), crop_samples=160_000),
        optimizer=optimizer,
        schedule=ScheduleConfig(warmup_steps=1000, final_ratio=0.1),
        adversarial=AdversarialConfig(optimizer=optimizer),
        bf16=True,
        model=PRESETS[name],
        quantize_from=2_000,
        supervision=SupervisionConfig(
            mel=MelLossConfig(),
            mel_weight=15.0,
            compressed_weight=0.0,
            adversarial_weight=1.0,
            matching_weight=1.0,
        ),
    )


def dmel_vocoder() -> VocoderRecipe:
    """40 frames a second, latency 40 ms."""
    return _dmel("dmel", HarmonicHeadConfig(hop=400, rate=5, window=320))


def dmel_fine_vocoder() -> VocoderRecipe:
    """80 frames a second, latency 31 ms."""
    return _dmel("dmel-fine", HarmonicHeadConfig(hop=200, rate=2, window=400))


def dmel_fine_vocoder_stage_2() -> VocoderRecipe:
    """Continues from `dmel-fine-vocoder`, with the initial learning rate and the envelope loss."""
    return replace(
        dmel_fine_vocoder(),
        start_from="runs/dmel-fine-vocoder",
        optimizer=replace(_OPTIMIZER, lr=7e-4, muon_lr=2e-3),
        supervision=SupervisionConfig(own_pitch_from=0, envelope_weight=8.0),
    )


def dmel_fine_vocoder_stage_3() -> VocoderRecipe:
    """Continues from `dmel-fine-vocoder-stage-2`, with the loudness loss."""
    return replace(
        dmel_fine_vocoder(),
        steps=2_500,
        start_from="runs/dmel-fine-vocoder-stage-2",
        optimizer=replace(_OPTIMIZER, lr=4e-4, muon_lr=1.2e-3),
        schedule=ScheduleConfig(warmup_steps=100, final_ratio=0.03),
        supervision=SupervisionConfig(own_pitch_from=0, envelope_weight=8.0, loudness_weight=5.0),
    )


def _dmel(name: str, head: HarmonicHeadConfig) -> VocoderRecipe:
    return VocoderRecipe(
        name=name,
        steps=6_000,
        **_common(20_800),
        supervision=SupervisionConfig(own_pitch_from=3_000),
        tokens=DMelConfig(hop_length=head.hop),
        model=NeuralVocoderConfig(head=head, look_ahead=1),
    )


def units_vocoder() -> UnitVocoderRecipe:
    """For the units of `units-16k`, from the decoder of `rvq-16k` and its latents for each unit."""
    return UnitVocoderRecipe(
        name="units-16k",
        steps=4_000,
        **_common(20_800),
        decoder="rvq-16k",
        model=SpeakingConfig(look_ahead=6, stack=StackConfig(width=320, blocks=7)),
        supervision=SupervisionConfig(
            envelope_weight=8.0, texture_weight=2.0, unvoiced_weight=0.5, bridged_pitch_weight=0.1
        ),
    )
