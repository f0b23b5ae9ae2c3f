"""`syllabary fit kmeans`."""

import json

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner

import syllabary
from syllabary.audio.manifests import read_manifest
from syllabary.cli.fit_kmeans import kmeans
from syllabary.errors import CheckpointError, QuantizerError, SyllabaryError

from ..conftest import synthetic_speech


@pytest.fixture
def fit():
    """Runs the command; gives its exit code and all that it printed."""

    def call(*arguments):
        result = CliRunner().invoke(kmeans, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.output

    return call


def test_audio_to_a_tokenizer_that_speaks(fit, tree, tmp_path):
    target = tmp_path / "units"
    code, said = fit(tree, "--encoder", "mfcc", "--clusters", 16, "-o", target)
    assert code == 0 and "16 units of MFCC" in said and "mean squared distance" in said
    assert not (tmp_path / ".units.fitting").exists()
    units = syllabary.load(target)
    assert units.name == "units" and units.spec.bitrate == 200
    wave = torch.from_numpy(synthetic_speech(9000))
    assert units.decode(units.encode(wave, 16000)).shape == (1, 9000)
    with pytest.raises(SyllabaryError, match="--force"):
        fit(tree, "--encoder", "mfcc", "-o", target)


def test_the_cache_serves_other_fits_and_gives_the_same_file(fit, tree, tmp_path):
    def run(name, clusters):
        cache = ["--cache", tmp_path / "cache", "--name", "units"]
        options = ["--encoder", "log-mel", "--clusters", clusters]
        assert fit(tree, *options, *cache, "-o", tmp_path / name)[0] == 0
        return [
            (tmp_path / name / file).read_bytes() for file in ("config.json", "model.safetensors")
        ]

    first = run("a", 8)
    shards = list((tmp_path / "cache").glob("*/features-0/*"))
    times = [shard.stat().st_mtime_ns for shard in shards]
    run("b", 6)
    assert [shard.stat().st_mtime_ns for shard in shards] == times
    assert run("c", 8) == first


def test_centroids_of_others(fit, tree, tmp_path):
    np.save(tmp_path / "centroids.npy", np.random.default_rng(0).normal(size=(12, 39)))
    options = ["--encoder", "mfcc", "--from", tmp_path / "centroids.npy"]
    code, said = fit(*options, "-o", tmp_path / "mute")
    assert code == 0 and "no sound" in said
    mute = syllabary.load(tmp_path / "mute")
    tokens = mute.encode(torch.from_numpy(synthetic_speech(9000)), 16000)
    with pytest.raises(CheckpointError, match="fit kmeans AUDIO"):
        mute.decode(tokens)
    assert fit(tree, *options, "-o", tmp_path / "speaking")[0] == 0
    speaking = syllabary.load(tmp_path / "speaking")
    assert speaking.decode(tokens).shape == (1, 9000)
    options[1] = "log-mel"
    with pytest.raises(QuantizerError, match="80 dimensions: another layer or model"):
        fit(*options, "-o", tmp_path / "wrong")


def test_the_encoder_of_a_tokenizer_is_taken(fit, tree, tmp_path):
    assert fit(tree, "--encoder", "mfcc", "--clusters", 8, "-o", tmp_path / "a")[0] == 0
    code, _ = fit(tree, "--encoder", tmp_path / "a", "--clusters", 5, "-o", tmp_path / "b")
    assert code == 0
    assert syllabary.load(tmp_path / "b").config.codebook_sizes == (5,)


def test_a_published_model_and_its_layers(fit, tree, tmp_path):
    pytest.importorskip("transformers")
    from .. import tiny_units

    model = ["--encoder", tiny_units.directory("hubert"), "--window", 2]
    options = ["--layer", "1,3", "--combine", "each", "--clusters", 6]
    assert fit(tree, *model, *options, "-o", tmp_path / "a")[0] == 0
    assert syllabary.load(tmp_path / "a").spec.tokens.codebook_sizes == (6, 6)
    with pytest.raises(CheckpointError, match="layer 12 of a model that has 3"):
        fit(tree, *model, "--layer", 12, "-o", tmp_path / "b")
    assert fit(tree, *model, "--layer", 0, "--clusters", 6, "-o", tmp_path / "input")[0] == 0
    with pytest.raises(CheckpointError, match="window of finite length"):
        fit(tree, *model[:2], "--window", "inf", "-o", tmp_path / "b")
    weights = ["--layer", "1,2", "--combine", "sum", "--weights", "inf,1"]
    code, said = fit(tree, *model, *weights, "-o", tmp_path / "b")
    assert code == 2 and "positive, finite sum" in said
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SyllabaryError, match="is a file; expected a folder"):
        fit(tree, "--encoder", "mfcc", "-o", tmp_path / "file")
    np.save(tmp_path / "one.npy", np.zeros((1, 39), np.float32))
    with pytest.raises(QuantizerError, match="2 centroids or more, got 1"):
        fit(tree, "--encoder", "mfcc", "--from", tmp_path / "one.npy", "-o", tmp_path / "b")


@pytest.fixture
def transcribed(speech_folder, tmp_path):
    """A manifest with transcripts, of which one has unknown words, and one is in German."""
    pytest.importorskip("pocketsphinx")
    everything = read_manifest(speech_folder / "manifest.jsonl")
    found = [each for each in everything if each.extra["source"] == "librispeech_test_other"][:5]
    lines = [{"path": str(each.path), "text": each.text} for each in found]
    lines[3]["text"] = "zarathustra"
    lines[4]["lang"] = "de"
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return manifest


