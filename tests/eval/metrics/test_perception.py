"""Networks that learnt from people's ears: DNSMOS, PLCMOS, voice embeddings."""

import dataclasses
import shutil
import sys

import numpy as np
import pytest

from syllabary.audio.files import read
from syllabary.eval.metrics import dnsmos as dnsmos_module
from syllabary.eval.metrics import plcmos as plcmos_module
from syllabary.eval.metrics import speaker as speaker_module
from syllabary.eval.metrics.dnsmos import BACKGROUND, OVERALL, SIGNAL, dnsmos
from syllabary.eval.metrics.interface import Clip, MetricError
from syllabary.eval.metrics.plcmos import plcmos
from syllabary.eval.metrics.speaker import (
    WAVLM_SPEAKER,
    WAVLM_SV,
    speaker_similarity,
    wavlm_similarity,
)
from syllabary.eval.model_files import folder_digest


@pytest.fixture(scope="module")
def clip(demo_clip):
    return read(demo_clip)[0][:80000]


def noise(clip, level):
    return level * np.random.default_rng(0).standard_normal(len(clip)).astype(np.float32)


def alone(estimate, sample_rate=16000):
    return Clip(np.zeros(0, np.float32), estimate, sample_rate)


def test_speaker_similarity(clip):
    pytest.importorskip("resemblyzer")

    def similarity(reference, estimate):
        return speaker_similarity(Clip(reference, estimate, 16000))

    assert similarity(clip, clip) == pytest.approx(1, abs=1e-5)
    # What is softer than -30 dBFS is raised to it; what 16 bits would wrap around is clamped.
    assert similarity(clip / 50, clip / 100) > 0.999
    clamped = similarity(clip, np.clip(9 * clip, -1, 1))
    assert similarity(clip, 9 * clip) == pytest.approx(clamped, abs=1e-6)
    noisy = similarity(clip, clip + noise(clip, 0.05))
    # Read faster, everything lies higher: the voice of somebody else.
    higher = np.interp(np.arange(0, len(clip), 1.5), np.arange(len(clip)), clip)
    stretched = np.pad(higher, (0, len(clip) - len(higher)))
    assert 0.98 > noisy > similarity(clip, stretched) > 0


def test_speaker_similarity_by_the_package(clip):
    resemblyzer = pytest.importorskip("resemblyzer")
    other = clip + noise(clip, 0.02)
    encoder = resemblyzer.VoiceEncoder("cpu", verbose=False)
    first, second = (
        encoder.embed_utterance(resemblyzer.preprocess_wav(wave.copy())) for wave in (clip, other)
    )
    found = speaker_similarity(Clip(clip, other, 16000))
    assert found == pytest.approx(float(first @ second), abs=1e-6)


def test_speaker_similarity_refuses(clip):
    pytest.importorskip("resemblyzer")
    with pytest.raises(MetricError, match="16000 Hz"):
        speaker_similarity(Clip(clip, clip, 8000))
    with pytest.raises(MetricError, match="reference is silent"):
        speaker_similarity(Clip(0 * clip, clip, 16000))
    with pytest.raises(MetricError, match="no voice in the reconstruction"):
        speaker_similarity(Clip(clip, 0 * clip, 16000))
    with pytest.raises(MetricError, match="no voice in the reference"):
        speaker_similarity(Clip(clip[:100], clip[:100], 16000))


@pytest.fixture(scope="module")
def x_vector_model(tmp_path_factory):
    """A tiny WavLM with random weights, as a directory."""
    transformers = pytest.importorskip("transformers")
    import torch

    torch.manual_seed(0)
    config = transformers.WavLMConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8, 8),
        conv_kernel=(10, 8),
        conv_stride=(5, 8),
        num_feat_extract_layers=2,
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2,
        tdnn_dim=(8, 8),
        tdnn_kernel=(5, 3),
        tdnn_dilation=(1, 2),
        xvector_output_dim=12,
    )
    folder = tmp_path_factory.mktemp("models") / "tiny-sv"
    transformers.WavLMForXVector(config).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    return folder


