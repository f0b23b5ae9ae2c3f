"""Codecs of transformers: their codes and samples are those of the library's own calls, bit by bit.

The references use nothing of ours: the library loads the folder, its feature extractor prepares the
audio, and its `encode` and `decode` run.
"""

import dataclasses
import json

import numpy as np
import pytest
import torch

import syllabary
from syllabary.audio.resampling import resample
from syllabary.codecs.pretrained.architectures import TRANSFORMERS
from syllabary.errors import CheckpointError, TokenError

from ... import tiny_models
from ...conftest import synthetic_speech

transformers = pytest.importorskip("transformers")


def model_of(name):
    _, kind, _ = tiny_models.MODELS[name]
    return getattr(transformers, kind).from_pretrained(tiny_models.directory(name)).eval()


def prepared(kind, wave, rate, word="raw_audio", **options):
    extractor = getattr(transformers, kind)(sampling_rate=rate, **options)
    return extractor(**{word: wave}, sampling_rate=rate, return_tensors="pt")


def encodec(model, wave):
    inputs = prepared("EncodecFeatureExtractor", wave, 24000)
    found = model.encode(inputs["input_values"], inputs["padding_mask"], bandwidth=3.0)
    return found.audio_codes[0], model.decode(found.audio_codes, found.audio_scales).audio_values


def mimi(model, wave):
    inputs = prepared("EncodecFeatureExtractor", wave, 24000)
    codes = model.encode(inputs["input_values"], inputs["padding_mask"]).audio_codes
    return codes, model.decode(codes).audio_values


def dac(model, wave):
    inputs = prepared("DacFeatureExtractor", wave, 16000, hop_length=320)
    codes = model.encode(inputs["input_values"]).audio_codes
    return codes, model.decode(audio_codes=codes).audio_values


def wavtokenizer(model, wave):
    inputs = prepared("WavTokenizerFeatureExtractor", wave, 24000, "audio", hop_length=320)
    codes = model.encode(**inputs).audio_codes
    return codes, model.decode(codes).audio_values


def xcodec(model, wave):
    hop, rate = model.config.hop_length, model.config.sample_rate
    inputs = prepared("DacFeatureExtractor", wave, rate, hop_length=hop)
    codes = model.encode(inputs["input_values"]).audio_codes
    return codes, model.decode(codes).audio_values