def test_phonetic_directions(fit, transcribed, tmp_path):
    pytest.importorskip("transformers")
    from .. import tiny_units

    manifest = transcribed
    model = ["--encoder", tiny_units.directory("hubert"), "--layer", "2,3", "--phonetic"]
    code, said = fit(manifest, *model, "--clusters", 6, "-o", tmp_path / "units")
    assert code == 0 and "phones of 3 of 4 utterances" in said, said
    assert "6 units of phonetic directions of hubert" in said
    units = syllabary.load(tmp_path / "units")
    assert 3 < units.encoder.dim == units.encoder.config.dim < 40
    wave = torch.from_numpy(synthetic_speech(9000))
    assert units.encode(wave, 16000).codes.shape == (1, 1, 29)


def test_phonetic_directions_of_a_content_encoder(fit, transcribed, tmp_path):
    """The network is the same, but for its last map."""
    model = ["--encoder", "units-16k", "--phonetic", "--clusters", 6]
    code, said = fit(transcribed, *model, "-o", tmp_path / "units")
    assert code == 0 and "phones of 3 of 4 utterances" in said, said
    before = syllabary.load("units-16k").encoder.network.state_dict()
    found = syllabary.load(tmp_path / "units").encoder.network.state_dict()
    changed = {name for name in before if not torch.equal(found[name], before[name])}
    assert changed == {"outward.weight", "outward.bias"}
    assert fit(transcribed, *model, "-o", tmp_path / "again")[0] == 0
    again = syllabary.load(tmp_path / "again")
    assert again.spec.tokens.digest == syllabary.load(tmp_path / "units").spec.tokens.digest


def test_files_of_one_name_keep_their_own_phones(fit, tmp_path, monkeypatch):
    """Two folders with a 0.wav each: what is aligned is what is labelled."""
    pytest.importorskip("transformers")
    from syllabary.eval.unit_measures import alignment_cache

    from .. import tiny_units

    for folder, seed in (("a", 0), ("b", 10)):
        (tmp_path / folder).mkdir()
        lines = []
        for number in range(3):
            wave = synthetic_speech(16_000 + 320 * (seed + number), seed + number)
            soundfile.write(tmp_path / folder / f"{number}.wav", wave, 16_000)
            lines.append({"path": f"{number}.wav", "text": f"{folder}{number}"})
        manifest = tmp_path / folder / "manifest.jsonl"
        manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    labelled = []

    class Phones:
        def __init__(self, text, samples):
            self.text, self.samples = text, samples

        def labels(self, rate, frames):
            labelled.append(self.text)
            assert frames == -(-self.samples // 320)  # of its own audio
            return np.arange(frames) % 4

    def align(items, *rest):
        found = {i.name: Phones(i.text, len(i.read(16_000, "mix")[0])) for i in items}
        return alignment_cache.AlignedUtterances(found=found)

    monkeypatch.setattr(alignment_cache, "align_utterances", align)
    model = ["--encoder", tiny_units.directory("hubert"), "--phonetic", "--clusters", 4]
    monkeypatch.setattr("syllabary.cli.fit_kmeans._ALIGNED", 4)
    code, said = fit(tmp_path / "a", tmp_path / "b", *model, "-o", tmp_path / "units")
    assert code == 0 and "phones of 4 of 4" in said, said
    assert labelled == ["a0", "a1", "b0", "b1"]


def test_phonetic_directions_need_a_published_model_and_transcripts(fit, tree, tmp_path):
    pytest.importorskip("transformers")
    from .. import tiny_units

    model = ["--encoder", tiny_units.directory("hubert"), "--phonetic"]
    with pytest.raises(SyllabaryError, match=r"no utterance with an English text.*there is none"):
        fit(tree, *model, "-o", tmp_path / "a")
    code, said = fit(tree, "--encoder", "mfcc", "--phonetic", "-o", tmp_path / "b")
    assert code == 2 and "published models and content encoders, not MFCC" in said
    each = ["--layer", "1,2", "--combine", "each"]
    code, said = fit(tree, *model, *each, "-o", tmp_path / "b")
    assert code == 2 and "one group of features, not --combine each" in said
    code, said = fit(*model, "--from", "x.npy", "-o", tmp_path / "c")
    assert code == 2 and "--phonetic needs IN" in said


def test_files_that_fail_are_said(fit, tree, tmp_path):
    broken = next(tree.rglob("*.wav"))
    broken.write_bytes(b"not audio")
    code, said = fit(tree, "--encoder", "mfcc", "--clusters", 8, "-o", tmp_path / "units")
    assert code == 1 and broken.name in said and "1 files could not be read" in said
    assert syllabary.load(tmp_path / "units").config.codebook_sizes == (8,)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([], "--encoder"),
        (["--encoder", "mfcc", "x.wav"], "-o DIRECTORY"),
        (["--encoder", "mfcc", "-o", "x"], "no IN"),
        (["--encoder", "mfcc", "-o", "x", "--from", "y", "--clusters", "5"], "exclude"),
        (["--encoder", "mfcc", "-o", "x", "y", "--layer", "six"], "layer's number"),
    ],
)
def test_wrong_arguments(fit, arguments, word):
    code, said = fit(*arguments)
    assert code == 2 and word in said
