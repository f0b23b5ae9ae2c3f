import dataclasses
import errno
import itertools
import json
import math
import multiprocessing
import pickle
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from syllabary.audio import files
from syllabary.audio.files import read
from syllabary.audio.manifests import read_manifest
from syllabary.audio.resampling import resample
from syllabary.errors import SyllabaryError, TrainingError
from syllabary.training.data import (
    AugmentConfig,
    CropSampler,
    SpeechStore,
    augment,
    build_store,
    validation_batches,
)
from syllabary.training.data.augment import low_pass, mix, noise_crop
from syllabary.training.data.crops import _shares
from syllabary.training.data.draws import draws

from ..conftest import synthetic_speech

# Name, seconds, speaker, source, split. Most of the sound is in `big`.
CORPUS = (
    ("a", 3.0, "ann", "big", "train"),
    ("b", 2.0, "bob", "big", "train"),
    ("c", 0.5, "cat", "small", "train"),
    ("d", 0.3, None, "small", "train"),
    ("e", 0.2, "eve", "tiny", "train"),
    ("f", 1.0, "fay", "big", "valid"),
    ("g", 1.0, "gus", "fsdd", "train"),
)


def pcm(seconds, seed):
    wave = synthetic_speech(int(seconds * 16000), seed)
    return np.clip(np.rint(wave * 32768), -32768, 32767).astype(np.int16)