def xcodec2(model, wave):
    inputs = prepared("Xcodec2FeatureExtractor", wave, 16000, "audio")
    codes = model.encode(**inputs).audio_codes
    frames = -(-len(wave) // 320)  # one more of whole frames, which stands for no sample
    return codes[..., :frames], model.decode(codes[..., :frames]).audio_values


def neucodec(model, wave):
    wave = np.pad(wave, (0, -len(wave) % 320))  # it has no frame for what is no whole frame
    codes = model.encode(**prepared("NeuCodecFeatureExtractor", wave, 16000, "audio")).audio_codes
    return codes, model.decode(codes).audio_values


THEIRS = {
    "tiny-encodec": encodec,
    "tiny-mimi": mimi,
    "tiny-dac": dac,
    "tiny-wavtokenizer": wavtokenizer,
    "tiny-xcodec": xcodec,
    "tiny-higgs": xcodec,
    "tiny-xcodec2": xcodec2,
    "tiny-neucodec": neucodec,
}


@pytest.mark.parametrize("name", THEIRS)
def test_codes_and_samples_are_the_librarys_own(name):
    codec, model = syllabary.load(tiny_models.directory(name)), model_of(name)
    spec = codec.spec.tokens
    seen = set()
    for seed, length in enumerate((20 * spec.hop, 20 * spec.hop + 1, 13 * spec.hop + 777, 5)):
        wave = synthetic_speech(length, seed, spec.sample_rate)
        tokens = codec.encode(wave, spec.sample_rate)
        with torch.no_grad():
            codes, samples = THEIRS[name](model, wave)
        assert int((tokens.codes != codes).sum()) == 0
        (ours,) = codec.decode_natively(tokens)
        theirs = samples.flatten()[: len(ours)]
        assert torch.equal(ours[: len(theirs)], theirs) and not ours[len(theirs) :].any()
        if name != "tiny-neucodec":
            assert torch.equal(codec.decode(tokens)[0], ours)
        seen |= set(codes[0, 0].tolist())
    assert len(seen) > 4, "a model that gives always the same code shows nothing"
    assert bool(ours.any())


def test_higgs_is_not_xcodec_by_another_name():
    """They share an adapter; what differs is in their models."""
    assert TRANSFORMERS["xcodec"].model != TRANSFORMERS["higgs_audio_v2_tokenizer"].model
    assert syllabary.load(tiny_models.directory("tiny-higgs")).spec.frame_rate == 25


@pytest.mark.parametrize("count", [1, 2])
def test_fewer_codebooks_are_the_first_of_all(count):
    for name in ("tiny-encodec", "tiny-mimi", "tiny-dac", "tiny-xcodec", "tiny-higgs"):
        codec = syllabary.load(tiny_models.directory(name))
        wave = synthetic_speech(9000, 0, codec.spec.sample_rate)
        all_of_them = codec.encode(wave, codec.spec.sample_rate)
        few = codec.encode(wave, codec.spec.sample_rate, num_codebooks=count)
        assert torch.equal(few.codes, all_of_them.codes[:, :count])
        assert not torch.equal(codec.decode(few), codec.decode(all_of_them))


def rounded(quantizer, vectors):
    """The codes of vectors in the decoder's space: back through its projection, and rounded."""
    inner, out = quantizer.quantizer, quantizer.project_out
    scalars = torch.linalg.lstsq(out.weight, (vectors - out.bias).T).solution.T
    half = inner.levels // 2
    places = (scalars * half).round() + half
    return (places * inner.basis).sum(-1).long()[None]


QUANTIZED = {
    "tiny-encodec": lambda model, vectors: model.quantizer.encode(vectors)[:, 0],
    "tiny-mimi": lambda model, vectors: model.quantizer.encode(vectors)[:, 0],
    "tiny-dac": lambda model, vectors: model.quantizer(vectors)[1][0],
    "tiny-wavtokenizer": lambda model, vectors: model.encoder_model.quantizer.encode(vectors),
    "tiny-xcodec2": lambda model, vectors: rounded(model.quantizer, vectors[0].T),
    "tiny-neucodec": lambda model, vectors: rounded(model.quantizer, vectors[0].T),
}


@pytest.mark.parametrize("name", QUANTIZED)
def test_the_librarys_quantizer_makes_the_codes_of_the_latents(name):
    codec, model = syllabary.load(tiny_models.directory(name)), model_of(name)
    rate = codec.spec.sample_rate
    wave = synthetic_speech(30 * codec.spec.tokens.hop + 7, 0, rate)
    vectors = codec.latents(wave, rate).vectors.transpose(1, 2)
    with torch.no_grad():
        codes = QUANTIZED[name](model, vectors)
    assert torch.equal(codes, codec.encode(wave, rate).codes[0])


# --- EnCodec with chunks -------------------------------------------------------------------------


def chunks_of(model, wave):
    """The library's codes and scales, without its last chunk, which is padding only."""
    extractor = transformers.EncodecFeatureExtractor(
        feature_size=2, sampling_rate=16000, chunk_length_s=0.1, overlap=0.01
    )
    stereo = np.stack([wave, wave])
    inputs = extractor(raw_audio=stereo, sampling_rate=16000, return_tensors="pt")
    codes, scales, _ = model.encode(
        inputs["input_values"], inputs["padding_mask"], bandwidth=0.5, return_dict=False
    )
    count = -(-len(wave) // model.config.chunk_stride)
    return codes[:count], scales[:count]


def test_chunks_and_scales_are_the_librarys_own():
    codec, model = (
        syllabary.load(tiny_models.directory("tiny-encodec-chunks")),
        model_of("tiny-encodec-chunks"),
    )
    assert codec.spec.tokens.hop == model.config.chunk_stride == 1584
    for length in (1, 1583, 1584, 1585, 16_000):
        wave = synthetic_speech(length, 3)
        tokens = codec.encode(wave, 16000)
        with torch.no_grad():
            codes, scales = chunks_of(model, wave)
            samples = model.decode(codes, scales, return_dict=False)[0].mean(1)[0, :length]
        ours, loudness = codec.adapter.unpack(tokens.codes[0])
        assert torch.equal(ours, codes)
        assert torch.equal(loudness, torch.cat(scales).flatten())
        assert torch.equal(codec.decode(tokens)[0], samples)
        few = codec.encode(wave, 16000, num_codebooks=4 + 5)
        with torch.no_grad():
            samples = model.decode(codes[:, :, :1], scales, return_dict=False)[0].mean(1)
        assert torch.equal(codec.decode(few)[0], samples[0, :length])


def test_a_loudness_that_is_none_is_an_error():
    codec = syllabary.load(tiny_models.directory("tiny-encodec-chunks"))
    tokens = codec.encode(synthetic_speech(4000, 0), 16000)
    tokens.codes[0, :4, 1] = 255
    with pytest.raises(TokenError, match="bytes of its loudness"):
        codec.decode(tokens)


# --- NeuCodec's two rates ------------------------------------------------------------------------


def test_neucodec_decodes_to_the_rate_of_its_tokens_and_to_its_own():
    codec = syllabary.load(tiny_models.directory("tiny-neucodec"))
    waves = [synthetic_speech(length, 0) for length in (9000, 1234, 0)]
    batch = np.zeros((3, 9000), np.float32)
    for row, wave in enumerate(waves):
        batch[row, : len(wave)] = wave
    tokens = codec.encode(batch, 16000, [len(wave) for wave in waves])
    native = codec.decode_natively(tokens)
    assert codec.native_rate == 24000
    assert [len(wave) for wave in native] == [13_500, 1851, 0]
    wide = codec.decode(tokens, sample_rate=24000)
    assert wide.shape == (3, 13_500)
    for row, wave in zip(wide, native, strict=True):
        assert torch.equal(row[: len(wave)], wave) and not row[len(wave) :].any()
    assert codec.decode(tokens, sample_rate=48000).shape == (3, 27_000)
    whole = codec.decode(tokens)[0]
    assert whole.shape == (9000,)
    # The end of an utterance is resampled together with the rest of its last frame.
    expected = resample(native[0].numpy(), 24000, 16000)
    assert np.abs(whole.numpy() - expected)[:-200].max() < 1e-5


# --- the table -----------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", TRANSFORMERS)
def test_every_architecture_has_a_tiny_model_and_loads_by_its_model_type(architecture):
    entry = TRANSFORMERS[architecture]
    models = tiny_models.MODELS | tiny_models.CONTINUOUS
    names = [name for name, (_, kind, _) in models.items() if kind == entry.model]
    assert names
    for name in names:
        fields = json.loads((tiny_models.directory(name) / "config.json").read_text())
        assert fields["model_type"] == architecture
        codec = syllabary.load(tiny_models.directory(name))
        assert codec.architecture is entry and entry.name in codec.spec.description


#: Checkpoints whose configuration is their class's default, as the classes' documentation says.
DEFAULTS = {
    "facebook/encodec_24khz": {},
    "facebook/encodec_48khz": {
        "sampling_rate": 48000,
        "audio_channels": 2,
        "normalize": True,
        "chunk_length_s": 1.0,
        "overlap": 0.01,
        "target_bandwidths": [3.0, 6.0, 12.0, 24.0],
    },
    "kyutai/mimi": {},
    "swiss-ai/wavtokenizer-large-unify-40token": {},
    "hf-audio/xcodec-hubert-librispeech": {},
    "HKUSTAudio/xcodec2-hf": {},
    "neuphonic/neucodec": {},
}


def test_the_tables_figures_follow_from_the_librarys_configurations():
    checked = set()
    for entry in TRANSFORMERS.values():
        for model in entry.models:
            if model.id in DEFAULTS:
                settings = getattr(transformers, entry.config)(**DEFAULTS[model.id])
                adapter = entry.adapt(settings)
                assert list(model.tokens.codebook_sizes) == adapter.codebook_sizes, model.id
                assert (model.sample_rate, model.hop) == (adapter.sample_rate, adapter.hop)
                assert (model.native_rate or model.sample_rate) == adapter.native_rate
                checked.add(model.id)
    assert checked == set(DEFAULTS)


def test_a_library_without_the_architecture_says_so(monkeypatch):
    newer = dataclasses.replace(TRANSFORMERS["neucodec"], config="NeuCodec9Config")
    monkeypatch.setitem(TRANSFORMERS, "neucodec", newer)
    with pytest.raises(CheckpointError, match=r"has no NeuCodec yet: pip install --upgrade"):
        syllabary.load(tiny_models.directory("tiny-neucodec"))
