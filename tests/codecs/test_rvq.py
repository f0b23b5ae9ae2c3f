"""The RVQ codec: nested codes, a digest of what gives codes their meaning, and the 25 Hz shape."""

import copy
import dataclasses
from itertools import pairwise

import pytest
import torch

import syllabary
from syllabary.codecs.rvq.tokenizer import RVQCodec, RVQConfig
from syllabary.errors import CheckpointError, TokenError, TokenMismatchError

from .. import tiny_codecs
from ..conftest import synthetic_speech


@pytest.fixture(scope="module")
def codec():
    return tiny_codecs.rvq()


@pytest.fixture(scope="module")
def wave():
    return torch.from_numpy(synthetic_speech(8000))


def test_fewer_codebooks_are_a_prefix_of_more(codec, wave):
    full = codec.encode(wave, 16000)
    assert full.codes.shape == (1, 4, 25)
    for count in range(1, 5):
        some = codec.encode(wave, 16000, num_codebooks=count)
        assert torch.equal(some.codes, full.codes[:, :count])
        with codec.stream(num_codebooks=count) as session:
            parts = [session.encode(chunk) for chunk in wave.split(777)]
            parts.append(session.flush().tokens)
        assert syllabary.Tokens.concat(parts).equal(some)
    assert len({tuple(row.tolist()) for row in full.codes[0].T}) > 5


def test_every_number_of_codebooks_decodes(codec, wave):
    sounds = []
    for count in range(1, 5):
        tokens = codec.encode(wave, 16000, num_codebooks=count)
        sounds.append(codec.decode(tokens))
        assert sounds[-1].shape == (1, 8000)
        with codec.stream(num_codebooks=count) as session:
            pcm = [session.decode(tokens.frames(n, n + 1)) for n in range(25)]
            pcm.append(session.flush().wave)
        assert torch.equal(torch.cat(pcm, 1), sounds[-1])
    assert not any(torch.equal(a, b) for a, b in pairwise(sounds))


def test_latents_are_the_sum_of_the_codes(codec):
    codes = torch.randint(0, 32, (1, 11, 4))
    with torch.no_grad():
        for count in range(1, 5):
            ours = codec.dequantize(codes[..., :count])
            theirs = codec.quantizer.decode(codes[..., :count].transpose(1, 2))
            assert torch.allclose(ours, theirs, atol=1e-5)


def test_a_code_of_minus_one_adds_nothing(codec):
    codes = torch.randint(0, 32, (1, 6, 4))
    codes[:, 3:] = -1
    with torch.no_grad():
        latents = codec.dequantize(codes)
        assert not latents[:, 3:].any()
        assert torch.equal(latents[:, :3], codec.dequantize(codes[:, :3]))
        fewer = codes[:, :3].clone()
        fewer[:, 1:, 2:] = -1  # a stream may go on with fewer codebooks
        some = codec.dequantize(fewer)
        assert torch.equal(some[:, 1:], codec.dequantize(codes[:, 1:3, :2]))
        assert torch.equal(some[:, :1], latents[:, :1])


def test_the_digest_is_of_what_gives_codes_their_meaning(codec, wave):
    digest = codec.spec.tokens.digest
    for name, parameter in codec.named_parameters():
        other = copy.deepcopy(codec)
        with torch.no_grad():
            dict(other.named_parameters())[name].view(-1)[0] += 1
        same = other.describe().tokens.digest == digest
        assert same == name.startswith("decoder."), name
        assert parameter.requires_grad
    other = copy.deepcopy(codec)
    other.quantizer.stages[2].codebook[3, 1] += 1
    assert other.describe().tokens.digest != digest