def write_corpus(folder, corpus=CORPUS):
    folder.mkdir(exist_ok=True)
    lines = []
    for seed, (name, seconds, speaker, source, split) in enumerate(corpus):
        soundfile.write(folder / f"{name}.flac", pcm(seconds, seed), 16000)
        fields = {"path": f"{name}.flac", "speaker": speaker, "source": source, "split": split}
        lines.append(json.dumps(fields))
    (folder / "manifest.jsonl").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def store(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    return build_store(corpus, folder, split="train", exclude_sources=["fsdd"])


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    folder = tmp_path_factory.mktemp("noise")
    rng = np.random.default_rng(0)
    for name, seconds in (("long", 3), ("short", 0.25)):
        wave = 0.1 * rng.standard_normal(int(seconds * 16000))
        soundfile.write(folder / f"{name}.flac", wave, 16000)
    return build_store(folder, folder / "store")


def stamp(folder):
    return (folder / "samples.i16").stat().st_mtime_ns, (folder / "samples.i16").stat().st_ino


# The store


def test_samples_come_out_as_they_went_in(store):
    assert [entry.name for entry in store.entries] == [f"{name}.flac" for name in "abcde"]
    for index in range(len(store)):
        samples = store.samples(index)
        assert samples.dtype == np.int16
        assert np.array_equal(samples, pcm(CORPUS[index][1], index))
    assert store.speakers == ("ann", "bob", "cat", "eve")
    assert store.sources == ("big", "small", "tiny")
    assert store.hours == pytest.approx(6.0 / 3600)
    assert (store.failures, store.clipped) == ((), 0)
    store.verify()
    with pytest.raises(ValueError, match="read-only"):
        store.samples(0)[0] = 1


def test_other_rates_are_resampled_and_clipping_is_counted(tmp_path):
    wave = synthetic_speech(24000, sample_rate=24000)
    soundfile.write(tmp_path / "a.wav", wave, 24000, subtype="FLOAT")
    soundfile.write(tmp_path / "b.wav", np.array([1, -1, 1.5, -1.5, 0.3 / 32768]), 16000, "FLOAT")
    store = build_store(tmp_path, tmp_path / "store")
    expected = np.rint(resample(wave, 24000, 16000) * 32768)
    assert np.array_equal(store.samples(0), expected)
    assert store.samples(1).tolist() == [32767, -32768, 32767, -32768, 0]
    assert store.clipped == 3


def test_a_store_is_reused_until_what_goes_in_changes(tmp_path):
    corpus = write_corpus(tmp_path / "corpus")
    calls = []
    arguments = {"split": "train", "progress": lambda *done: calls.append(done)}
    first = build_store(corpus, tmp_path / "store", **arguments)
    assert calls == [(n, 6) for n in range(1, 7)]
    before = stamp(first.folder)
    again = build_store(corpus, first.folder, **arguments)
    assert len(calls) == 6 and stamp(first.folder) == before
    assert (again.digest, again.entries) == (first.digest, first.entries)
    # Each of these is another store: the rate, the split, the files.
    for other in ({"sample_rate": 8000}, {"split": "valid"}, {"keep": lambda item: item.speaker}):
        with pytest.raises(TrainingError, match="of other files"):
            build_store(corpus, first.folder, **arguments | other, rebuild=False)
    assert stamp(first.folder) == before
    soundfile.write(corpus / "a.flac", pcm(1.0, 99), 16000)
    with pytest.raises(TrainingError, match="of other files"):
        build_store(corpus, first.folder, **arguments, rebuild=False)
    rebuilt = build_store(corpus, first.folder, **arguments)
    assert rebuilt.digest != first.digest
    assert rebuilt.samples_digest != first.samples_digest
    assert np.array_equal(rebuilt.samples(0), pcm(1.0, 99))
    # Whoever still has the old one open keeps its samples.
    assert np.array_equal(first.samples(0), pcm(3.0, 0))


def test_digests_do_not_depend_on_where_the_files_are(tmp_path):
    one, two = (
        build_store(write_corpus(tmp_path / name), tmp_path / f"{name}-store")
        for name in ("x", "y")
    )
    assert (one.digest, one.samples_digest) == (two.digest, two.samples_digest)


def test_files_that_cannot_be_read_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "BLOCK_SECONDS", 1)
    corpus = write_corpus(tmp_path / "corpus")
    whole = (corpus / "b.flac").read_bytes()
    (corpus / "b.flac").write_bytes(whole[: len(whole) * 4 // 5])  # fails when much is written
    (corpus / "c.flac").write_bytes(b"not sound")
    (corpus / "d.flac").unlink()
    soundfile.write(corpus / "e.flac", np.zeros((100, 2)), 16000)
    soundfile.write(corpus / "f.wav", np.zeros(0), 16000)
    (corpus / "f.wav").replace(corpus / "f.flac")
    soundfile.write(corpus / "g.wav", np.array([0.0, math.nan]), 16000, "FLOAT")
    (corpus / "g.wav").replace(corpus / "g.flac")
    store = build_store(corpus, tmp_path / "store")
    assert [entry.name for entry in store.entries] == ["a.flac"]
    assert np.array_equal(store.samples(0), pcm(3.0, 0))
    store.verify()
    reasons = {failure.name[0]: failure.error for failure in store.failures}
    assert sorted(reasons) == list("bcdefg")
    assert "no such file" in reasons["d"] and "2 channels" in reasons["e"]
    assert "no samples" in reasons["f"] and "NaN" in reasons["g"]
    # The missing file comes back: that is a change.
    soundfile.write(corpus / "d.flac", pcm(0.5, 3), 16000)
    store = build_store(corpus, tmp_path / "store")
    assert len(store) == 2 and np.array_equal(store.samples(1), pcm(0.5, 3))


def _build_with_little_room(corpus, folder, queue):
    resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, resource.RLIM_INFINITY))
    try:
        build_store(corpus, folder)
    except Exception as error:
        queue.put((type(error), getattr(error, "errno", None)))


def test_a_full_disk_is_not_a_damaged_file(tmp_path, corpus):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    worker = context.Process(
        target=_build_with_little_room, args=(corpus, tmp_path / "store", queue)
    )
    worker.start()
    assert queue.get(timeout=60) == (OSError, errno.EFBIG)
    worker.join()
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == [".lock"]


KILLED = """
import os, signal, sys
from syllabary.training.data import build_store
def progress(done, total):
    if done == 3:
        os.kill(os.getpid(), signal.SIGKILL)
build_store(sys.argv[1], sys.argv[2], progress=progress)
"""


