"""Small models of published architectures, with random weights, as their publishers save them."""

import json
import os
import tempfile
import types
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import syllabary
from syllabary.codecs.pretrained import architectures

from .conftest import synthetic_speech

ENCODEC = {
    "num_filters": 4,
    "hidden_size": 16,
    "codebook_dim": 16,
    "codebook_size": 32,
    "num_lstm_layers": 1,
    "target_bandwidths": [1.5, 3.0],
}
MIMI = {
    "num_filters": 4,
    "hidden_size": 32,
    "codebook_dim": 16,
    "codebook_size": 32,
    "num_quantizers": 4,
    "num_semantic_quantizers": 1,
    "vector_quantization_hidden_dimension": 16,
    "num_hidden_layers": 2,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 8,
    "upsample_groups": 32,
}
DAC = {
    "encoder_hidden_size": 4,
    "decoder_hidden_size": 32,
    "downsampling_ratios": [2, 4, 5, 8],
    "n_codebooks": 3,
    "codebook_size": 32,
    "codebook_dim": 4,
    "sampling_rate": 16000,
}
ENCODEC_CHUNKS = {
    **ENCODEC,
    "sampling_rate": 16000,
    "audio_channels": 2,
    "normalize": True,
    "chunk_length_s": 0.1,
    "overlap": 0.01,
    "norm_type": "time_group_norm",
    "use_causal_conv": False,
    "target_bandwidths": [0.5],
}
WAVTOKENIZER = {
    "num_filters": 2,
    "upsampling_ratios": [8, 5, 4, 2],
    "num_lstm_layers": 1,
    "hidden_size": 32,
    "codebook_dim": 32,
    "codebook_size": 32,
    "decoder_hidden_size": 16,
    "decoder_intermediate_size": 16,
    "decoder_num_layers": 1,
    "decoder_attention_num_groups": 4,
}
HUBERT = {
    "model_type": "hubert",
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "conv_dim": [4] * 7,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    "num_feat_extract_layers": 7,
    "mask_time_prob": 0.0,
    "feat_extract_norm": "group",
}
XCODEC = {
    "target_bandwidths": [0.5, 0.75],
    "codebook_size": 32,
    "acoustic_model_config": {
        "model_type": "dac",
        "encoder_hidden_size": 2,
        "decoder_hidden_size": 32,
        "downsampling_ratios": [8, 5, 4, 2],
        "upsampling_ratios": [8, 5, 4, 2],
        "hidden_size": 16,
    },
    "semantic_model_config": HUBERT,
}
HIGGS = {
    **XCODEC,
    "target_bandwidths": [0.25, 0.5],
    "codebook_dim": 8,
    "acoustic_model_config": {
        **XCODEC["acoustic_model_config"],
        "downsampling_ratios": [8, 5, 4, 2, 3],
        "upsampling_ratios": [8, 5, 4, 2, 3],
    },
}
W2V_BERT = {
    "model_type": "wav2vec2-bert",
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "feature_projection_input_dim": 160,
    "conv_depthwise_kernel_size": 5,
}
XCODEC2 = {
    "hidden_size": 64,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "encoder_hidden_size": 2,
    "quantization_dim": 80,
    "quantization_levels": [4, 4, 4],
    "semantic_model_config": W2V_BERT,
}
POCKET_TTS = {
    "hidden_size": 32,
    "num_filters": 2,
    "latent_dim": 8,
    "upsample_groups": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "intermediate_size": 32,
    "sliding_window": 20,
}
VIBEVOICE = {
    "hidden_size": 8,
    "num_filters": 2,
    "downsampling_ratios": [4, 8, 10],
    "depths": [1, 1, 1, 1],
    "layer_scale_init_value": 0.5,
    "initializer_range": 0.3,
}
#: Models with latents and no codes.
CONTINUOUS = {
    "tiny-pocket-tts": (
        "PocketTTSAudioTokenizerConfig",
        "PocketTTSAudioTokenizerModel",
        POCKET_TTS,
    ),
    "tiny-vibevoice": (
        "VibeVoiceAcousticTokenizerConfig",
        "VibeVoiceAcousticTokenizerModel",
        VIBEVOICE,
    ),
}
MODELS = {
    "tiny-encodec": ("EncodecConfig", "EncodecModel", ENCODEC),
    "tiny-encodec-chunks": ("EncodecConfig", "EncodecModel", ENCODEC_CHUNKS),
    "tiny-mimi": ("MimiConfig", "MimiModel", MIMI),
    "tiny-dac": ("DacConfig", "DacModel", DAC),
    "tiny-wavtokenizer": ("WavTokenizerConfig", "WavTokenizerModel", WAVTOKENIZER),
    "tiny-xcodec": ("XcodecConfig", "XcodecModel", XCODEC),
    "tiny-higgs": ("HiggsAudioV2TokenizerConfig", "HiggsAudioV2TokenizerModel", HIGGS),
    "tiny-xcodec2": ("Xcodec2Config", "Xcodec2Model", XCODEC2),
    "tiny-neucodec": ("NeuCodecConfig", "NeuCodecModel", XCODEC2),
}

_home = tempfile.TemporaryDirectory(prefix="syllabary-models-")


@cache
def directory(name: str) -> Path:
    """Where the model lies, made at the first call."""
    import torch
    import transformers

    config, kind, fields = (MODELS | CONTINUOUS)[name]
    torch.manual_seed(0)
    path = Path(_home.name, name)
    settings = getattr(transformers, config)(**fields)
    model = getattr(transformers, kind)(settings).eval()
    if name in MODELS:
        spread(model, architectures.TRANSFORMERS[settings.model_type].adapt(settings))
    model.save_pretrained(path)
    return path