def test_wavlm_similarity(clip, x_vector_model, tmp_path, monkeypatch):
    import torch
    import transformers

    monkeypatch.delenv(WAVLM_SV, raising=False)
    with pytest.raises(MetricError, match=f"no x-vector model: set {WAVLM_SV}"):
        wavlm_similarity(Clip(clip, clip, 16000))
    monkeypatch.setenv(WAVLM_SV, str(x_vector_model))
    assert WAVLM_SPEAKER.variant() == f"tiny-sv {folder_digest(x_vector_model)[:12]}"
    namesake = shutil.copytree(x_vector_model, tmp_path / "tiny-sv")
    weights = bytearray((namesake / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (namesake / "model.safetensors").write_bytes(weights)
    monkeypatch.setenv(WAVLM_SV, str(namesake))
    assert WAVLM_SPEAKER.variant() == f"tiny-sv {folder_digest(namesake)[:12]}"
    assert folder_digest(namesake) != folder_digest(x_vector_model)
    monkeypatch.setenv(WAVLM_SV, str(x_vector_model))
    wave, other = clip[:32000], clip[32000:64000]
    assert wavlm_similarity(Clip(wave, wave, 16000)) == pytest.approx(1, abs=1e-9)
    model = transformers.WavLMForXVector.from_pretrained(x_vector_model).eval()
    vectors = []
    for signal in (wave, other):
        scaled = (signal - signal.mean()) / np.sqrt(signal.var() + 1e-7)
        with torch.inference_mode():
            vectors.append(model(torch.from_numpy(scaled)[None]).embeddings[0])
    expected = float(torch.nn.functional.cosine_similarity(*vectors, dim=0))
    found = wavlm_similarity(Clip(wave, other, 16000))
    assert -1 <= found < 1 and found == pytest.approx(expected, abs=1e-5)
    with pytest.raises(MetricError, match="x-vector of 20 samples"):
        wavlm_similarity(Clip(wave[:20], wave[:20], 16000))
    monkeypatch.setenv(WAVLM_SV, str(x_vector_model / "nothing"))
    with pytest.raises(MetricError, match=f"{WAVLM_SV}=.*nothing"):
        wavlm_similarity(Clip(wave, wave, 16000))


def test_dnsmos(clip):
    pytest.importorskip("speechmos")
    pytest.importorskip("onnxruntime")
    from speechmos import dnsmos as package

    clip = clip[:72100]  # repeated once, it fills one window of 9.01 s
    clean, noisy = dnsmos(alone(clip)), dnsmos(alone(clip + noise(clip, 0.05)))
    for name in ("overall", "signal", "background"):
        assert 1 < getattr(noisy, name) < getattr(clean, name) < 5
    theirs = package.run(clip, 16000)
    assert clean.overall == pytest.approx(theirs["ovrl_mos"], abs=1e-4)
    assert clean.signal == pytest.approx(theirs["sig_mos"], abs=1e-4)
    assert clean.background == pytest.approx(theirs["bak_mos"], abs=1e-4)
    loud = clip * (1.5 / np.abs(clip).max())
    for wave, same in ((loud, np.clip(loud, -1, 1)), (np.tile(clip, 2), clip)):
        found, expected = (dataclasses.astuple(dnsmos(alone(each))) for each in (wave, same))
        assert found == pytest.approx(expected, abs=1e-5)


def test_the_three_of_dnsmos_are_computed_once(clip, monkeypatch):
    calls = []

    def network(wave, sample_rate, personalised):
        calls.append(wave)
        return {"ovrl_mos": 1.5, "sig_mos": 2.5, "bak_mos": 3.5}

    monkeypatch.setattr(dnsmos_module, "_network", lambda: network)
    one = alone(clip[:1234])
    assert [metric.compute(one) for metric in (OVERALL, SIGNAL, BACKGROUND)] == [1.5, 2.5, 3.5]
    assert len(calls) == 1
    OVERALL.compute(alone(clip[:1235]))
    assert len(calls) == 2


def test_plcmos(clip):
    pytest.importorskip("speechmos")
    pytest.importorskip("onnxruntime")
    clip = clip[:48000]
    broken = clip.copy()
    for start in range(4000, 48000, 8000):
        broken[start : start + 1600] = 0  # 100 ms every half a second
    np.random.seed(1)  # noqa: NPY002
    whole = plcmos(alone(clip))
    drawn = np.random.random()  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    assert np.random.random() == drawn  # noqa: NPY002
    assert plcmos(alone(clip)) == pytest.approx(whole, abs=1e-5)
    assert 1 < plcmos(alone(broken)) < whole < 5


def test_without_a_reference_there_still_is_something_to_refuse(clip):
    for metric in (dnsmos, plcmos):
        with pytest.raises(MetricError, match="16000 Hz, got 24000"):
            metric(alone(clip, 24000))
        for wrong in (clip[:0], clip[None]):
            with pytest.raises(MetricError, match=r"expected \(samples,\)"):
                metric(alone(wrong))
        with pytest.raises(MetricError, match="reconstruction is silent"):
            metric(alone(0 * clip))
        with pytest.raises(MetricError, match="NaN"):
            metric(alone(np.nan * clip))


def test_a_package_that_is_not_there(clip, monkeypatch):
    for module, name in ((dnsmos_module, "_network"), (plcmos_module, "_network")):
        getattr(module, name).cache_clear()
    speaker_module._voice_encoder.cache_clear()
    for name in ("resemblyzer", "speechmos.dnsmos", "speechmos.plcmos"):
        monkeypatch.setitem(sys.modules, name, None)
    other = clip[:4321]
    with pytest.raises(MetricError, match=r"no resemblyzer package; pip install .*eval"):
        speaker_similarity(Clip(other, other, 16000))
    for metric in (dnsmos, plcmos):
        with pytest.raises(MetricError, match=r"no speechmos.* package; pip install .*eval"):
            metric(alone(other))
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.setenv(WAVLM_SV, "somewhere/else")
    with pytest.raises(MetricError, match=r"no transformers package; pip install .*ssl"):
        wavlm_similarity(Clip(other, other, 16000))