@pytest.mark.parametrize("before", [False, True])
def test_killed_while_building(tmp_path, corpus, before):
    folder = tmp_path / "store"
    if before:
        build_store(corpus, folder, split="valid")
    command = [sys.executable, "-c", KILLED, str(corpus), str(folder)]
    assert subprocess.run(command).returncode == -signal.SIGKILL
    with pytest.raises(TrainingError, match="not finished"):
        SpeechStore(folder)
    store = build_store(corpus, folder)
    assert np.array_equal(store.samples(6), pcm(1.0, 6))
    names = sorted(path.name for path in folder.iterdir())
    assert names == [".lock", "index.json", "samples.i16"]


def _build_and_count(corpus, folder, queue, begun, go_on):
    calls = []

    def progress(*done):
        calls.append(done)
        begun.set()
        assert go_on.wait(60)

    store = build_store(corpus, folder, progress=progress)
    queue.put((len(calls), store.samples_digest))


def test_of_two_processes_one_builds(tmp_path, corpus):
    context = multiprocessing.get_context("fork")
    queue, begun, go_on = context.Queue(), context.Event(), context.Event()
    arguments = (corpus, tmp_path / "store", queue, begun, go_on)
    workers = [context.Process(target=_build_and_count, args=arguments) for _ in range(2)]
    workers[0].start()
    assert begun.wait(60)
    begun.clear()
    workers[1].start()
    assert not begun.wait(0.3)  # the second waits while the first is in the middle
    go_on.set()
    found = [queue.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    assert sorted(calls for calls, _ in found) == [0, 7]
    assert found[0][1] == found[1][1]


def test_a_store_goes_to_another_process_by_name(store):
    data = pickle.dumps(store)
    assert len(data) < 1000
    assert np.array_equal(pickle.loads(data).samples(1), store.samples(1))


def test_damaged_stores_are_refused(tmp_path, corpus):
    folder = tmp_path / "store"
    index = folder / "index.json"
    samples = folder / "samples.i16"
    build_store(corpus, folder)
    good, data = json.loads(index.read_text()), samples.read_bytes()
    samples.write_bytes(data[:-2])
    with pytest.raises(TrainingError, match="bytes"):
        SpeechStore(folder)
    with pytest.raises(TrainingError, match="bytes"):
        build_store(corpus, folder)
    samples.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    with pytest.raises(TrainingError, match="changed since"):
        SpeechStore(folder).verify()
    wrong_offset = good | {"utterances": [good["utterances"][0] | {"offset": 1}]}
    empty = good | {"utterances": []}
    for bad in (wrong_offset, empty, good | {"failures": 3}, good | {"version": 9}, {"a": 1}, [1]):
        index.write_text(json.dumps(bad))
        with pytest.raises(TrainingError, match=r"index\.json"):
            SpeechStore(folder)
    index.write_text("{")
    with pytest.raises(TrainingError, match="can't be read"):
        SpeechStore(folder)


def test_another_folders_index_is_left_alone(tmp_path, corpus):
    (tmp_path / "index.json").write_text('{"pages": 3}')
    with pytest.raises(TrainingError, match="not the index of a store"):
        build_store(corpus, tmp_path)
    assert (tmp_path / "index.json").read_text() == '{"pages": 3}'


def test_what_can_not_be_built(tmp_path, corpus):
    with pytest.raises(TrainingError, match=r"test.*train, valid"):
        build_store(corpus, tmp_path / "s", split="test")
    with pytest.raises(TrainingError, match="none of 7"):
        build_store(corpus, tmp_path / "s", keep=lambda item: False)
    with pytest.raises(TrainingError, match=r"two utterances are named a\.flac"):
        build_store(2 * read_manifest(corpus / "manifest.jsonl"), tmp_path / "s")
    with pytest.raises(TrainingError, match="positive"):
        build_store(corpus, tmp_path / "s", 0)
    with pytest.raises(SyllabaryError, match="no such file"):
        build_store(tmp_path / "nothing", tmp_path / "s")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.wav").write_bytes(b"not sound")
    with pytest.raises(TrainingError, match=r"none of 1 files can be read.*a\.wav"):
        build_store(tmp_path / "bad", tmp_path / "s")


# Random numbers


def test_draws_are_frozen():
    """Golden: a checkpoint of an older version must go on with the same batches."""
    assert draws("crop", (7, 1000, 3), 2).tolist() == [0.01221814857461212, 0.419545153209429]


def test_draws_do_not_collide():
    ways = [("a", ()), ("a", (0,)), ("a", (0, 0)), ("b", (0,)), ("a", (1,)), ("a", (2**64 - 1,))]
    assert len({draws(*way, 1)[0] for way in ways}) == len(ways)
    assert draws("a", (1,), 5)[:2].tolist() == draws("a", (1,), 2).tolist()
    for bad in ((-1,), (2**64,), (1.5,)):
        with pytest.raises(TrainingError, match="seeds"):
            draws("a", bad, 1)


def test_draws_are_even():
    values = np.concatenate([draws("a", (n,), 2) for n in range(4000)])
    counts, _ = np.histogram(values, 16, (0, 1))
    # Chi-squared with 15 degrees of freedom: above 40 once in 2000.
    assert ((counts - 500) ** 2 / 500).sum() < 40


# Crops


def equal(one, two):
    return (
        torch.equal(one.waves, two.waves)
        and torch.equal(one.lengths, two.lengths)
        and (one.names, one.starts, one.paths) == (two.names, two.starts, two.paths)
    )


def test_a_batch_is_a_function_of_its_number(store):
    sampler = CropSampler(store, 4000, 6, seed=1)
    batches = [sampler.batch(number) for number in range(20)]
    fresh = CropSampler(SpeechStore(store.folder), 4000, 6, seed=1)
    assert all(equal(fresh.batch(number), batches[number]) for number in (19, 3, 0, 3))
    going_on = fresh.batches(start=17)
    assert all(equal(next(going_on), batches[number]) for number in (17, 18, 19))
    seen = {crop for b in batches for crop in zip(b.names, b.starts, strict=True)}
    assert len(seen) > 100  # of 120; the shortest utterances have one crop only
    assert not equal(CropSampler(store, 4000, 6, seed=2).batch(0), batches[0])


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_share_a_batch_out(store, ranks):
    joined = CropSampler(store, 4000, 6, seed=1).batch(5)
    for rank in range(ranks):
        part = CropSampler(store, 4000, 6, seed=1, rank=rank, world_size=ranks).batch(5)
        mine = slice(rank * 6 // ranks, (rank + 1) * 6 // ranks)
        assert torch.equal(part.waves, joined.waves[mine])
        assert torch.equal(part.lengths, joined.lengths[mine])
        assert part.names == joined.names[mine]
        assert part.paths == joined.paths[mine]
        both = [
            augment(batch.waves, batch.lengths, batch.paths, EVERYTHING, 16000, store)
            for batch in (part, joined)
        ]
        assert torch.equal(both[0].inputs, both[1].inputs[mine])
        assert torch.equal(both[0].targets, both[1].targets[mine])


def test_crops_are_pieces_of_utterances_and_short_ones_are_padded(store):
    sampler = CropSampler(store, 6400, 16, seed=3)  # c is 8000 long; d and e are shorter
    padded = 0
    by_name = {entry.name: index for index, entry in enumerate(store.entries)}
    for number in range(10):
        batch = sampler.batch(number)
        assert batch.waves.dtype == torch.float32 and batch.waves.shape == (16, 6400)
        rows = zip(batch.waves, batch.lengths.tolist(), batch.names, batch.starts, strict=True)
        for wave, length, name, start in rows:
            samples = store.samples(by_name[name])
            assert length == min(6400, samples.shape[0])
            expected = samples[start : start + length]
            assert expected.shape[0] == length
            assert np.array_equal(wave[:length].numpy() * 32768, expected)
            assert not wave[length:].any()
            padded += length < 6400
    assert padded


def test_starts_reach_both_ends(store):
    length = int(store.lengths[0])
    batch = CropSampler(store, length - 1, 200, seed=0).batch(0)
    starts = {s for s, name in zip(batch.starts, batch.names, strict=True) if name == "a.flac"}
    assert starts == {0, 1}


def shares_of(sampler, rows=4000):
    """Per utterance, out of `rows` draws."""
    names = sampler.batch(0).names
    assert len(names) == rows
    return np.array([names.count(entry.name) for entry in sampler.store.entries]) / rows


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [3 / 6, 2 / 6, 0.5 / 6, 0.3 / 6, 0.2 / 6]),
        ({"temperature": 0}, [0.2, 0.4 / 3, 0.625 / 3, 0.375 / 3, 1 / 3]),
        ({"max_share": 0.5}, [0.3, 0.2, 0.25, 0.15, 0.1]),
        ({"max_share": 0.4}, [0.24, 0.16, 0.25, 0.15, 0.2]),
        # Three sources can't have at most 0.3 each: they have a third.
        ({"max_share": 0.3}, [0.2, 0.4 / 3, 0.625 / 3, 0.375 / 3, 1 / 3]),
    ],
)
def test_proportions(store, settings, expected):
    sampler = CropSampler(store, 10, 4000, seed=0, **settings)
    # Five standard deviations of a binomial of 4000 are at most 0.04.
    assert np.abs(shares_of(sampler) - expected).max() < 0.04
    assert sum(sampler.shares.values()) == pytest.approx(1)
    by_source = {"big": sum(expected[:2]), "small": sum(expected[2:4]), "tiny": expected[4]}
    assert sampler.shares == pytest.approx(by_source)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(1, 10**9), min_size=1, max_size=50),
    st.floats(0, 4),
    st.floats(0.02, 1),
)
def test_shares_obey_the_limit_and_keep_the_order(totals, temperature, limit):
    totals = np.array(totals, np.float64)
    limit = max(limit, 1 / len(totals))
    shares = _shares(totals, temperature, limit)
    assert shares.sum() == pytest.approx(1) and shares.max() <= limit * (1 + 1e-9)
    order = np.argsort(totals, kind="stable")
    assert (np.diff(shares[order]) >= -1e-12).all()


