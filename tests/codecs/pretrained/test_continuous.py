"""Models with latents and no codes: the library's own vectors, and the contract as it applies."""

import numpy as np
import pytest
import torch

import syllabary
from syllabary import Latents
from syllabary.errors import LatentsError, TokenError, TokenMismatchError, WaveError

from ... import tiny_models
from ...conftest import synthetic_speech

transformers = pytest.importorskip("transformers")


@pytest.fixture(params=tiny_models.CONTINUOUS)
def name(request):
    return request.param


@pytest.fixture
def tokenizer(name):
    return syllabary.load(tiny_models.directory(name))


def speech(tokenizer, num_samples, seed=0):
    return torch.from_numpy(synthetic_speech(num_samples, seed, tokenizer.spec.sample_rate))


def latents_of(tokenizer, wave):
    return tokenizer.latents(wave, tokenizer.spec.sample_rate)


def theirs(name, wave):
    """What the library gives for a wave: vectors (frames, channels) and samples."""
    _, kind, _ = tiny_models.CONTINUOUS[name]
    model = getattr(transformers, kind).from_pretrained(tiny_models.directory(name)).eval()
    with torch.no_grad():
        if name == "tiny-pocket-tts":
            extractor = transformers.EncodecFeatureExtractor(sampling_rate=24000)
            wave = np.pad(wave, (0, -len(wave) % model.config.frame_size))
            inputs = extractor(raw_audio=wave, sampling_rate=24000, return_tensors="pt")
            vectors = model.encode(inputs["input_values"]).latents
            return vectors[0], model.decode(vectors).audio_values.flatten()
        extractor = transformers.VibeVoiceAcousticTokenizerFeatureExtractor(
            pad_to_multiple_of=model.config.hop_length
        )
        inputs = extractor(wave, sampling_rate=24000)
        vectors = model.encode(inputs["input_values"], sample=False).latents
        return vectors[0], model.decode(vectors).audio.flatten()


def test_vectors_and_samples_are_the_librarys_own(name, tokenizer):
    hop = tokenizer.spec.tokens.hop
    for seed, length in enumerate((6 * hop, 6 * hop + 1, 3 * hop + 777, 5)):
        wave = speech(tokenizer, length, seed)
        found = latents_of(tokenizer, wave)
        vectors, samples = theirs(name, wave.numpy())
        assert torch.equal(found.vectors[0], vectors)
        assert torch.equal(tokenizer.decode(found)[0], samples[:length])
    assert float(found.vectors.std()) > 1e-3


def test_length_law(tokenizer):
    hop = tokenizer.spec.tokens.hop
    for length in (0, 1, hop - 1, hop, hop + 1, 7 * hop + 13):
        found = latents_of(tokenizer, speech(tokenizer, length))
        assert found.vectors.shape == (1, -(-length // hop), tokenizer.spec.latent_channels)
        found.check()
        assert tokenizer.decode(found).shape == (1, length)


def test_vectors_do_not_depend_on_the_batch_or_the_padding(tokenizer):
    lengths = [9000, 0, 4321, 1]
    batch = torch.full((4, 9500), float("nan"))
    rows = [speech(tokenizer, length, seed) for seed, length in enumerate(lengths)]
    for row, wave in zip(batch, rows, strict=True):
        row[: len(wave)] = wave
    together = tokenizer.latents(batch, tokenizer.spec.sample_rate, lengths)
    waves = tokenizer.decode(together)
    for row, wave in enumerate(rows):
        alone = latents_of(tokenizer, wave)
        assert together[row].equal(alone)
        assert torch.equal(waves[row, : len(wave)], tokenizer.decode(alone)[0])


def test_streams_equal_offline(tokenizer):
    wave = speech(tokenizer, 9123)
    offline = latents_of(tokenizer, wave)
    with tokenizer.stream() as session:
        parts = [session.latents(chunk) for chunk in wave.split(1000)]
        parts.append(session.flush().latents)
    assert Latents.concat(parts).equal(offline)
    with tokenizer.stream() as session:
        pcm = [
            session.decode(offline.frames(frame, frame + 1))
            for frame in range(int(offline.lengths))
        ]
        pcm.append(session.flush().wave)
    assert torch.equal(torch.cat(pcm, 1), tokenizer.decode(offline))


def test_saved_and_loaded(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    loaded = syllabary.load(tmp_path)
    wave = speech(tokenizer, 8000)
    assert loaded.spec == tokenizer.spec
    assert latents_of(loaded, wave).equal(latents_of(tokenizer, wave))


def test_vectors_of_other_weights_are_refused(tokenizer):
    found = latents_of(tokenizer, speech(tokenizer, 4000))
    with torch.no_grad():
        next(iter(tokenizer.parameters())).mul_(1.01)
    with pytest.raises(TokenMismatchError):
        tokenizer.decode(found)


def test_there_are_no_codes_and_it_says_so(tokenizer):
    spec = tokenizer.spec
    assert spec.tokens.codebook_sizes == () and spec.decodes_latents
    assert spec.tokens.bitrate() == 0
    wave = speech(tokenizer, 4000)
    with pytest.raises(TokenError, match="is continuous: it has latents and no codes"):
        tokenizer.encode(wave, spec.sample_rate)
    with pytest.raises(TokenError, match="is continuous"), tokenizer.stream() as session:
        session.encode(wave)
    with pytest.raises(WaveError, match="Hz"):
        tokenizer.latents(wave, 8000)
    wrong = latents_of(tokenizer, wave)
    wrong.vectors[0, 0, 0] = float("nan")
    with pytest.raises(LatentsError, match="NaN"):
        tokenizer.decode(wrong)
