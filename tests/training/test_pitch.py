"""Pitch tracks of a store: right on sounds of known pitch, aligned with crops, kept in a file."""

import sys

import numpy as np
import pytest
import soundfile
import torch

from syllabary.errors import TrainingError
from syllabary.training.data import build_store
from syllabary.training.data.pitch import PitchConfig, PitchTracks

RATE, HOP = 16000, 80

pytest.importorskip("pyworld")


def voiced(pitch):
    """Harmonics of a pitch (samples,) Hz."""
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    return 0.1 * sum(np.sin(k * phase) / k for k in range(1, 20))


def glide(low, high, samples):
    return np.geomspace(low, high, samples)


SOUNDS = {
    "up.wav": voiced(glide(100, 350, RATE)),
    "gap.wav": np.concatenate(
        [voiced(np.full(8000, 120.0)), np.zeros(8000), voiced(np.full(8000, 240.0)), np.zeros(4000)]
    ),
    "none.wav": np.zeros(8000),
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sounds")
    for name, wave in SOUNDS.items():
        soundfile.write(folder / name, wave, RATE, subtype="PCM_16")
    return folder


@pytest.fixture(scope="module")
def store(corpus):
    return build_store(corpus, corpus / "store")


@pytest.fixture(scope="module")
def tracks(store):
    return PitchTracks(store)


@pytest.mark.parametrize("start", [0, 80, 37, 41, 3219])
def test_a_glide_is_followed_at_the_end_of_each_hop(tracks, start):
    pitch, has_voice = tracks.crops(["up.wav"], [start], 9600)
    assert pitch.shape == has_voice.shape == (1, 120)
    assert (pitch.dtype, has_voice.dtype) == (torch.float32, torch.bool)
    inside = slice(20, 100)
    assert bool(has_voice[0, inside].all())
    octaves = np.log2(3.5) / RATE  # per sample
    ends = start + HOP * np.arange(1, 121)
    expected = 100 * 2 ** (octaves * ends)
    off = np.log2(pitch[0].numpy() / expected)[inside] / octaves  # samples late or early
    # The track has points at multiples of the hop: the nearest ones.
    nearest = (start + HOP // 2) // HOP * HOP - start
    assert abs(off.mean() - nearest) < 5
    assert np.abs(off - nearest).max() < HOP / 2


def test_pitch_is_bridged_where_there_is_no_voice(tracks):
    pitch, has_voice = tracks.crops(["gap.wav"], [0], 28_000)
    assert bool(has_voice[0, 20:80].all()) and bool(has_voice[0, 220:280].all())
    assert not has_voice[0, 110:190].any() and not has_voice[0, 320:].any()
    assert np.allclose(pitch[0, 20:80], 120, rtol=0.01)
    assert np.allclose(pitch[0, 220:280], 240, rtol=0.01)
    # Straight in log between them, and held to the end.
    logs = pitch[0].log2()
    silent = logs[110:190].diff()
    assert torch.allclose(silent, silent[0].expand_as(silent), atol=1e-4) and silent[0] > 0
    assert np.allclose(pitch[0, 310:], pitch[0, 320], rtol=1e-6)


def test_silence_has_some_pitch_and_no_voice(tracks):
    pitch, has_voice = tracks.crops(["none.wav"], [0], 8000)
    assert not has_voice.any()
    assert torch.equal(pitch, torch.full((1, 100), 150.0))


def test_what_follows_the_end_has_no_voice(tracks):
    names, starts = ["up.wav", "gap.wav"], [RATE - 1600, 0]
    pitch, has_voice = tracks.crops(names, starts, 4000)
    assert not has_voice[0, 21:].any()
    assert np.allclose(pitch[0, 21:], pitch[0, 21])
    assert bool((pitch > 0).all())
    alone, _ = tracks.crops(names[1:], starts[1:], 4000)
    assert torch.equal(alone[0], pitch[1])


def test_other_hops(store):
    tracks = PitchTracks(store, PitchConfig(hop=100))
    pitch, _ = tracks.crops(["up.wav"], [0], 16_000)
    assert pitch.shape == (1, 160)
    expected = 100 * 3.5 ** (np.arange(1, 161) / 160)
    assert np.abs(np.log2(pitch[0].numpy() / expected))[20:140].max() < 0.1


def test_tracks_are_kept(corpus, tmp_path):
    calls = []
    store = build_store(corpus, tmp_path)
    first = PitchTracks(store, progress=lambda *done: calls.append(done))
    assert calls == [(1, 3), (2, 3), (3, 3)]
    (path,) = tmp_path.glob("pitch-*.f32")
    before = path.stat().st_mtime_ns
    again = PitchTracks(build_store(corpus, tmp_path), progress=lambda *done: calls.append(done))
    assert len(calls) == 3 and path.stat().st_mtime_ns == before
    crop = (["gap.wav"], [100], 1600)
    assert all(map(torch.equal, first.crops(*crop), again.crops(*crop)))
    PitchTracks(store, PitchConfig(pitch_max=300.0))
    assert len(list(tmp_path.glob("pitch-*.f32"))) == 2

    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(TrainingError, match=r"pitch-\w+\.f32: \d+ points .* delete the file"):
        PitchTracks(store)


def test_a_missing_package_is_named(corpus, tmp_path, monkeypatch):
    store = build_store(corpus, tmp_path)
    monkeypatch.setitem(sys.modules, "pyworld", None)
    with pytest.raises(TrainingError, match=r"syllabary\[train\]"):
        PitchTracks(store)
    assert not list(tmp_path.glob("pitch-*"))
