"""Ids of a language model sound the same at once and while they are written."""

import numpy as np
import pytest
import torch

import syllabary
from syllabary.errors import TokenError, TokenMismatchError
from syllabary.lm import SpeechStream, Vocabulary, pattern, to_speech
from syllabary.semantic.token_bpe import PieceCoder, load_bpe

from ..conftest import synthetic_speech


@pytest.fixture(scope="module")
def rvq():
    return syllabary.load("rvq-16k")


@pytest.fixture(scope="module")
def tokens(rvq):
    return rvq.encode(synthetic_speech(16_000), 16_000, num_codebooks=3)


def streamed(ids, *arguments, size=7, **settings):
    with SpeechStream(*arguments, **settings) as stream:
        pieces = [ids[..., start : start + size] for start in range(0, ids.shape[-1], size)]
        wave = torch.cat([*map(stream.push, pieces), stream.finish()])
    return wave, stream.repairs


@pytest.mark.parametrize("kind", ["flatten", "delay"])
def test_what_was_encoded_is_heard(rvq, tokens, kind):
    vocabulary = Vocabulary(tokens.spec, 128_256, codebooks=3)
    made = pattern(kind, tokens.spec.codebook_sizes[:3])
    (ids,) = vocabulary.encode(tokens, made)
    expected = rvq.decode(tokens)[0]
    speech = to_speech(ids, vocabulary, rvq, made)
    assert speech.sample_rate == 16_000 and not speech.repairs.any
    # The number of samples is that of whole frames: the ids don't have another.
    assert len(speech.wave) == tokens.codes.shape[-1] * tokens.spec.hop
    assert torch.equal(speech.wave[: len(expected)], expected)
    assert torch.equal(speech.tokens.codes, tokens.codes)
    assert torch.equal(streamed(ids, vocabulary, rvq, made)[0], speech.wave)


def test_repaired_speech_is_the_same_in_a_stream(rvq, tokens):
    vocabulary = Vocabulary(tokens.spec, 100, codebooks=3)
    (ids,) = vocabulary.encode(tokens)
    generator = np.random.default_rng(0)
    ids = np.delete(ids, generator.integers(0, len(ids), 9))
    ids[generator.integers(0, len(ids), 9)] = 5  # text
    with pytest.raises(TokenError, match="where a code of codebook"):
        to_speech(ids, vocabulary, rvq)
    speech = to_speech(ids, vocabulary, rvq, repair=True)
    assert speech.repairs.wrong > 9 and speech.repairs.filled > 9
    wave, repairs = streamed(ids, vocabulary, rvq, repair=True, size=2)
    assert torch.equal(wave, speech.wave) and repairs == speech.repairs
    # Before the first frame there is silence to go on with.
    (late,) = vocabulary.encode(tokens)
    late = to_speech(late[2:], vocabulary, rvq, repair=True)
    silence = rvq.encode(torch.zeros(8 * 320), 16_000).codes[0, :2, -1]
    assert late.tokens.codes[0, :2, 0].equal(silence)


def test_pieces_of_units(tokens):
    units = syllabary.load("units-16k")
    coder = PieceCoder(load_bpe("units-bpe-4k"), units.spec.tokens)
    pieces = coder.encode(units.encode(synthetic_speech(32_000), 16_000))
    vocabulary = Vocabulary(coder.spec, 1000)
    (ids,) = vocabulary.encode(pieces, drop_durations=True)
    speech = to_speech(ids, vocabulary, units, coder=coder)
    expected = coder.decode(coder.from_ids([ids - vocabulary.base[0]])).restore()
    assert speech.tokens.equal(expected)
    assert torch.equal(speech.wave, units.decode(expected)[0])
    assert torch.equal(streamed(ids, vocabulary, units, coder=coder, size=1)[0], speech.wave)


def test_another_tokenizer_is_refused(rvq, tokens):
    vocabulary = Vocabulary(tokens.spec, 0)
    with pytest.raises(TokenMismatchError, match=r"of rvq-16k .* not of fsq-16k"):
        to_speech(np.zeros(3, int), vocabulary, syllabary.load("fsq-16k"))
