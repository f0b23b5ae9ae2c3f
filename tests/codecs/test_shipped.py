"""Checkpoints inside the package, and how they are made."""

import pytest
import torch
from safetensors.torch import load_file

import syllabary
from syllabary.codecs.checkpoint import WEIGHTS_FILE, export, inference_state
from syllabary.codecs.registry import SHIPPED
from syllabary.codecs.shipped import MODELS
from syllabary.errors import CheckpointError
from syllabary.semantic.token_bpe import PieceCoder, list_bpes, load_bpe

from .. import tiny_codecs
from ..conftest import synthetic_speech


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_models_are_small_and_documented(name):
    folder = MODELS / SHIPPED[name].folder
    weights = load_file(folder / WEIGHTS_FILE)
    parts = ("encoder.", "vocoder.") if name == "units-16k" else ("",)
    for part in parts:
        tensors = [tensor for key, tensor in weights.items() if key.startswith(part)]
        assert sum(t.numel() * t.element_size() for t in tensors) <= 12_000_000
    card = (folder / "README.md").read_text()
    assert "Where it is weak" in card and "DATA.md" in card
    assert (folder / "recipe.json").exists() and (folder / "log.jsonl.gz").exists()
    assert syllabary.load(name).name == name


def test_all_shipped_models_together_are_small():
    """40 MB for the convolutional codecs and vocoders, 12 for each of the others' parts."""
    sizes = {path.parent.name: path.stat().st_size for path in MODELS.rglob("*.safetensors")}
    others = {name: sizes.pop(name) for name in ("ts3-16k", "ts3-16k-40hz", "units-16k")}
    assert sum(sizes.values()) <= 40_000_000
    assert sum(others.values()) <= 4 * 12_000_000


def test_shipped_pieces_are_of_shipped_units():
    units = syllabary.load("units-16k")
    assert list_bpes() == ["units-bpe-4k"]
    coder = PieceCoder(load_bpe("units-bpe-4k"), units.spec.tokens)
    tokens = units.encode(synthetic_speech(20_000), 16000)
    assert torch.equal(coder.decode(coder.encode(tokens)).codes, tokens.deduplicate().codes)


def test_export_rounds_and_leaves_out_what_only_training_needs(tmp_path):
    tokenizer = tiny_codecs.rvq(name="mine")
    before = tokenizer.spec.tokens.digest
    export(tokenizer, tmp_path / "small")
    tokenizer.save_pretrained(tmp_path / "whole")
    small, whole = (tmp_path / part / WEIGHTS_FILE for part in ("small", "whole"))
    assert small.stat().st_size < 0.6 * whole.stat().st_size
    loaded = syllabary.load(tmp_path / "small")
    assert tokenizer.spec.tokens.digest == before != loaded.spec.tokens.digest
    for tensor in inference_state(loaded).values():
        assert torch.equal(tensor, tensor.half().to(tensor.dtype))
    wave = torch.from_numpy(synthetic_speech(8000))
    again = tmp_path / "again"
    export(loaded, again)
    assert syllabary.load(again).encode(wave, 16000).equal(loaded.encode(wave, 16000))


def test_options_of_trained_models():
    fewer = syllabary.load("fsq-16k", levels=(5, 5, 5, 5, 5, 5))
    assert fewer.spec.tokens.codebook_sizes == (15625,) and fewer.name != "fsq-16k"
    with pytest.raises(CheckpointError, match="codebook_size can't be changed"):
        syllabary.load("rvq-16k", codebook_size=512)
    plain = syllabary.load("dmel", vocoder=None)
    assert plain.spec.tokens == syllabary.load("dmel").spec.tokens and plain.spec.parameters == 0
    assert syllabary.load("dmel", hop_length=160).spec.parameters == 0
