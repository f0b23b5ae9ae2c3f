"""dMel's trained vocoder: a stream of it, its lag, and the configuration that holds it."""

import dataclasses

import pytest
import torch

import syllabary
from syllabary.codecs.dmel.config import DMelConfig

from ... import tiny_codecs
from ...conftest import synthetic_speech

SHAPES = [(400, 0), (400, 1), (200, 0), (200, 3)]


def speech(samples, seed=0):
    return torch.from_numpy(synthetic_speech(samples, seed))


@pytest.mark.parametrize(("hop", "look_ahead"), SHAPES)
@pytest.mark.parametrize("samples", [0, 1, 399, 400, 401, 7919])
def test_decoding_gives_every_sample(hop, look_ahead, samples):
    tokenizer = tiny_codecs.dmel(hop, look_ahead)
    wave = tokenizer.decode(tokenizer.encode(speech(samples), 16000))
    assert wave.shape == (1, samples)
    assert bool(wave.isfinite().all())


@pytest.mark.parametrize(("hop", "look_ahead"), SHAPES)
@pytest.mark.parametrize("step", [1, 7, 16, 33])
def test_a_stream_says_what_it_says_offline(hop, look_ahead, step):
    tokenizer = tiny_codecs.dmel(hop, look_ahead)
    tokens = tokenizer.encode(torch.stack([speech(12_345), speech(12_345, 1)]), 16000)
    whole = tokenizer.decode(tokens)
    with tokenizer.stream(batch_size=2) as session:
        pcm = []
        for start in range(0, int(tokens.lengths[0]), step):
            pcm.append(session.decode(tokens.frames(start, start + step)))
            # As soon as the latency says, and no later.
            due = max(0, session.frames_in[0] * hop - tokenizer.spec.decoder_latency)
            assert session.samples_out[0] == min(due, 12_345)
        pcm.append(session.flush().wave)
    assert torch.equal(torch.cat(pcm, 1), whole)
    alone = tokenizer.decode(tokens[1])
    assert torch.equal(alone[0], whole[1])


@pytest.mark.parametrize(("hop", "look_ahead"), SHAPES)
def test_the_latency_is_look_ahead_and_overlap(hop, look_ahead):
    tokenizer = tiny_codecs.dmel(hop, look_ahead)
    assert tokenizer.spec.decoder_latency == look_ahead * hop + 300
    encoder = hop + (800 - hop) // 2
    assert tokenizer.spec.encoder_latency == encoder
    total = (encoder + tokenizer.spec.decoder_latency) / 16
    assert tokenizer.spec.latency_ms == pytest.approx(total)


def test_sound_does_not_depend_on_later_tokens():
    for look_ahead in (0, 2):
        tokenizer = tiny_codecs.dmel(look_ahead=look_ahead)
        tokens = tokenizer.encode(speech(16_000), 16000)
        other = tokens.codes.clone()
        other[..., 20:] = 15 - other[..., 20:]
        changed = tokenizer.decode(dataclasses.replace(tokens, codes=other))
        wave = tokenizer.decode(tokens)
        first = (20 - look_ahead) * 400 - 300
        assert torch.equal(wave[:, :first], changed[:, :first])
        assert not torch.equal(wave[:, first:], changed[:, first:])


def test_no_token_depends_on_the_vocoder(tmp_path):
    tokenizer, plain = tiny_codecs.dmel(name="dmel"), syllabary.load("dmel", vocoder=None)
    assert tokenizer.spec.tokens == plain.spec.tokens
    tokens = plain.encode(speech(8000), 16000)
    assert tokenizer.encode(speech(8000), 16000).equal(tokens)
    wave = tokenizer.decode(tokens)
    assert not torch.allclose(wave, plain.decode(tokens), atol=1e-3)
    tokenizer.save_pretrained(tmp_path)
    loaded = syllabary.load(tmp_path)
    assert loaded.config == tokenizer.config and loaded.spec == tokenizer.spec
    assert torch.equal(loaded.decode(tokens), wave)
    weights = sum(p.numel() for p in tokenizer.vocoder.parameters())
    assert tokenizer.spec.parameters == weights > 0 == plain.spec.parameters


def test_levels_and_absence_are_told_apart():
    vocoder = tiny_codecs.dmel().vocoder
    levels = torch.full((1, 3, 80), -2.5)
    latents = vocoder.inputs(levels, torch.tensor([[True, True, False]]))
    assert latents.shape == (1, 3, 81)
    assert latents[0, 0].tolist() == [0.0] * 80 + [1.0]
    assert not latents[0, 2].any()


def test_a_vocoder_of_other_frames_is_refused():
    with pytest.raises(ValueError, match="the vocoder has hop 200 and 80 channels"):
        DMelConfig(vocoder=tiny_codecs.vocoder_config(200))
