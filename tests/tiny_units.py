"""Unit tokenizers for the tests: training-free ones, and small self-supervised models.

The models have random weights, are saved as their publishers save theirs, and loaded from there.
Centroids are frames of something like speech, so that every unit is used.
"""

import json
import tempfile
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import torch

import syllabary
from syllabary.semantic.encoders import catalogue
from syllabary.semantic.encoders.interface import SpeechEncoder
from syllabary.semantic.encoders.layers import LayerChoice
from syllabary.semantic.encoders.log_mel import LogMel, LogMelConfig
from syllabary.semantic.speaking.mel_table import MelTableConfig
from syllabary.semantic.units.tokenizer import UnitTokenizer

from .conftest import synthetic_speech

_LAYERS = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 24,
}
_CONVOLUTIONAL = {
    **_LAYERS,
    "conv_dim": [8] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}
_WAVE = {
    "feature_extractor_type": "Wav2Vec2FeatureExtractor",
    "sampling_rate": 16000,
    "feature_size": 1,
    "padding_value": 0.0,
    "do_normalize": True,
    "return_attention_mask": False,
}
_LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}

#: Class, its configuration's fields, and the preprocessor's.
MODELS = {
    "hubert": ("Hubert", _CONVOLUTIONAL, _WAVE),
    "hubert-large": ("Hubert", {**_CONVOLUTIONAL, **_LARGE}, _WAVE),
    "wavlm": ("WavLM", _CONVOLUTIONAL, {**_WAVE, "do_normalize": False}),
    "wav2vec2": ("Wav2Vec2", _CONVOLUTIONAL, _WAVE),
    "xls-r": ("Wav2Vec2", {**_CONVOLUTIONAL, **_LARGE}, _WAVE),
    "data2vec": ("Data2VecAudio", {**_CONVOLUTIONAL, "conv_pos_kernel_size": 5}, _WAVE),
    "w2v-bert": (
        "Wav2Vec2Bert",
        {**_LAYERS, "feature_projection_input_dim": 160},
        {"feature_extractor_type": "SeamlessM4TFeatureExtractor", "stride": 2},
    ),
    "whisper": (
        "Whisper",
        {
            "d_model": 16,
            "encoder_layers": 3,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 24,
            "decoder_layers": 1,
            "decoder_attention_heads": 2,
            "decoder_ffn_dim": 24,
            "vocab_size": 32,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "decoder_start_token_id": 1,
            "max_source_positions": 100,
            "num_mel_bins": 80,
        },
        {"feature_extractor_type": "WhisperFeatureExtractor", "chunk_length": 2},
    ),
}

_home = tempfile.TemporaryDirectory(prefix="syllabary-encoders-")


@cache
def directory(name: str) -> Path:
    """Where a model of `MODELS` lies, made at the first call."""
    import transformers

    kind, fields, preprocessor = MODELS[name]
    torch.manual_seed(0)
    path = Path(_home.name, name)
    model = getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")(**fields))
    with torch.no_grad():  # as initialised, attention hardly looks at anything
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.mul_(4)
    model.eval().save_pretrained(path)
    (path / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return path


def tokenizer_of(encoder: SpeechEncoder, size: int = 24, name: str | None = None) -> UnitTokenizer:
    """Units whose centroids are frames of synthetic speech, spoken by those frames' spectra."""
    wave = torch.from_numpy(synthetic_speech(3 * 16000, seed=7, sample_rate=encoder.sample_rate))
    features, mels = encoder.features([wave])[0], LogMel().features([wave])[0]
    chosen = torch.linspace(0, len(features) - 1, size).long()
    tables = [part[chosen] for part in features.split(encoder.dims, 1)]
    units = UnitTokenizer.of(encoder, tables, name)
    if encoder.hop == LogMelConfig().hop:
        # The vocoder's quality is tested elsewhere; here it takes most of the time.
        units = units.with_mel_table(mels[chosen], MelTableConfig(iterations=1))
    return units


def encoder(name: str, **changes) -> SpeechEncoder:
    """A model of `MODELS`, read from its directory; 2 s windows unless said otherwise."""
    options = {"choice": LayerChoice((2,)), "window_s": 2.0, "overlap_s": 0.4, **changes}
    return catalogue.find(str(directory(name)), **options)


MAKERS = {
    "tiny-mfcc-units": lambda: tokenizer_of(catalogue.find("mfcc"), name="tiny-mfcc-units"),
    "tiny-log-mel-units": lambda: tokenizer_of(
        catalogue.find("log-mel"), name="tiny-log-mel-units"
    ),
}
if find_spec("transformers"):
    for _name in ("hubert", "wavlm", "wav2vec2", "w2v-bert", "whisper"):
        MAKERS[f"tiny-{_name}-units"] = lambda name=_name: tokenizer_of(
            encoder(name), name=f"tiny-{name}-units"
        )
    MAKERS["tiny-two-layer-units"] = lambda: tokenizer_of(
        encoder("hubert-large", choice=LayerChoice((1, 3), "each")), name="tiny-two-layer-units"
    )
NAMES = tuple(MAKERS)


def register() -> None:
    """Make `load` know them."""
    for name, make in MAKERS.items():
        if name not in syllabary.list_tokenizers():
            syllabary.register(name, make)
