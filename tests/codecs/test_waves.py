"""What users have as waveforms: other rates, integers, lists, and a forgotten division."""

import warnings

import numpy as np
import pytest
import torch

import syllabary
from syllabary.audio import resample, write
from syllabary.audio.resampling import resampler_name
from syllabary.codecs.container import SylReader
from syllabary.errors import LevelWarning, WaveError
from syllabary.jobs import encode_file

from .. import tiny_codecs
from ..conftest import synthetic_speech

CODEC = tiny_codecs.fsq(name="tiny-fsq")
RATE = 16000


def speech(samples=9001, seed=0, rate=RATE):
    return synthetic_speech(samples, seed, rate)


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000.0])
def test_resampling_on_request_gives_what_resampling_first_gives(rate):
    wave = speech(int(rate), rate=int(rate))
    with pytest.raises(WaveError, match="resample=True"):
        CODEC.encode(wave, rate)
    tokens = CODEC.encode(wave, rate, resample=True)
    first = resample(wave, rate, RATE)
    assert tokens.equal(CODEC.encode(first, RATE))
    expected = {"source": {"sample_rate": rate}, "resampler": resampler_name()}
    assert tokens.metadata == (expected,)
    assert CODEC.latents(wave, rate, resample=True).equal(CODEC.latents(first, RATE))


def test_nothing_is_said_of_a_wave_at_the_right_rate():
    tokens = CODEC.encode(speech(), RATE, resample=True)
    assert tokens.metadata is None and tokens.equal(CODEC.encode(speech(), RATE))


def test_each_row_is_resampled_by_itself():
    waves = [speech(n, n, 44100) for n in (20_000, 7_001, 0)]
    batch = np.zeros((3, 30_000), np.float32)
    for row, wave in zip(batch, waves, strict=True):
        row[: len(wave)] = wave
        row[len(wave) :] = 0.7
    together = CODEC.encode(batch, 44100, [20_000, 7_001, 0], resample=True)
    assert len(together.metadata) == 3
    for row, wave in enumerate(waves):
        alone = CODEC.encode(wave, 44100, resample=True)
        assert together[row].equal(alone) and together[row].metadata == alone.metadata


def test_files_are_resampled_alike(tmp_path):
    wave = speech(44100, rate=44100)
    write(tmp_path / "a.wav", wave, 44100)
    encode_file(CODEC, tmp_path / "a.wav", tmp_path / "a.syl")
    tokens = syllabary.read_tokens(tmp_path / "a.syl")
    read = syllabary.audio.read(tmp_path / "a.wav")[0]
    mine = CODEC.encode(read, 44100, resample=True)
    assert mine.equal(tokens)
    assert mine.metadata[0]["resampler"] == tokens.metadata[0]["resampler"]
    assert tokens.metadata[0]["source"]["sample_rate"] == 44100


def test_the_resampler_is_written_into_files(tmp_path):
    syllabary.write_tokens(tmp_path / "a.syl", CODEC.encode(speech(), 8000, resample=True))
    with (tmp_path / "a.syl").open("rb") as file:
        assert SylReader(file).metadata["resampler"] == resampler_name()


@pytest.mark.parametrize("rate", [8000, 44100])
def test_decoding_at_another_rate(rate):
    tokens = CODEC.encode([speech(9001), speech(4000, 1)], RATE)
    own, other = CODEC.decode(tokens), CODEC.decode(tokens, sample_rate=rate)
    for row, count in enumerate((9001, 4000)):
        expected = resample(own[row, :count].numpy(), RATE, rate)
        assert torch.equal(other[row, : len(expected)], torch.from_numpy(expected))
        assert not other[row, len(expected) :].any()
    assert torch.equal(CODEC.decode(tokens, sample_rate=RATE), own)
    for wrong in (10, "16000", True, float("nan")):
        with pytest.raises(WaveError, match="sample rates"):
            CODEC.decode(tokens, sample_rate=wrong)


def test_lists_of_waves_of_different_lengths():
    waves = [speech(n, n) for n in (5000, 0, 321)]
    tokens = CODEC.encode(waves, RATE)
    for row, wave in enumerate(waves):
        assert tokens[row].equal(CODEC.encode(wave, RATE))
    mixed = [torch.from_numpy(waves[0])[None], waves[1].astype(np.float64), waves[2]]
    assert CODEC.encode(mixed, RATE).equal(tokens)
    assert CODEC.encode(tuple(waves), RATE, [4000, 0, 320])[0].equal(
        CODEC.encode(waves[0][:4000], RATE)
    )
    assert len(CODEC.encode([], RATE)) == 0
    for wrong in ([waves[0], [0.5]], [waves[0].reshape(2, -1)], [1.0, 2.0]):
        with pytest.raises(WaveError, match="list"):
            CODEC.encode(wrong, RATE)


def test_one_channel_in_the_middle():
    wave = torch.from_numpy(np.stack([speech(4000, 1), speech(4000, 2)]))
    assert CODEC.encode(wave[:, None], RATE).equal(CODEC.encode(wave, RATE))
    with pytest.raises(WaveError, match=r'read\(path, channels="mix"\)'):
        CODEC.encode(wave[None], RATE)


def test_sixteen_bits_count_by_their_value_exactly():
    whole = (speech() * 32768).round().clip(-32768, 32767).astype(np.int16)
    expected = CODEC.latents(whole.astype(np.float64) / 32768, RATE)
    for form in (whole, torch.from_numpy(whole), whole.astype(">i2"), [whole]):
        assert CODEC.latents(form, RATE).equal(expected)
    extremes = np.array([-32768, 32767, 1, 0], np.int16)
    found = syllabary.codecs.waves.given_rows(extremes, None)[0]
    assert found.tolist() == [-1.0, 32767 / 32768, 1 / 32768, 0.0]
    for dtype in (np.int32, np.uint8, np.int64):
        with pytest.raises(WaveError, match="full scale"):
            CODEC.encode(whole.astype(dtype), RATE)


def test_a_forgotten_division_is_told():
    for call in (CODEC.encode, CODEC.latents):
        with pytest.warns(LevelWarning, match="divide 16-bit samples by 32768"):
            call(speech() * 32768, RATE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CODEC.encode(speech() * 4, RATE)  # loud, and nothing else
        CODEC.encode((speech() * 32000).astype(np.int16), RATE)
    with pytest.warns(LevelWarning) as told, CODEC.stream() as session:
        for chunk in np.split(speech(9000) * 32768, 9):
            session.encode(chunk)
    assert len(told) == 1
    assert told[0].filename == __file__


def test_what_reading_says_of_channels(tmp_path):
    stereo = np.stack([speech(800, 1), speech(800, 2)], 1)
    import soundfile

    soundfile.write(tmp_path / "two.wav", stereo, RATE)
    with pytest.raises(syllabary.errors.AudioFileError, match=r'read\(path, channels="mix"\)'):
        syllabary.audio.read(tmp_path / "two.wav")
