"""Fitting: features on disk once, the same file every time, also after a kill."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import PurePosixPath

import numpy as np
import pytest
import torch

from syllabary.audio.files import write
from syllabary.audio.manifests import Utterance
from syllabary.errors import ManifestError, QuantizerError, SyllabaryError
from syllabary.quantizers.kmeans import KMeansConfig
from syllabary.semantic.encoders import catalogue
from syllabary.semantic.encoders.log_mel import LogMel
from syllabary.semantic.units import feature_shards
from syllabary.semantic.units.feature_shards import FeatureShards
from syllabary.semantic.units.fitting import choose, fit_units, mel_table

from ... import tiny_units
from ...conftest import synthetic_speech


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """Nine files in three shards."""
    monkeypatch.setattr(feature_shards, "FILES_A_SHARD", 4)
    items = []
    for index in range(9):
        path = tmp_path / "speech" / f"{index}.wav"
        path.parent.mkdir(exist_ok=True)
        wave = synthetic_speech(8000 + 777 * index, index)
        write(path, wave, 16000)
        extra = {"source": f"corpus-{index % 3}"}
        seconds = len(wave) / 16000
        items.append(Utterance(path, PurePosixPath(path.name), duration_s=seconds, extra=extra))
    return items


@pytest.fixture
def encoder():
    return catalogue.find("mfcc")


def test_shards_hold_the_features_of_the_files(corpus, encoder, tmp_path):
    from syllabary.audio.files import read

    mel = LogMel().eval()
    store = FeatureShards(tmp_path / "work", encoder, corpus, mel, "float32")
    seen = []
    shards = store.write(lambda *numbers: seen.append(numbers))
    assert [done for done, _, _ in seen] == [4, 8, 9]
    waves = [torch.from_numpy(read(item.path)[0]) for item in corpus]
    found = np.concatenate([np.load(shard.features[0]) for shard in shards])
    assert np.array_equal(found, torch.cat(encoder.features(waves)).numpy())
    mels = np.concatenate([np.load(shard.mel) for shard in shards])
    assert mels.dtype == np.float16
    assert np.array_equal(mels, torch.cat(mel.features(waves)).half().numpy())
    assert sum(shard.frames for shard in shards) == len(found)
    assert sum(shard.seconds for shard in shards) == pytest.approx(seen[-1][2])


def test_what_is_whole_is_kept_and_the_rest_is_done_again(corpus, encoder, tmp_path):
    def write_all():
        return FeatureShards(tmp_path, encoder, corpus, LogMel().eval()).write()

    shards = write_all()
    times = [shard.features[0].stat().st_mtime_ns for shard in shards]
    contents = [shard.features[0].read_bytes() for shard in shards]
    shards[1].features[0].write_bytes(contents[1][:-10])  # cut short
    (shards[2].features[0].parents[1] / "shards" / "00002.json").unlink()  # not finished
    again = write_all()
    assert again == shards
    assert [shard.features[0].read_bytes() for shard in again] == contents
    now = [shard.features[0].stat().st_mtime_ns for shard in again]
    assert now[0] == times[0] and now[1] > times[1] and now[2] > times[2]


def test_other_audio_has_other_features(corpus, encoder, tmp_path):
    stores = [FeatureShards(tmp_path, encoder, part, None) for part in (corpus, corpus[:8])]
    before = corpus[0].path.stat()
    write(corpus[0].path, synthetic_speech(8000, 99), 16000)  # as long as the one that was there
    os.utime(corpus[0].path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert corpus[0].path.stat().st_size == before.st_size
    stores.append(FeatureShards(tmp_path, encoder, corpus, None))
    corpus[0].path.touch()
    assert FeatureShards(tmp_path, encoder, corpus, None).folder == stores[-1].folder
    stores.append(FeatureShards(tmp_path, catalogue.find("log-mel"), corpus, None))
    assert len({store.folder for store in stores}) == 4


def test_files_that_fail_are_named_and_left_out(corpus, encoder, tmp_path):
    corpus[1].path.write_bytes(b"not audio")
    whole = corpus[5].path.read_bytes()
    corpus[5].path.write_bytes(whole[: len(whole) // 2])
    shards = FeatureShards(tmp_path / "work", encoder, corpus, None, "float32").write()
    failed = [name for shard in shards for name, _ in shard.failures]
    assert failed == [str(corpus[1].path), str(corpus[5].path)] or failed == [str(corpus[1].path)]
    rows = np.load(shards[0].features[0])
    good = [corpus[0], corpus[2], corpus[3]]
    expected = FeatureShards(tmp_path / "good", encoder, good, None, "float32").write()
    assert np.array_equal(rows, np.load(expected[0].features[0]))
    for item in corpus:
        item.path.write_bytes(b"not audio")
    with pytest.raises(SyllabaryError, match="no features"):
        FeatureShards(tmp_path / "work", encoder, corpus, None).write()


def test_features_that_float16_can_not_hold(corpus, encoder, tmp_path, monkeypatch):
    with torch.no_grad():
        encoder.cosines.mul_(1e5)
    with pytest.raises(QuantizerError, match="float16 can't hold"):
        FeatureShards(tmp_path, encoder, corpus, None, "float16").write()


def test_the_same_fit_gives_the_same_tokenizer(corpus, encoder, tmp_path):
    config = KMeansConfig(num_clusters=20, iterations=5)
    first = fit_units(encoder, corpus, config, tmp_path / "a", name="units")
    again = fit_units(encoder, corpus, config, tmp_path / "b", name="units")
    cached = fit_units(encoder, corpus, config, tmp_path / "a", name="units")
    for outcome in (again, cached):
        assert outcome.tokenizer.full_digest == first.tokenizer.full_digest
        assert outcome.inertias == first.inertias
    assert first.frames == sum(-(-int(item.duration_s * 16000) // 320) for item in corpus)
    wave = torch.from_numpy(synthetic_speech(9000))
    units = first.tokenizer
    assert units.decode(units.encode(wave, 16000)).shape == (1, 9000)
    other = fit_units(encoder, corpus, KMeansConfig(num_clusters=8), tmp_path / "a")
    assert other.tokenizer.config.codebook_sizes == (8,)


def test_the_table_has_mean_spectra(corpus, encoder, tmp_path):
    mel = LogMel().eval()
    store = FeatureShards(tmp_path, encoder, corpus, mel, "float32")
    shards = store.write()
    features = torch.from_numpy(np.concatenate([np.load(s.features[0]) for s in shards]))
    mels = torch.from_numpy(np.concatenate([np.load(s.mel) for s in shards])).double()
    far = torch.full((1, 39), 1e4)  # no frame is near it
    centroids = torch.cat([features[::60], far])
    codes = torch.cdist(features.double(), centroids.double()).argmin(1)
    table = mel_table(shards, centroids, mel)
    for unit in codes.unique().tolist():
        mean = mels[codes == unit].mean(0)
        assert torch.allclose(table[unit].double(), mean, atol=1e-5)
    nearest = int(torch.cdist(far, centroids[:-1]).argmin())
    assert torch.equal(table[-1], table[nearest])


def test_given_centroids_are_kept_and_get_a_sound(corpus, encoder, tmp_path):
    centroids = torch.randn(12, 39) * 10
    config = KMeansConfig(num_clusters=2)
    outcome = fit_units(encoder, corpus, config, tmp_path, centroids=[centroids])
    assert torch.equal(outcome.tokenizer.centroids[0], centroids)
    assert outcome.tokenizer.vocoder is not None and outcome.inertias == ()
    with pytest.raises(QuantizerError, match="dimensions"):
        fit_units(encoder, corpus, config, tmp_path, centroids=[torch.zeros(12, 5)])


def test_two_layers_are_fitted_one_by_one(corpus, tmp_path):
    pytest.importorskip("transformers")
    from syllabary.semantic.encoders.layers import LayerChoice

    both = tiny_units.encoder("hubert", choice=LayerChoice((1, 3), "each"))
    outcome = fit_units(both, corpus[:4], KMeansConfig(num_clusters=6), tmp_path)
    assert [tuple(table.shape) for table in outcome.tokenizer.centroids] == [(6, 16), (6, 16)]
    assert len(outcome.inertias) == 2 and min(outcome.inertias) > 0


def test_too_few_frames(corpus, encoder, tmp_path):
    with pytest.raises(QuantizerError, match="can't fill"):
        fit_units(encoder, corpus[:1], KMeansConfig(num_clusters=5000), tmp_path)


def test_choosing_hours_and_sources(corpus):
    hours = 2.0 / 3600
    chosen = choose(corpus, hours)
    assert 0 < sum(item.duration_s for item in chosen) <= 2.0
    assert chosen == choose(corpus, hours) == [item for item in corpus if item in chosen]
    assert choose(corpus, None) == corpus
    assert choose(corpus, hours, seed=1) != chosen
    left = choose(corpus, None, ["corpus-1"])
    assert {item.extra["source"] for item in left} == {"corpus-0", "corpus-2"}
    with pytest.raises(ManifestError, match="there are: corpus-0, corpus-1, corpus-2"):
        choose(corpus, None, ["corpus-9"])
    with pytest.raises(ManifestError, match="no utterance is left"):
        choose(corpus, 1e-9)


SCRIPT = """
import sys
from syllabary.semantic.units import feature_shards
feature_shards.FILES_A_SHARD = 1
from syllabary.cli.fit_kmeans import kmeans
kmeans(sys.argv[1:])
"""


@pytest.mark.slow
def test_a_killed_fit_goes_on_and_gives_the_same_file(corpus, tmp_path):
    folder = corpus[0].path.parent
    options = ["--encoder", "mfcc", "--clusters", "10", "--iterations", "50"]

    def command(name):
        where = [
            "-o",
            str(tmp_path / name),
            "--name",
            "units",
            "--cache",
            str(tmp_path / f"{name}-c"),
        ]
        return [sys.executable, "-c", SCRIPT, str(folder), *options, *where]

    subprocess.run(command("whole"), check=True)
    kept = 0
    for wait in (1, 3):
        process = subprocess.Popen(command("killed"))
        while process.poll() is None and len(list(tmp_path.glob("killed-c/*/shards/*"))) < wait:
            time.sleep(0.01)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kept += 1
        process.wait()
    assert kept, "the fit was never killed"
    subprocess.run(command("killed"), check=True)
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert json.loads((tmp_path / "whole" / "config.json").read_text())["family"] == "units"
