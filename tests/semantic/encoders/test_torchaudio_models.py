"""torchaudio's models, from a file of weights as its bundles have."""

import pytest
import torch

pytest.importorskip("torchaudio")

import torchaudio

from syllabary.errors import CheckpointError, UnknownTokenizerError
from syllabary.semantic.encoders import catalogue
from syllabary.semantic.encoders.layers import LayerChoice
from syllabary.semantic.encoders.torchaudio_models import TorchaudioModel

from ... import tiny_units
from ...conftest import synthetic_speech

CONVOLUTIONS = [(8, 10, 5), *[(8, 3, 2)] * 4, *[(8, 2, 2)] * 2]
ARGUMENTS = {
    "extractor_mode": "group_norm",
    "extractor_conv_layer_config": CONVOLUTIONS,
    "extractor_conv_bias": False,
    "encoder_embed_dim": 16,
    "encoder_projection_dropout": 0.1,
    "encoder_pos_conv_kernel": 16,
    "encoder_pos_conv_groups": 2,
    "encoder_num_layers": 3,
    "encoder_num_heads": 2,
    "encoder_attention_dropout": 0.1,
    "encoder_ff_interm_features": 24,
    "encoder_ff_interm_dropout": 0.0,
    "encoder_dropout": 0.1,
    "encoder_layer_norm_first": False,
    "encoder_layer_drop": 0.05,
    "aux_num_out": None,
}
BUCKETS = {"encoder_num_buckets": 8, "encoder_max_distance": 20}


def saved(architecture, arguments, path):
    torch.manual_seed(0)
    model = getattr(torchaudio.models, f"{architecture}_model")(**arguments).eval()
    torch.save(model.state_dict(), path)
    return model


@pytest.mark.parametrize("architecture", ["wav2vec2", "wavlm"])
def test_layers_are_those_of_torchaudio(architecture, tmp_path):
    arguments = ARGUMENTS | (BUCKETS if architecture == "wavlm" else {})
    model = saved(architecture, arguments, tmp_path / "weights.pth")
    encoder = TorchaudioModel.from_file(
        tmp_path / "weights.pth", architecture, arguments, choice=LayerChoice((2,))
    )
    assert len(encoder.model.encoder.transformer.layers) == 2 and encoder.hop == 320
    wave = torch.from_numpy(synthetic_speech(320 * 30))
    with torch.no_grad():
        layers, _ = model.extract_features(torch.nn.functional.pad(wave, (0, 80))[None])
    found = encoder.features([wave])[0]
    assert found.shape == (30, 16)
    assert torch.allclose(found, layers[1][0], atol=1e-5)
    again = catalogue.build(encoder.fields())
    again.load_state_dict(encoder.state_dict())
    assert torch.equal(again.features([wave])[0], found)
    units = tiny_units.tokenizer_of(encoder)
    batch = torch.stack([wave, wave])
    codes = units.encode(batch, 16000, [9600, 5001]).codes
    assert torch.equal(codes[1, :, :16], units.encode(wave[:5001], 16000).codes[0])


def test_wrong_weights_arguments_and_bundles(tmp_path, monkeypatch):
    saved("wav2vec2", ARGUMENTS, tmp_path / "weights.pth")
    other = ARGUMENTS | {"encoder_embed_dim": 32}
    with pytest.raises(CheckpointError, match="size mismatch"):
        TorchaudioModel.from_file(tmp_path / "weights.pth", "wav2vec2", other)
    with pytest.raises(CheckpointError, match="layer 7 of a model that has 3"):
        TorchaudioModel.from_file(
            tmp_path / "weights.pth", "wav2vec2", ARGUMENTS, choice=LayerChoice((7,))
        )
    with pytest.raises(CheckpointError, match="does not take"):
        TorchaudioModel.from_file(
            tmp_path / "weights.pth", "wav2vec2", ARGUMENTS | {"colour": "red"}
        )
    (tmp_path / "weights.pth").write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match=r"weights\.pth"):
        TorchaudioModel.from_file(tmp_path / "weights.pth", "wav2vec2", ARGUMENTS)
    with pytest.raises(UnknownTokenizerError, match="HUBERT_BASE"):
        catalogue.find("torchaudio:NO_SUCH_BUNDLE")


def test_a_bundle_is_read_as_torchaudio_publishes_it(tmp_path, monkeypatch):
    """Nothing can be downloaded here, so a bundle of our own has its weights beside it."""
    model = saved("wav2vec2", ARGUMENTS, tmp_path / "weights.pth")
    bundle = torchaudio.pipelines.Wav2Vec2Bundle("weights.pth", ARGUMENTS, 16000, False, "Wav2Vec2")
    monkeypatch.setattr(torchaudio.pipelines, "TINY", bundle, raising=False)
    state = torch.load(tmp_path / "weights.pth", weights_only=True)
    monkeypatch.setattr(type(bundle), "_get_state_dict", lambda self, options: state)
    encoder = catalogue.find("torchaudio:TINY", LayerChoice((3,)))
    wave = torch.from_numpy(synthetic_speech(320 * 20))
    with torch.no_grad():
        layers, _ = model.extract_features(torch.nn.functional.pad(wave, (0, 80))[None])
    assert torch.allclose(encoder.features([wave])[0], layers[2][0], atol=1e-5)
