"""The trained unit vocoder: voices, durations, and what a tokenizer does with them."""

import numpy as np
import pytest
import torch

import syllabary
from syllabary.codecs.neural.layers.analysis import AnalysisConfig
from syllabary.errors import CheckpointError, QuantizerError, TokenError, WaveError
from syllabary.semantic.content.encoder import ContentConfig
from syllabary.semantic.encoders.content import Content
from syllabary.semantic.speaking.durations import DurationPredictor
from syllabary.semantic.speaking.vocoder import SpeakingVocoder
from syllabary.semantic.speaking.voices import VoiceEncoder
from syllabary.semantic.units.tokenizer import UnitTokenizer

from ... import tiny_codecs
from ...conftest import synthetic_speech


@pytest.fixture(scope="module")
def units():
    return tiny_codecs.content_units("small")


def wave(samples=16_000, seed=0):
    return synthetic_speech(samples, seed)


# --- voices ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hearing():
    torch.manual_seed(0)
    return VoiceEncoder(AnalysisConfig(), 16, 5)


def test_a_voice_does_not_depend_on_padding_or_neighbours(hearing):
    long, short = (torch.from_numpy(wave(n, n)) for n in (16_000, 9_000))
    batch = torch.zeros(2, 16_000)
    batch[0], batch[1, :9_000] = long, short
    batch[1, 9_000:] = 3.0
    both = hearing(batch, torch.tensor([16_000, 9_000]))
    assert both.norm(dim=1).tolist() == pytest.approx([1, 1])
    assert torch.allclose(both[0], hearing(long[None])[0], atol=1e-5)
    assert torch.allclose(both[1], hearing(short[None])[0], atol=1e-5)


def test_less_than_a_window_still_has_a_voice(hearing):
    assert bool(hearing(torch.from_numpy(wave(300))[None]).isfinite().all())


def test_another_voice_is_other_sound_of_the_same_tokens(units):
    tokens = units.encode(wave(), 16_000)
    other = units.with_voice(wave(8_000, 5), 16_000)
    assert other.encode(wave(), 16_000).equal(tokens)
    assert other.spec.tokens == units.spec.tokens
    assert not torch.equal(other.decode(tokens), units.decode(tokens))
    assert torch.equal(
        units.with_voice(wave(8_000, 5), 16_000).decode(tokens), other.decode(tokens)
    )


def test_a_voice_is_saved(units, tmp_path):
    other = units.with_voice(wave(8_000, 5), 16_000)
    other.save_pretrained(tmp_path)
    tokens = units.encode(wave(), 16_000)
    assert torch.equal(syllabary.load(tmp_path).decode(tokens), other.decode(tokens))


def test_vocoders_of_other_units_are_refused(units):
    other = SpeakingVocoder(tiny_codecs.speaking_config(), 22)
    with pytest.raises(QuantizerError, match="22 units, and 23"):
        units.with_vocoder(other)
    slower = UnitTokenizer.of(
        Content(ContentConfig(AnalysisConfig(sample_rate=8000, pitch_window=512), dim=6)),
        torch.zeros(23, 6),
    )
    with pytest.raises(ValueError, match="rate and hop"):
        slower.with_vocoder(SpeakingVocoder(tiny_codecs.speaking_config(), 23))
    with pytest.raises(TokenError, match="codebook 1 of 1"):
        units.encode_soft(wave(), 16_000, codebook=1)


def test_it_works_where_it_was_loaded_for_inference(units, tmp_path):
    units.save_pretrained(tmp_path)
    tokens = units.encode(wave(), 16_000)
    with torch.inference_mode():
        loaded = syllabary.load(tmp_path)
        assert loaded.encode(wave(), 16_000).equal(tokens)
        assert torch.equal(loaded.decode(tokens), units.decode(tokens))


@pytest.mark.parametrize("bad", [np.zeros(100, np.float32), np.full(9_000, np.nan, np.float32)])
def test_what_is_no_voice_is_refused(units, bad):
    with pytest.raises(WaveError):
        units.with_voice(bad, 16_000)
    with pytest.raises(WaveError, match="16000 Hz"):
        units.with_voice(wave(), 8_000)


# --- durations ------------------------------------------------------------------------------------


def test_the_duration_loss_is_least_at_the_mean():
    torch.manual_seed(0)
    guess = DurationPredictor(3, 8)
    optimizer = torch.optim.Adam(guess.parameters(), 0.02)
    means = torch.tensor([1.0, 2.5, 6.0])
    for _ in range(300):
        runs = torch.randint(3, (8, 12))
        durations = 1 + torch.poisson(means[runs] - 1).long()
        optimizer.zero_grad()
        guess.loss(runs, durations, torch.ones_like(runs, dtype=torch.bool)).backward()
        optimizer.step()
    runs = torch.arange(3).repeat(40)
    found = guess.durations(runs).reshape(40, 3).double().mean(0)
    assert found.tolist() == pytest.approx(means.tolist(), rel=0.2)


def test_guessed_durations_are_positive_and_do_not_depend_on_neighbours_in_a_batch(units):
    tokens = syllabary.Tokens.batch(
        [units.encode(wave(n, n), 16_000).deduplicate() for n in (16_000, 9_000)]
    )
    guessed = units.with_guessed_durations(tokens)
    assert torch.equal(guessed.codes, tokens.codes) and torch.equal(guessed.lengths, tokens.lengths)
    guessed.check()
    assert units.decode(guessed).shape[1] == int(guessed.num_samples.max())
    for row in range(2):
        assert units.with_guessed_durations(tokens[row]).equal(guessed[row])


def test_a_guess_sees_behind_the_end_what_training_showed():
    torch.manual_seed(0)
    guess = DurationPredictor(9, 8)
    runs = torch.randint(9, (7,))
    padded = torch.cat([runs, torch.full((20,), -1)])
    with torch.no_grad():
        means = 1 + guess(padded[None])[0, :7].double().exp()
    assert int(guess.durations(runs).sum()) == max(7, int(means.sum().round()))


def test_frames_without_durations_are_merged_before_guessing(units):
    tokens = units.encode(wave(), 16_000)
    assert units.with_guessed_durations(tokens).equal(
        units.with_guessed_durations(tokens.deduplicate())
    )


def test_tokens_of_another_tokenizer_have_no_durations_here(units):
    other = syllabary.load("dmel").encode(wave(), 16_000)
    with pytest.raises(TokenError):
        units.with_guessed_durations(other)


def test_a_tokenizer_without_a_trained_vocoder_says_so(units):

    silent = UnitTokenizer.of(units.encoder, units.centroids)
    for call in (
        lambda: silent.with_voice(wave(), 16_000),
        lambda: silent.decode(units.encode(wave(), 16_000)),
    ):
        with pytest.raises(CheckpointError):
            call()
