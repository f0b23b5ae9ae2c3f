"""Small models of published architectures, with random weights, as their publishers save them."""

import tempfile
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import syllabary

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
MODELS = {
    "tiny-encodec": ("EncodecConfig", "EncodecModel", ENCODEC),
    "tiny-mimi": ("MimiConfig", "MimiModel", MIMI),
    "tiny-dac": ("DacConfig", "DacModel", DAC),
}
NAMES = tuple(MODELS)

_home = tempfile.TemporaryDirectory(prefix="syllabary-models-")


@cache
def directory(name: str) -> Path:
    """Where the model lies, made at the first call."""
    import torch
    import transformers

    config, model, fields = MODELS[name]
    torch.manual_seed(0)
    path = Path(_home.name, name)
    getattr(transformers, model)(getattr(transformers, config)(**fields)).save_pretrained(path)
    return path


def register() -> None:
    """Make `load` know them; nothing where transformers is not installed."""
    for name in NAMES if find_spec("transformers") else ():
        if name not in syllabary.list_tokenizers():
            syllabary.register(name, lambda name=name: syllabary.load(directory(name)))