def test_settings_that_a_sampler_refuses(store):
    for bad, message in (
        ({"num_samples": 0}, "at least one sample"),
        ({"batch_size": 0}, "at least one sample"),
        ({"rank": 2, "world_size": 2}, "rank 2 of 2"),
        ({"world_size": 4}, "multiple of the number of ranks"),
        ({"seed": -1}, "seeds"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": math.nan}, "temperature"),
        ({"max_share": 1.1}, "max_share"),
    ):
        with pytest.raises(TrainingError, match=message):
            CropSampler(store, **{"num_samples": 100, "batch_size": 6, "seed": 0} | bad)
    with pytest.raises(TrainingError, match="batch numbers"):
        CropSampler(store, 100, 6, 0).batch(-1)


def test_validation_is_fixed_and_goes_round_the_speakers(store):
    batches = validation_batches(store, 2, 16000)
    assert [batch.names for batch in batches] == [
        ("e.flac", "d.flac"),
        ("c.flac", "b.flac"),
        ("a.flac",),
    ]
    assert batches[0].lengths.tolist() == [3200, 4800] and batches[0].waves.shape == (2, 4800)
    assert batches[1].lengths.tolist() == [8000, 16000]
    assert np.array_equal(batches[1].waves[1].numpy() * 32768, store.samples(1)[:16000])
    again = validation_batches(SpeechStore(store.folder), 2, 16000)
    assert all(equal(one, two) for one, two in zip(batches, again, strict=True))
    long = validation_batches(store, 8, 16000, min_samples=5000)
    assert long[0].names == ("c.flac", "b.flac", "a.flac")
    with pytest.raises(TrainingError, match="no utterance"):
        validation_batches(store, 8, 16000, min_samples=10**6)
    with pytest.raises(TrainingError, match="positive"):
        validation_batches(store, 8, 16000, count=0)


def test_a_few_validation_utterances_have_many_voices(tmp_path):
    corpus = [(f"x{n}", 0.1, "xen", "s", "valid") for n in range(8)]
    corpus += [(f"y{n}", 0.1, "yin", "s", "valid") for n in range(3)]
    corpus += [("z", 0.1, "zoe", "s", "valid")]
    store = build_store(write_corpus(tmp_path / "corpus", corpus), tmp_path / "store")
    names = {
        seed: validation_batches(store, 8, 1600, count=5, seed=seed)[0].names for seed in range(6)
    }
    for chosen in names.values():
        assert sorted(name[0] for name in chosen) == ["x", "x", "y", "y", "z"]
    assert len(set(names.values())) > 1


# Augmentation

EVERYTHING = AugmentConfig(
    noise_probability=1.0,
    noise_in_target=False,
    band_limit_probability=0.5,
    band_limit_in_target=False,
)
NOTHING = AugmentConfig(gain_probability=0, polarity_probability=0)


def waves(rows=40, num_samples=8000, scale=1.0):
    wave = torch.stack(
        [torch.from_numpy(scale * synthetic_speech(num_samples, seed)) for seed in range(rows)]
    )
    return wave.float(), torch.full((rows,), num_samples), [(5, 0, row) for row in range(rows)]


def test_nothing_asked_nothing_done():
    batch = waves(4)
    result = augment(*batch, NOTHING, 16000)
    assert torch.equal(result.inputs, batch[0]) and torch.equal(result.targets, batch[0])
    assert result.inputs.data_ptr() != result.targets.data_ptr() != batch[0].data_ptr()


def test_gain_and_polarity():
    wave, lengths, paths = waves(200, 2000)
    result = augment(wave, lengths, paths, AugmentConfig(gain_db=(-12, 3)), 16000)
    assert torch.equal(result.inputs, result.targets)
    factor = (result.inputs * wave).sum(1) / (wave * wave).sum(1)
    assert (result.inputs - factor[:, None] * wave).abs().max() < 1e-6
    level = 20 * factor.abs().log10()
    assert level.min() > -12.001 and level.max() < 3.001
    assert level.min() < -11 and level.max() > 2 and level.mean() == pytest.approx(-4.5, abs=1)
    assert 70 < (factor < 0).sum() < 130  # 100 ± 4 standard deviations
    flipped = dataclasses.replace(NOTHING, polarity_probability=1)
    assert torch.equal(augment(wave, lengths, paths, flipped, 16000).inputs, -wave)


def test_gain_stops_at_full_scale():
    wave, lengths, paths = waves(8)
    config = AugmentConfig(gain_db=(60, 60), polarity_probability=0)
    result = augment(wave, lengths, paths, config, 16000)
    assert torch.allclose(result.inputs.abs().amax(1), torch.ones(8), atol=1e-6)
    assert result.inputs.abs().max() <= 1
    # Scaled, not clamped.
    assert torch.allclose(result.inputs, wave / wave.abs().amax(1, keepdim=True), atol=1e-5)


@pytest.mark.parametrize("num_samples", [8000, 48000])  # both longer than the short noise
def test_noise_has_the_ratio_that_was_asked(noise, num_samples):
    wave, lengths, paths = waves(20, num_samples, scale=0.3)
    config = dataclasses.replace(
        NOTHING, noise_probability=1, noise_snr_db=(10, 20), noise_in_target=False
    )
    result = augment(wave, lengths, paths, config, 16000, noise)
    assert torch.equal(result.targets, wave)
    ratio = 10 * torch.log10((wave**2).sum(1) / ((result.inputs - wave) ** 2).sum(1))
    assert ratio.min() > 9.99 and ratio.max() < 20.01
    assert ratio.min() < 12 and ratio.max() > 18
    both = dataclasses.replace(config, noise_in_target=True)
    result = augment(wave, lengths, paths, both, 16000, noise)
    assert torch.equal(result.targets, result.inputs) and not torch.equal(result.inputs, wave)
    fixed = dataclasses.replace(config, noise_snr_db=(7, 7))
    added = augment(wave, lengths, paths, fixed, 16000, noise).inputs - wave
    assert 10 * math.log10((wave**2).sum() / (added**2).sum()) == pytest.approx(7, abs=0.01)


def test_noise_loud_enough_to_clip_brings_both_down(noise):
    wave, lengths, paths = waves(8)
    config = dataclasses.replace(
        NOTHING, noise_probability=1, noise_snr_db=(-30, -30), noise_in_target=False
    )
    result = augment(wave, lengths, paths, config, 16000, noise)
    assert result.inputs.abs().max() <= 1
    factor = (result.targets * wave).sum(1) / (wave * wave).sum(1)
    assert (factor < 0.9).all()
    added = result.inputs - result.targets
    ratio = 10 * torch.log10((result.targets**2).sum(1) / (added**2).sum(1))
    assert torch.allclose(ratio, torch.tensor(-30.0), atol=0.05)


def test_noise_crops_are_pieces_of_recordings(noise):
    long, short = noise.samples(0), noise.samples(1)
    assert np.array_equal(noise_crop(noise, 100, 0, 0) * 32768, long[:100])
    last = math.nextafter(1, 0)
    assert np.array_equal(noise_crop(noise, 100, 0, last) * 32768, long[-100:])
    assert np.array_equal(noise_crop(noise, 4000, last, last) * 32768, short)
    wrapped = noise_crop(noise, 9000, last, 0.5) * 32768
    assert np.array_equal(wrapped, np.tile(short, 4)[2000:11000])


def test_silence_gets_no_noise(noise):
    silent = np.zeros(100, np.float32)
    assert not mix(silent, np.ones(100, np.float32), 10).any()
    assert mix(np.ones(100, np.float32), silent, 10).tolist() == [1] * 100
    config = dataclasses.replace(EVERYTHING, band_limit_probability=1)
    result = augment(torch.zeros(1, 500), torch.tensor([500]), [(0,)], config, 16000, noise)
    assert not result.inputs.any()


def band_energy(wave, low, high):
    power = np.abs(np.fft.rfft(wave * np.hanning(len(wave)))) ** 2
    frequencies = np.fft.rfftfreq(len(wave), 1 / 16000)
    return power[(low <= frequencies) & (frequencies < high)].sum()


def test_low_pass_takes_out_what_is_above_and_nothing_below():
    white = np.random.default_rng(0).standard_normal(16000).astype(np.float32)
    narrow = low_pass(white, 4000, 16000)
    assert narrow.dtype == np.float32 and narrow.shape == white.shape
    loss = [
        10 * math.log10(band_energy(white, *band) / band_energy(narrow, *band))
        for band in ((0, 3800), (3980, 4020), (4200, 8001))
    ]
    assert abs(loss[0]) < 0.1 and loss[1] == pytest.approx(6, abs=1.5) and loss[2] > 60
    # Without delay: what is low passes where it is.
    low = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000).astype(np.float32)
    assert np.abs(low_pass(low, 4000, 16000) - low)[200:-200].max() < 1e-3
    for length in (0, 1, 50):
        assert low_pass(white[:length], 4000, 16000).shape == (length,)


