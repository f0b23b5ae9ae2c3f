"""TS3: the paper's sizes, and codecs of any trunk with one codebook."""

import dataclasses

import pytest
import torch

import syllabary
from syllabary.codecs.neural.layers.transformer import TransformerConfig
from syllabary.codecs.neural.trunks.raw_frames import FrameConfig
from syllabary.codecs.ts3.presets import PRESETS
from syllabary.codecs.ts3.tokenizer import TS3Codec, TS3Config
from syllabary.errors import UnknownTokenizerError

from .. import tiny_codecs
from ..conftest import synthetic_speech

LIST = [("ts3-x1", 800), ("ts3-x2", 850), ("ts3-x3", 640), ("ts3-x4", 680)]


@pytest.fixture
def untrained(monkeypatch):
    """Makes codecs whose weights are whatever memory had: random ones can take half a minute."""
    monkeypatch.setattr(torch.Tensor, "uniform_", lambda self, *_, **__: self)
    return TS3Codec


@pytest.mark.parametrize("name, bitrate", LIST)
def test_the_papers_sizes(name, bitrate, untrained):
    config = PRESETS[name]
    codec = untrained(config)
    weights = sum(p.numel() for p in codec.parameters()) + codec.quantizer.codebook.numel()
    assert weights == pytest.approx(203.6e6, rel=0.005)
    rate = 16_000 / config.network.hop
    assert rate * (config.codebook.size - 1).bit_length() == bitrate
    macs = rate * (codec.encoder.macs_per_frame + codec.decoder.macs_per_frame)
    assert macs == pytest.approx(rate * 204e6, rel=0.01)


def test_the_talks_size(untrained):
    codec = untrained(PRESETS["ts3-1.6b"])
    assert sum(p.numel() for p in codec.parameters()) == pytest.approx(1.6e9, rel=0.02)


def test_presets_have_no_weights_to_load():
    with pytest.raises(UnknownTokenizerError, match="syllabary train ts3-x2"):
        syllabary.load("ts3-x2")


def test_samples_are_coded_one_frame_at_a_time():
    """What the paper's trunk hears of a frame is the frame, and its window."""
    codec = tiny_codecs.ts3_frames()
    wave = torch.from_numpy(synthetic_speech(16_000))
    tokens = codec.encode(wave, 16_000)
    assert tokens.codes.shape == (1, 1, 50) and len(tokens.codes.unique()) > 3
    reach = codec.network.encoder.layers * (codec.network.encoder.window - 1)
    later = codec.encode(wave[320 * 20 :], 16_000)
    assert torch.equal(later.codes[..., reach:], tokens.codes[..., 20 + reach :])
    spec = codec.spec
    assert (spec.encoder_latency, spec.decoder_latency, spec.causal) == (320, 0, True)


def test_a_codebook_or_levels():
    book, levels = tiny_codecs.ts3(), tiny_codecs.ts3(levels=(5, 4, 3))
    assert book.spec.tokens.codebook_sizes == (64,)
    assert levels.spec.tokens.codebook_sizes == (60,)


def test_both_paths_find_the_same_codes():
    """PyTorch's modules in tiles, as on a GPU, and what is compiled for a CPU."""
    wave = torch.from_numpy(synthetic_speech(16_000))
    for codec in (tiny_codecs.ts3(), tiny_codecs.ts3(int8=True)):
        compiled = codec.encode(wave, 16_000).codes
        exact = codec._exact_encoder()
        with torch.no_grad():
            latents, _ = exact.latents(exact.windows_of(wave[None].double()))
            codes = codec.quantizer.encode(latents.float())
        assert torch.equal(codes, compiled)


def test_int8_is_another_tokenizer():
    plain, rounded = tiny_codecs.ts3(), tiny_codecs.ts3(int8=True)
    assert plain.spec.tokens.digest != rounded.spec.tokens.digest
    assert "int8" in rounded.spec.description and "int8" not in plain.spec.description


def test_widths_must_agree():
    wide, narrow = (TransformerConfig(width, 1, 2, 8, 2) for width in (8, 4))
    with pytest.raises(ValueError, match="same width"):
        FrameConfig(encoder=wide, decoder=narrow)


def test_it_is_saved_and_loaded(tmp_path):
    codec = tiny_codecs.ts3(int8=True)
    codec.save_pretrained(tmp_path)
    again = syllabary.load(tmp_path)
    assert again.config == codec.config
    assert again.spec.tokens.digest == codec.spec.tokens.digest
    assert dataclasses.replace(TS3Config(), levels=(8, 5)) != TS3Config()
