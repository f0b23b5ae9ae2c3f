"""Codecs of a few thousand random weights, in every shape that ships and some that don't.

Their sound is noise. What the contract promises does not depend on what weights have learned.
"""

from dataclasses import replace
from typing import Any

import torch

import syllabary
from syllabary.codecs.dmel.config import DMelConfig
from syllabary.codecs.dmel.neural_vocoder import NeuralVocoderConfig
from syllabary.codecs.dmel.tokenizer import DMel
from syllabary.codecs.fsq.tokenizer import FSQCodec, FSQConfig
from syllabary.codecs.neural.layers.analysis import AnalysisConfig
from syllabary.codecs.neural.layers.causal import StackConfig
from syllabary.codecs.neural.layers.harmonic_head import HarmonicHeadConfig
from syllabary.codecs.neural.layers.transformer import TransformerConfig
from syllabary.codecs.neural.trunks.raw_frames import FrameConfig
from syllabary.codecs.neural.trunks.spectral import SpectralConfig
from syllabary.codecs.neural.trunks.waveform import WaveformConfig
from syllabary.codecs.rvq.tokenizer import RVQCodec, RVQConfig
from syllabary.codecs.ts3.tokenizer import CodebookConfig, TS3Codec, TS3Config
from syllabary.semantic.content.encoder import ContentConfig
from syllabary.semantic.encoders.content import Content
from syllabary.semantic.speaking.config import SpeakingConfig
from syllabary.semantic.speaking.vocoder import SpeakingVocoder
from syllabary.semantic.units.tokenizer import UnitTokenizer

from .conftest import synthetic_speech

STACK = StackConfig(width=12, blocks=2, expansion=2, kernel=3)


def head(hop: int = 320, window: int = 320) -> HarmonicHeadConfig:
    return HarmonicHeadConfig(
        hop=hop, rate=hop // (window // 4), window=window, stack=replace(STACK, width=8, blocks=1)
    )


def network(hop: int = 320, **changes: int) -> SpectralConfig:
    """25 Hz with a hop of 640; `encoder_look_ahead` and `decoder_look_ahead` in frames."""
    return SpectralConfig(
        analysis=AnalysisConfig(hop=hop, num_mels=20, num_bands=4, num_lags=24),
        pitch_hidden=8,
        encoder=STACK,
        latent_dim=8,
        decoder=STACK,
        head=head(hop),
        **changes,
    )


def rvq_config(hop: int = 320, **changes: int) -> RVQConfig:
    return RVQConfig(
        network=network(hop, **changes),
        num_codebooks=4,
        codebook_size=32,
        codebook_dim=4,
        dropout=(1, 2, 4),
    )


def fsq_config(hop: int = 320, num_codebooks: int = 1, **changes: int) -> FSQConfig:
    return FSQConfig(network(hop, **changes), levels=(5, 4, 3), num_codebooks=num_codebooks)


def vocoder_config(hop: int = 400, look_ahead: int = 0) -> NeuralVocoderConfig:
    return NeuralVocoderConfig(stack=STACK, head=head(hop, window=400), look_ahead=look_ahead)


def rvq(hop: int = 320, name: str | None = None, seed: int = 0, **changes: int) -> RVQCodec:
    torch.manual_seed(seed)
    return RVQCodec(rvq_config(hop, **changes), name).eval()


def fsq(
    hop: int = 320, num_codebooks: int = 1, name: str | None = None, seed: int = 0, **changes: int
) -> FSQCodec:
    torch.manual_seed(seed)
    codec = FSQCodec(fsq_config(hop, num_codebooks, **changes), name).eval()
    with torch.no_grad():
        # Random latents are small; spread over all levels they tell frames apart.
        codec.quantizer.project_in.weight.mul_(4)
    return codec


def transformer(int8: bool = False) -> TransformerConfig:
    return TransformerConfig(width=12, layers=2, heads=3, feed_forward=20, window=5, int8=int8)


def ts3_config(
    hop: int = 320, int8: bool = False, levels: tuple[int, ...] = (), **changes: int
) -> TS3Config:
    layers = transformer(int8)
    trunk = replace(network(hop, **changes), encoder=layers, decoder=layers)
    return TS3Config(trunk, CodebookConfig(64, 4), levels)


def ts3_frames_config() -> TS3Config:
    """The paper's trunk."""
    return TS3Config(
        FrameConfig(encoder=transformer(), decoder=transformer()), CodebookConfig(64, 4)
    )


def ts3(name: str | None = None, **changes: Any) -> TS3Codec:
    torch.manual_seed(0)
    return _spread(TS3Codec(ts3_config(**changes), name))


def ts3_frames(name: str | None = None) -> TS3Codec:
    torch.manual_seed(0)
    return _spread(TS3Codec(ts3_frames_config(), name))


def _spread(codec: TS3Codec) -> TS3Codec:
    with torch.no_grad():
        codec.quantizer.project_in.weight.mul_(4)
    return codec.eval()


def rvq_waveform(name: str | None = None) -> RVQCodec:
    torch.manual_seed(0)
    trunk = WaveformConfig(
        ratios=(4, 5, 16), channels=4, decoder_channels=4, dilations=(1, 2), latent_dim=8
    )
    return RVQCodec(replace(rvq_config(), network=trunk), name).eval()


def dmel(hop: int = 400, look_ahead: int = 0, name: str | None = None) -> DMel:
    torch.manual_seed(0)
    vocoder = vocoder_config(hop, look_ahead)
    return DMel(DMelConfig(hop_length=hop, vocoder=vocoder), name).eval()


def speaking_config(look_ahead: int = 0) -> SpeakingConfig:
    return SpeakingConfig(8, 4, STACK, head(), look_ahead, hearing_width=6, duration_width=5)


def content_units(name: str | None = None, look_ahead: int = 2) -> UnitTokenizer:
    """Units of a content encoder, spoken by a trained vocoder's kind of network."""
    torch.manual_seed(0)
    config = ContentConfig(layers=STACK, dim=6, look_ahead=look_ahead, averaged=3)
    encoder = Content(config).eval()
    waves = [torch.from_numpy(synthetic_speech(16_000, seed)) for seed in range(3)]
    frames = torch.cat(encoder.features(waves))
    units = UnitTokenizer.of(encoder, frames[:: len(frames) // 23][:23], name)
    vocoder = SpeakingVocoder(speaking_config(look_ahead=1), 23)
    vocoder.voice.copy_(torch.randn(4))
    return units.with_vocoder(vocoder)


MODELS = {
    "tiny-content-units": content_units,
    "tiny-rvq": lambda name: rvq(name=name),
    "tiny-rvq-look-ahead": lambda name: rvq(
        name=name, seed=1, encoder_look_ahead=1, decoder_look_ahead=2
    ),
    "tiny-fsq": lambda name: fsq(name=name),
    "tiny-fsq-residual-25hz": lambda name: fsq(640, 3, name=name),
    "tiny-rvq-waveform": rvq_waveform,
    "tiny-ts3": lambda name: ts3(name, int8=True, decoder_look_ahead=1),
    "tiny-ts3-float": lambda name: ts3(name, hop=400),
    "tiny-ts3-frames": ts3_frames,
    "tiny-dmel-vocoder": lambda name: dmel(look_ahead=1, name=name),
}
NAMES = tuple(MODELS)


def register() -> None:
    """Make `load` know them."""
    for name, make in MODELS.items():
        if name not in syllabary.list_tokenizers():
            syllabary.register(name, lambda name=name, make=make: make(name))