def test_band_limits_lie_in_their_range():
    rng = np.random.default_rng(0)
    wave = torch.from_numpy(0.01 * rng.standard_normal((60, 8000)).astype(np.float32))
    batch = (wave, torch.full((60,), 8000), [(1, 0, row) for row in range(60)])
    config = dataclasses.replace(NOTHING, band_limit_probability=1, band_limit_hz=(2000, 6000))
    result = augment(*batch, config, 16000)
    assert torch.equal(result.inputs, result.targets)
    # White noise keeps the part of its energy that lies below the cutoff.
    cutoff = 8000 * (result.inputs**2).sum(1) / (wave**2).sum(1)
    assert cutoff.min() > 1900 and cutoff.max() < 6200
    assert cutoff.min() < 2300 and cutoff.max() > 5200
    assert cutoff.median() == pytest.approx(math.sqrt(2000 * 6000), rel=0.15)
    widened = dataclasses.replace(config, band_limit_in_target=False)
    other = augment(*batch, widened, 16000)
    assert torch.equal(other.inputs, result.inputs) and torch.equal(other.targets, wave)


def test_augmentations_are_drawn_apart(noise):
    """Switching one on does not change what another draws."""
    wave, lengths, paths = waves(10)
    plain = augment(wave, lengths, paths, AugmentConfig(gain_db=(-12, -6)), 16000)
    config = AugmentConfig(gain_db=(-12, -6), noise_probability=0.5, noise_in_target=False)
    noisy = augment(wave, lengths, paths, config, 16000, noise)
    assert torch.equal(noisy.targets, plain.targets)
    assert 0 < (noisy.inputs != plain.inputs).any(1).sum() < 10
    # Nor do they come together: of 100 rows two agree in 50 ± 5, one standard deviation.
    wave, lengths, paths = waves(100, 500)
    wave *= 0.1
    config = AugmentConfig(
        gain_probability=0.5, gain_db=(-3, -2), noise_probability=0.5, noise_in_target=False
    )
    result = augment(wave, lengths, paths, config, 16000, noise)
    factor = (result.targets * wave).sum(1) / (wave * wave).sum(1)
    noisy = (result.inputs != result.targets).any(1)
    chosen = (factor < 0, factor.abs() < 0.9, noisy)
    for one, two in itertools.combinations(chosen, 2):
        assert 25 < (one == two).sum() < 75