def spread(model, adapter) -> None:
    """Fit codebooks, which the library leaves empty, to what the model hears, so that codes differ.

    So do projections to and from scalars, and the phases of a spectrum, which random weights
    leave near zero.
    """
    import torch

    def fill(book, frames):
        rows = frames[torch.randint(len(frames), (book.codebook_size,))]
        rows = rows + 0.01 * frames.std() * torch.randn_like(rows)
        (book.embed_sum if hasattr(book, "embed_sum") else book.embed).copy_(rows)
        return type(book).quantize(book, frames)

    def fill_factorised(quantizer, latents):
        frames = latents.transpose(1, 2).flatten(0, 1)
        table = quantizer.codebook.weight
        table.copy_(frames[torch.randint(len(frames), (len(table),))])
        return type(quantizer).decode_latents(quantizer, latents)

    def widen(layer, args, values):
        values = values.flatten(0, -2)
        scale = 1.5 / values.std(0).clamp(min=1e-3)
        layer.bias.sub_(values.mean(0)).mul_(scale)
        layer.weight.mul_(scale[:, None])

    parts = dict(model.named_modules())
    books = [part for part in parts.values() if hasattr(part, "quantize")]
    for book in books:
        book.quantize = types.MethodType(fill, book)
    factorised = [part for part in parts.values() if hasattr(part, "decode_latents")]
    for part in factorised:
        part.decode_latents = types.MethodType(fill_factorised, part)
    hooks = [
        part.register_forward_hook(widen)
        for name, part in parts.items()
        if name
        in ("quantizer.project_in", "head.out", "acoustic_decoder.head.linear", "head.linear")
    ]
    with torch.no_grad():
        wave = torch.from_numpy(synthetic_speech(adapter.sample_rate * 2, 0, adapter.sample_rate))
        for _ in range(2):
            adapter.decode(model, adapter.encode(model, wave).long())
    for book in books:
        del book.quantize
    for part in factorised:
        del part.decode_latents
    for hook in hooks:
        hook.remove()


SNAC = {
    "sampling_rate": 24000,
    "encoder_dim": 4,
    "encoder_rates": [2, 4, 5, 8],
    "decoder_dim": 64,
    "decoder_rates": [8, 5, 4, 2],
    "attn_window_size": None,
    "codebook_size": 32,
    "codebook_dim": 4,
    "vq_strides": [4, 2, 1],
    "noise": True,
    "depthwise": True,
}
SNAC_WINDOWS = {
    **SNAC,
    "sampling_rate": 16000,
    "decoder_dim": 64,
    "attn_window_size": 4,
    "vq_strides": [8, 4, 2, 1],
    "encoder_rates": [2, 2, 4, 5],
    "decoder_rates": [5, 4, 2, 2],
}
SPEECHTOKENIZER = {
    "n_filters": 2,
    "strides": [8, 5, 4, 2],
    "dimension": 16,
    "semantic_dimension": 24,
    "bidirectional": True,
    "dilation_base": 2,
    "residual_kernel_size": 3,
    "n_residual_layers": 1,
    "lstm_layers": 1,
    "activation": "ELU",
    "codebook_size": 32,
    "n_q": 2,
    "sample_rate": 16000,
}
#: Models of their authors' own packages, as those write them: the package, the name of the file
#: with the weights, and the configuration.
PACKAGED = {
    "tiny-snac": ("snac", "pytorch_model.bin", SNAC),
    "tiny-snac-windows": ("snac", "pytorch_model.bin", SNAC_WINDOWS),
    "tiny-speechtokenizer": ("speechtokenizer", "SpeechTokenizer.pt", SPEECHTOKENIZER),
}


@cache
def packaged_directory(name: str) -> Path:
    """Where the model of another package lies, made at the first call."""
    import torch

    package, weights, fields = PACKAGED[name]
    kind = architectures.PACKAGED[package].adapter_kind()
    torch.manual_seed(0)
    model = kind.make(fields).eval()
    spread(model, kind(model))
    path = Path(_home.name, name)
    path.mkdir()
    (path / "config.json").write_text(json.dumps(fields))
    torch.save(model.state_dict(), path / weights)
    return path


def at_hand() -> list[str]:
    """Those of `NAMES` whose library is installed, and for Lyra, whose weights are there."""
    found = [*MODELS] if find_spec("transformers") else []
    found += ["lyra-v2"] if LYRA.is_dir() and find_spec("ai_edge_litert") else []
    return found + [name for name, (package, _, _) in PACKAGED.items() if find_spec(package)]


def folder_of(name: str) -> Path:
    if name == "lyra-v2":
        return LYRA
    return packaged_directory(name) if name in PACKAGED else directory(name)


#: Google's weights of Lyra, where they are: see `eval/systems/lyra.py`.
LYRA = Path(os.environ.get("SYLLABARY_LYRA") or Path(__file__).parents[2] / "shared/peers/lyra")
NAMES = (*MODELS, *PACKAGED, "lyra-v2")
#: One of each way to run a model (a stream, the whole, a package's); the contract of the others is
#: for `make test-all`.
OFTEN = ("tiny-encodec", "tiny-xcodec2", "tiny-snac")


def register() -> None:
    """Make `load` know them; nothing where their library is not installed."""
    for name in at_hand():
        if name not in syllabary.list_tokenizers():
            syllabary.register(name, lambda name=name: syllabary.load(folder_of(name)))
