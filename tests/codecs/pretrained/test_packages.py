"""Codecs of their authors' packages: codes and samples are those of the package's own calls."""

import json
import pickle
import shutil
import sys
import threading

import pytest
import torch

import syllabary
from syllabary.codecs.pretrained.architectures import PACKAGED
from syllabary.errors import CheckpointError

from ... import tiny_models
from ...conftest import synthetic_speech

NAMES = list(tiny_models.PACKAGED)


@pytest.fixture(params=NAMES)
def name(request):
    pytest.importorskip(tiny_models.PACKAGED[request.param][0])
    return request.param


def model_of(name):
    """The package loads the folder."""
    folder = tiny_models.packaged_directory(name)
    if "snac" in name:
        from snac import SNAC

        return SNAC.from_pretrained(str(folder))
    from speechtokenizer import SpeechTokenizer

    config, weights = folder / "config.json", folder / "SpeechTokenizer.pt"
    return SpeechTokenizer.load_from_checkpoint(str(config), str(weights)).eval()


def test_codes_and_samples_are_the_packages_own(name):
    codec, model = syllabary.load(tiny_models.packaged_directory(name)), model_of(name)
    spec = codec.spec.tokens
    seen = set()
    for seed, length in enumerate((7 * spec.hop, 7 * spec.hop + 1, 5 * spec.hop + 333, 5)):
        wave = torch.from_numpy(synthetic_speech(length, seed, spec.sample_rate))
        tokens = codec.encode(wave, spec.sample_rate)
        torch.manual_seed(0)  # SNAC's decoder adds noise
        with torch.no_grad():
            theirs = model.encode(wave[None, None])
            samples = model.decode(theirs).flatten()[:length]
        if "snac" in name:
            theirs = [level[0] for level in theirs]
            ours = codec.adapter.levels(tokens.codes[0])
            assert len(ours) == len(theirs) and all(map(torch.equal, ours, theirs))
            assert torch.equal(codec.adapter.flattened(theirs), tokens.codes[0])
        else:
            assert torch.equal(tokens.codes, theirs.transpose(0, 1))
        assert torch.equal(codec.decode(tokens)[0], samples)
        seen |= set(tokens.codes[0, -1].tolist())
    assert len(seen) > 4, "a model that gives always the same code shows nothing"


def test_fewer_levels_of_snac():
    pytest.importorskip("snac")
    codec = syllabary.load(tiny_models.packaged_directory("tiny-snac"))
    assert codec.spec.min_codebooks == 1 and codec.adapter.per_frame == [1, 2, 4]
    wave = synthetic_speech(20_000, 0, 24000)
    all_of_them = codec.encode(wave, 24000)
    heard = [codec.decode(all_of_them.keep_codebooks(count)) for count in (1, 2, 3, 6, 7)]
    assert torch.equal(heard[0], heard[1]) and torch.equal(heard[2], heard[3])
    assert not torch.equal(heard[1], heard[2]) and not torch.equal(heard[3], heard[4])
    assert torch.equal(codec.encode(wave, 24000, num_codebooks=3).codes, all_of_them.codes[:, :3])


def test_the_noise_of_snac_is_each_threads_own():
    pytest.importorskip("snac")
    codec = syllabary.load(tiny_models.packaged_directory("tiny-snac"))
    tokens = codec.encode(synthetic_speech(40_000, 0, 24000), 24000)
    expected, state = codec.decode(tokens), torch.get_rng_state()
    found = []
    workers = [
        threading.Thread(target=lambda: found.append(codec.decode(tokens))) for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 3 and all(torch.equal(wave, expected) for wave in found)
    assert torch.equal(torch.get_rng_state(), state)


def test_files_that_are_not_what_they_should_be(name, tmp_path):
    _, weights, fields = tiny_models.PACKAGED[name]
    folder = tmp_path / "model"
    shutil.copytree(tiny_models.packaged_directory(name), folder)
    with (folder / weights).open("wb") as file:
        pickle.dump(shutil.rmtree, file)  # what weights must never be: code
    with pytest.raises(CheckpointError, match=weights):
        syllabary.load(folder)
    (folder / weights).unlink()
    with pytest.raises(CheckpointError, match=f"no weights; expected .*{weights}"):
        syllabary.load(folder)
    (folder / "config.json").write_text(json.dumps(fields | {"strides": 3, "vq_strides": 3}))
    with pytest.raises(CheckpointError):
        syllabary.load(folder)


def test_a_package_that_is_missing_is_named(name, monkeypatch):
    package = tiny_models.PACKAGED[name][0]
    folder = tiny_models.packaged_directory(name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(CheckpointError, match=rf"package {package}.*syllabary\[published\]"):
        syllabary.load(folder)


def test_published_models_fetch_the_file_with_their_weights(monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    pytest.importorskip("snac")
    asked = []

    def snapshot_download(model, allow_patterns):
        asked.append(allow_patterns)
        return str(tiny_models.packaged_directory("tiny-snac"))

    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    codec = syllabary.load("hubertsiuzdak/snac_24khz")
    assert asked == [
        ["*.json", "*.safetensors"],
        ["*.json", "model.safetensors", "pytorch_model.bin"],
    ]
    assert codec.spec.license == "MIT" and codec.name == "hubertsiuzdak/snac_24khz"


def test_the_tables_figures_of_snac_follow_from_its_configurations():
    """And the bitrates are those that its authors' page names."""
    pytest.importorskip("snac")
    cards = {
        "hubertsiuzdak/snac_24khz": (24000, [2, 4, 8, 8], [4, 2, 1], None, 0.98),
        "hubertsiuzdak/snac_32khz": (32000, [2, 3, 8, 8], [8, 4, 2, 1], 32, 1.9),
        "hubertsiuzdak/snac_44khz": (44100, [2, 3, 8, 8], [8, 4, 2, 1], 32, 2.6),
    }
    entry = PACKAGED["snac"]
    for model in entry.models:
        rate, strides, levels_, window, kbps = cards[model.id]
        kind = entry.adapter_kind()
        fields = {
            "sampling_rate": rate, "encoder_rates": strides, "decoder_rates": strides[::-1],
            "vq_strides": levels_, "attn_window_size": window, "encoder_dim": 4, "decoder_dim": 64,
        }  # fmt: skip
        adapter = kind(kind.make(fields))
        assert adapter.hop == model.hop and adapter.sample_rate == model.sample_rate
        assert adapter.codebook_sizes == list(model.tokens.codebook_sizes)
        assert model.tokens.bitrate() / 1000 == pytest.approx(kbps, rel=0.015)
