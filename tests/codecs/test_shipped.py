"""Checkpoints inside the package, and how they are made."""

import pytest
import torch
from safetensors.torch import load_file, save_file

import syllabary
from syllabary.codecs.checkpoint import WEIGHTS_FILE, export, inference_state
from syllabary.codecs.neural.layers.causal import CausalBlock
from syllabary.codecs.neural.layers.transformer import Int8Linear
from syllabary.codecs.registry import SHIPPED
from syllabary.codecs.shipped import MODELS
from syllabary.errors import CheckpointError
from syllabary.semantic.token_bpe import PieceCoder, list_bpes, load_bpe
from syllabary.training.state import beginning

from .. import tiny_codecs
from ..conftest import synthetic_speech


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_models_are_small_and_documented(name):
    folder = MODELS / SHIPPED[name].folder
    weights = load_file(folder / WEIGHTS_FILE)
    parts = ("encoder.", "vocoder.") if name == "units-16k" else ("",)
    for part in parts:
        tensors = [tensor for key, tensor in weights.items() if key.startswith(part)]
        assert sum(t.numel() * t.element_size() for t in tensors) <= 15_000_000
    card = (folder / "README.md").read_text()
    assert "Where it is weak" in card and "DATA.md" in card
    assert (folder / "recipe.json").exists() and (folder / "log.jsonl.gz").exists()
    assert syllabary.load(name).name == name


def test_assets_are_small():
    assets = (path for path in MODELS.parent.rglob("*") if path.is_file())
    assert sum(path.stat().st_size for path in assets) <= 80_000_000


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


def test_export_stores_what_inference_multiplies_in_8_bits(tmp_path):
    tokenizer = tiny_codecs.ts3(int8=True)
    with torch.no_grad():  # a row of zeros has no scale of its own
        tokenizer.decoder.stack.layers[0].widen.weight[3] = 0
    export(tokenizer, tmp_path / "a")
    stored = load_file(tmp_path / "a" / WEIGHTS_FILE)
    eight = {name for name, x in stored.items() if x.dtype == torch.int8}
    layers = {f"{n}.weight" for n, x in tokenizer.named_modules() if isinstance(x, Int8Linear)}
    assert eight == layers and len(layers) > 10
    loaded = syllabary.load(tmp_path / "a")
    for name, layer in tokenizer.named_modules():
        if isinstance(layer, Int8Linear):
            other = loaded.get_submodule(name)
            assert all(map(torch.equal, layer.integers(), other.integers()))
    export(loaded, tmp_path / "b")
    for name in (WEIGHTS_FILE, "config.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    tokenizer.load_state_dict(beginning(tmp_path / "a")["average"])
    assert tokenizer.spec.tokens.digest == loaded.spec.tokens.digest


@pytest.mark.parametrize("make", [tiny_codecs.rvq, tiny_codecs.fsq])
def test_export_stores_matrices_of_convolution_blocks_in_8_bits(make, tmp_path):
    tokenizer = make(name="mine")
    with torch.no_grad():
        tokenizer.decoder.stack.blocks[0].widen.weight[3] = 0
    export(tokenizer, tmp_path / "16")
    export(tokenizer, tmp_path / "8", bits=8)
    stored = load_file(tmp_path / "8" / WEIGHTS_FILE)
    eight = {name for name, x in stored.items() if x.dtype == torch.int8}
    blocks = [n for n, x in tokenizer.named_modules() if isinstance(x, CausalBlock)]
    assert eight == {f"{n}.{matrix}.weight" for n in blocks for matrix in ("widen", "narrow")}
    loaded = syllabary.load(tmp_path / "8")
    for name, tensor in tokenizer.state_dict().items():
        found = loaded.state_dict()[name]
        if name in eight:
            steps = tensor.abs().amax(1, keepdim=True) / 127
            assert ((found - tensor).abs() <= 0.51 * steps).all() and not found.equal(tensor)
        else:
            assert found.equal(syllabary.load(tmp_path / "16").state_dict()[name])
    export(loaded, tmp_path / "again", bits=8)
    for name in (WEIGHTS_FILE, "config.json"):
        assert (tmp_path / "8" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    export(loaded, tmp_path / "wide")
    wide = load_file(tmp_path / "wide" / WEIGHTS_FILE)
    assert not any(x.dtype == torch.int8 for x in wide.values())


def test_8_bits_without_their_scales_are_refused(tmp_path):
    tokenizer = tiny_codecs.ts3(int8=True)
    export(tokenizer, tmp_path)
    stored = load_file(tmp_path / WEIGHTS_FILE)
    name = next(name for name in stored if name.endswith("_scales"))
    for damaged in ({name: stored[name][1:]}, {}):
        rest = {key: x for key, x in stored.items() if key != name}
        save_file(rest | damaged, tmp_path / WEIGHTS_FILE)
        with pytest.raises(CheckpointError, match="8 bits and not one scale per row"):
            syllabary.load(tmp_path)


def test_options_of_trained_models():
    fewer = syllabary.load("fsq-16k", levels=(5, 5, 5, 5, 5, 5))
    assert fewer.spec.tokens.codebook_sizes == (15625,) and fewer.name != "fsq-16k"
    with pytest.raises(CheckpointError, match="codebook_size can't be changed"):
        syllabary.load("rvq-16k", codebook_size=512)
    plain = syllabary.load("dmel", vocoder=None)
    assert plain.spec.tokens == syllabary.load("dmel").spec.tokens and plain.spec.parameters == 0
    assert syllabary.load("dmel", hop_length=160).spec.parameters == 0