def test_padding_stays_zero_and_rows_do_not_depend_on_each_other(noise):
    wave, _, paths = waves(6)
    lengths = torch.tensor([8000, 5000, 1, 0, 300, 7999])
    result = augment(wave, lengths, paths, EVERYTHING, 16000, noise)
    again = augment(wave, lengths, paths, EVERYTHING, 16000, noise)
    assert torch.equal(result.inputs, again.inputs)
    for row, length in enumerate(lengths.tolist()):
        assert not result.inputs[row, length:].any() and not result.targets[row, length:].any()
        alone = augment(
            wave[row : row + 1, : max(length, 1)],
            lengths[row : row + 1],
            paths[row : row + 1],
            EVERYTHING,
            16000,
            noise,
        )
        assert torch.equal(alone.inputs[0, :length], result.inputs[row, :length])
    other = augment(wave, lengths, [(6, 0, row) for row in range(6)], EVERYTHING, 16000, noise)
    assert not torch.equal(other.inputs, result.inputs)


def test_augmentation_errors(noise):
    for bad in (
        {"gain_probability": 1.1},
        {"noise_probability": -0.1},
        {"polarity_probability": math.nan},
        {"gain_db": (3, -3)},
        {"noise_snr_db": (0, math.inf)},
        {"band_limit_hz": (0, 100)},
    ):
        with pytest.raises(TrainingError, match=next(iter(bad))):
            AugmentConfig(**bad)
    batch = waves(2)
    with pytest.raises(TrainingError, match="no store of noise"):
        augment(*batch, EVERYTHING, 16000)
    with pytest.raises(TrainingError, match="16000 Hz and the waves are at 24000"):
        augment(*batch, EVERYTHING, 24000, noise)
    with pytest.raises(TrainingError, match="below 4000"):
        augment(*batch, AugmentConfig(band_limit_probability=1), 8000)
    with pytest.raises(TrainingError, match="a path for each"):
        augment(*batch[:2], batch[2][:1], NOTHING, 16000)


# Real speech


def test_real_speech(speech_folder, tmp_path):
    items = [i for i in read_manifest(speech_folder / "manifest.jsonl") if i.split == "train"]
    last = {}  # one file of each source
    for item in items:
        last[item.extra.get("source")] = item
    store = build_store(last.values(), tmp_path, exclude_sources=["fsdd"])
    assert not store.failures and "fsdd" not in store.sources
    chosen = [item for item in last.values() if item.extra.get("source") != "fsdd"]
    assert [entry.source for entry in store.entries] == [i.extra.get("source") for i in chosen]
    for index, item in enumerate(chosen):
        wave, _ = read(item.path, 16000)
        # Opus may go beyond 1, where int16 stops.
        error = np.abs(store.samples(index) / 32768 - np.clip(wave, -1, 32767 / 32768))
        assert error.max() <= 0.5 / 32768
        if item.duration_s:
            assert store.lengths[index] / 16000 == pytest.approx(item.duration_s, abs=0.02)
    batch = CropSampler(store, 16000, 16, seed=0).batch(0)
    result = augment(batch.waves, batch.lengths, batch.paths, EVERYTHING, 16000, store)
    assert torch.isfinite(result.inputs).all()
    assert (batch.waves**2).mean().sqrt() > 0.005