def test_a_better_decoder_decodes_the_same_tokens(codec, wave):
    tokens = codec.encode(wave, 16000)
    other = copy.deepcopy(codec)
    with torch.no_grad():
        other.decoder.stack.norm.weight.mul_(1.5)
    assert other.encode(wave, 16000).equal(tokens)
    assert not torch.equal(other.decode(tokens), codec.decode(tokens))
    deeper = dataclasses.replace(tiny_codecs.STACK, blocks=3)
    network = dataclasses.replace(codec.config.network, decoder=deeper, decoder_look_ahead=1)
    another = RVQCodec(dataclasses.replace(codec.config, network=network))
    weights = codec.state_dict()
    another.load_state_dict(
        {n: weights.get(n, v) for n, v in another.state_dict().items() if n[:8] != "decoder."},
        strict=False,
    )
    assert another.eval().decode(tokens).shape == (1, 8000)
    third = tiny_codecs.rvq(seed=1)
    with pytest.raises(TokenMismatchError):
        third.decode(tokens)


def test_saving_and_loading(codec, wave, tmp_path):
    tokens = codec.encode(wave, 16000)
    codec.save_pretrained(tmp_path)
    loaded = syllabary.load(tmp_path)
    assert isinstance(loaded, RVQCodec) and loaded.config == codec.config
    assert loaded.spec == codec.spec
    assert loaded.encode(wave, 16000).equal(tokens)
    assert torch.equal(loaded.decode(tokens), codec.decode(tokens))
    for name, tensor in codec.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace('"blocks": 2', '"bloks": 2'))
    with pytest.raises(CheckpointError, match=r"no field .*bloks"):
        syllabary.load(tmp_path)


def test_weights_that_are_loaded_are_the_ones_that_are_used(codec, wave):
    other = tiny_codecs.rvq(seed=7)
    before = other.encode(wave, 16000)
    tokens = codec.encode(wave, 16000)
    assert not torch.equal(before.codes, tokens.codes)
    other.load_state_dict(codec.state_dict())
    assert torch.equal(other.encode(wave, 16000).codes, tokens.codes)
    replaced = dataclasses.replace(tokens, spec=other.spec.tokens)
    assert torch.equal(other.decode(replaced), codec.decode(tokens))


@pytest.mark.parametrize("name", [*tiny_codecs.NAMES])
def test_one_thread_and_two_give_the_same(name):
    codec = tiny_codecs.MODELS[name](name)
    wave = torch.from_numpy(synthetic_speech(40_000, 3))
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(codec.encode(wave, 16000))
    assert found[0].equal(found[1])


def test_half_the_frames():
    codec = tiny_codecs.rvq(640)
    spec = codec.spec
    assert float(spec.frame_rate) == 25 and spec.tokens.hop == 640
    assert spec.bitrate == 25 * 4 * 5
    for samples in (1, 639, 640, 641, 7919):
        tokens = codec.encode(torch.from_numpy(synthetic_speech(samples)), 16000)
        assert tokens.codes.shape == (1, 4, -(-samples // 640))
        assert codec.decode(tokens).shape == (1, samples)


def test_the_spec():
    spec = tiny_codecs.rvq(encoder_look_ahead=1, decoder_look_ahead=2).spec
    assert (spec.causal, spec.encoder_latency, spec.decoder_latency) == (False, 640, 640 + 240)
    spec = tiny_codecs.rvq().spec
    assert (spec.causal, spec.encoder_latency, spec.decoder_latency) == (True, 320, 240)
    assert spec.latency_ms == 35
    assert (spec.min_codebooks, spec.tokens.codebook_sizes) == (1, (32,) * 4)
    assert spec.macs_per_second > 0
    assert spec.parameters == sum(p.numel() for p in tiny_codecs.rvq().parameters())


def test_the_default_is_half_to_four_kbit():
    config = RVQConfig()
    rate = config.network.sample_rate / config.network.hop
    assert rate * 10 == 500 and rate * 10 * config.num_codebooks == 4000
    assert max(config.dropout) == config.num_codebooks


def test_bad_tokens(codec, wave):
    tokens = codec.encode(wave, 16000)
    for value in (-1, 32):
        codes = tokens.codes.clone()
        codes[0, 1, 2] = value
        with pytest.raises(TokenError, match="out of range"):
            codec.decode(dataclasses.replace(tokens, codes=codes))
    with pytest.raises(TokenError, match="1 to 4 codebooks"):
        codec.encode(wave, 16000, num_codebooks=5)
