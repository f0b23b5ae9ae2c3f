import importlib.metadata
import json
import sys
import types

import pytest
import torch

import syllabary
import syllabary.errors
from syllabary import catalogue
from syllabary.codecs import registry
from syllabary.errors import CheckpointError, UnknownTokenizerError

from .. import tiny_models


def test_options_change_the_digest_and_survive_saving(tmp_path):
    plain, narrow = syllabary.load("dmel"), syllabary.load("dmel", minimum=-5.0)
    assert plain.spec.tokens.digest != narrow.spec.tokens.digest
    narrow.save_pretrained(tmp_path / "narrow")
    assert syllabary.load(tmp_path / "narrow").spec == narrow.spec
    with pytest.raises(CheckpointError, match="bundled tokenizers only"):
        syllabary.load(tmp_path / "narrow", minimum=-4.0)


def test_equal_values_of_another_type_are_the_same_tokenizer():
    plain = syllabary.load("dmel").spec.tokens.digest
    assert syllabary.load("dmel", minimum=-7).spec.tokens.digest == plain
    assert syllabary.load("dmel", num_levels=16.0).spec.tokens.digest == plain
    for options in ({"num_levels": "x"}, {"num_levels": 16.5}, {"num_levels": True}):
        with pytest.raises(CheckpointError, match="num_levels must be int"):
            syllabary.load("dmel", **options)
    with pytest.raises(CheckpointError, match="at least 2 levels"):
        syllabary.load("dmel", num_levels=1)
    assert syllabary.load("dmel", num_levels=32).name == "dmel+num_levels=32"


def test_a_default_dtype_changes_nothing():
    wave = torch.randn(4000) / 10
    expected = syllabary.load("dmel")
    tokens = expected.encode(wave, 16000)
    torch.set_default_dtype(torch.float64)
    try:
        other = syllabary.load("dmel")
        assert other.encode(wave, 16000).equal(tokens)
        assert other.decode(tokens).dtype == torch.float32
        assert torch.allclose(other.decode(tokens), expected.decode(tokens), atol=1e-3)
    finally:
        torch.set_default_dtype(torch.float32)


def test_unknown_devices():
    with pytest.raises(syllabary.errors.SyllabaryError, match="device 'abacus'"):
        syllabary.load("dmel", device="abacus")


def test_a_family_of_ones_own_loads_from_its_directory(tmp_path):
    from syllabary.codecs.dmel.config import DMelConfig
    from syllabary.codecs.dmel.tokenizer import DMel

    class Mine(DMel):
        family = "mine"

    Mine(DMelConfig(), name="first").save_pretrained(tmp_path)
    assert type(syllabary.load(tmp_path)) is Mine


def test_a_digest_is_the_same_on_every_machine():
    # Of the paper's settings: it changes only with the meaning of the codes, and then old files
    # can't be decoded any more.
    digest = "a72312fc8421f0d6ae1d22a56e8b5c23e56318b41f9cd510a4003199c9b28815"
    assert syllabary.load("dmel").spec.tokens.digest == digest


def test_names_can_not_be_taken_twice():
    with pytest.raises(ValueError, match="already"):
        syllabary.register("dmel", lambda: None)


def test_other_packages_add_tokenizers(monkeypatch):
    module = types.ModuleType("elsewhere")
    module.make = lambda **options: syllabary.load("dmel", **options)
    monkeypatch.setitem(sys.modules, "elsewhere", module)
    entry = importlib.metadata.EntryPoint("theirs", "elsewhere:make", registry.ENTRY_POINT_GROUP)
    monkeypatch.setattr(catalogue, "entry_points", lambda group: [entry])
    assert "theirs" in syllabary.list_tokenizers()
    assert syllabary.load("theirs", num_mels=40).spec.tokens.num_codebooks == 40


def test_published_models_come_from_the_hub(monkeypatch):
    pytest.importorskip("transformers")
    hub = pytest.importorskip("huggingface_hub")
    asked = []

    def snapshot_download(model, **options):
        asked.append(model)
        return str(tiny_models.directory("tiny-mimi"))

    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    codec = syllabary.load("kyutai/tiny")
    assert asked == ["kyutai/tiny"] and codec.name == "kyutai/tiny"
    assert (codec.spec.sample_rate, codec.spec.frame_rate) == (24000, 12.5)
    tokens = codec.encode(torch.randn(5000) / 10, 24000, num_codebooks=2)
    assert tokens.codes.shape == (1, 2, 3)
    assert codec.decode(tokens).shape == (1, 5000)

    def offline(model, **options):
        raise OSError("no network")

    monkeypatch.setattr(hub, "snapshot_download", offline)
    with pytest.raises(UnknownTokenizerError, match=r"can't fetch 'kyutai/tiny'.*no network"):
        syllabary.load("kyutai/tiny")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UnknownTokenizerError, match=r"syllabary\[ssl\]"):
        syllabary.load("kyutai/tiny")


def test_what_can_not_be_loaded(tmp_path):
    pytest.importorskip("transformers")
    config = tmp_path / "config.json"
    for fields, message in (
        ({"model_type": "bert"}, "type 'bert'"),
        ({"model_type": "encodec", **tiny_models.ENCODEC, "normalize": True}, "loudness"),
        ({"model_type": "encodec", **tiny_models.ENCODEC, "audio_channels": 2}, "2 channels"),
        ({"model_type": "dac", **tiny_models.DAC}, "safetensors"),
    ):
        config.write_text(json.dumps(fields))
        with pytest.raises(CheckpointError, match=message):
            syllabary.load(tmp_path)
    config.write_text(json.dumps({"format": "syllabary-tokenizer", "format_version": 9}))
    with pytest.raises(CheckpointError, match="version 9"):
        syllabary.load(tmp_path)
    fields = {"format_version": 1, "family": "nonsense", "name": "", "digest": "", "config": {}}
    config.write_text(json.dumps({"format": "syllabary-tokenizer", **fields}))
    with pytest.raises(CheckpointError, match="unknown family 'nonsense'"):
        syllabary.load(tmp_path)
    for field, value in (("config", []), ("config", {"num_mels": 5000}), ("family", [])):
        bad = {"format": "syllabary-tokenizer", **fields, "family": "dmel", field: value}
        config.write_text(json.dumps(bad))
        with pytest.raises(CheckpointError):
            syllabary.load(tmp_path)
    config.write_text(json.dumps({"format": "syllabary-tokenizer", **fields, "family": "dmel"}))
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        syllabary.load(tmp_path)


def test_without_transformers_the_message_says_so(monkeypatch):
    pytest.importorskip("transformers")
    folder = tiny_models.directory("tiny-dac")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(CheckpointError, match=r"needs transformers.*syllabary\[ssl\]"):
        syllabary.load(folder)
