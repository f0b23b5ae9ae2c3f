import dataclasses
import hashlib
import io
import warnings
from threading import Event

import numpy as np
import pytest
import soundfile
import torch

import syllabary
from syllabary.audio import files
from syllabary.audio.files import read, write
from syllabary.audio.resampling import resampler_name
from syllabary.codecs.container import (
    ContainerWarning,
    SylReader,
    SylWriter,
    read_tokens,
    write_tokens,
)
from syllabary.errors import AudioFileError, TokenMismatchError
from syllabary.jobs.one_file import Stopped, decode_file, encode_file

from ..conftest import synthetic_speech


@pytest.fixture(scope="module")
def dmel():
    return syllabary.load("dmel")


def test_a_file_gives_the_codes_of_its_wave(tmp_path, dmel, monkeypatch):
    write(tmp_path / "x.flac", synthetic_speech(50_000), 16000)
    expected = dmel.encode(*read(tmp_path / "x.flac"))
    for seconds in (30, 1):
        monkeypatch.setattr(files, "BLOCK_SECONDS", seconds)
        report = encode_file(dmel, tmp_path / "x.flac", tmp_path / "x.syl")
        assert read_tokens(tmp_path / "x.syl").equal(expected)
    assert report.seconds == 50_000 / 16000
    assert (report.frames, report.codebooks) == (125, 80)
    assert report.size == (tmp_path / "x.syl").stat().st_size
    assert report.notes == [] and report.saving is None

    with (tmp_path / "x.syl").open("rb") as file:
        decoding = decode_file(dmel, SylReader(file), tmp_path / "y.wav")
    wave, rate = read(tmp_path / "y.wav")
    assert rate == 16000 and wave.shape == (50_000,)
    assert np.abs(wave - dmel.decode(expected)[0].numpy()).max() < 1e-4
    assert decoding.seconds == report.seconds and decoding.frames == 125


def test_what_was_done_to_the_audio_is_said(tmp_path, dmel):
    wave = synthetic_speech(44100, sample_rate=44100)
    soundfile.write(tmp_path / "x.wav", np.stack([wave, -wave / 2], 1), 44100)
    report = encode_file(dmel, tmp_path / "x.wav", tmp_path / "x.syl", channels="mix")
    assert report.notes == [
        "2 channels: averaged",
        f"resampled from 44100 Hz ({resampler_name()})",
    ]
    with (tmp_path / "x.syl").open("rb") as file:
        metadata = SylReader(file).metadata
    assert metadata == {
        "source": {
            "name": "x.wav",
            "bytes": (tmp_path / "x.wav").stat().st_size,
            "sha256": hashlib.sha256((tmp_path / "x.wav").read_bytes()).hexdigest(),
            "sample_rate": 44100,
            "channels": 2,
        },
        "options": {"channels": "mix", "compress": False},
        "resampler": resampler_name(),
    }
    expected = dmel.encode(read(tmp_path / "x.wav", 16000, "mix")[0], 16000)
    assert read_tokens(tmp_path / "x.syl").equal(expected)
    with pytest.raises(AudioFileError, match="2 channels"):
        encode_file(dmel, tmp_path / "x.wav", tmp_path / "y.syl", channels="mono")
    assert not (tmp_path / "y.syl").exists()


def test_entropy_coding_reports_its_saving(tmp_path, dmel):
    write(tmp_path / "x.flac", synthetic_speech(80_000), 16000)
    plain = encode_file(dmel, tmp_path / "x.flac", tmp_path / "x.syl")
    coded = encode_file(dmel, tmp_path / "x.flac", tmp_path / "y.syl", compress=True)
    assert coded.size < plain.size
    assert coded.saving is not None and 0.1 < coded.saving < 1
    assert read_tokens(tmp_path / "x.syl").equal(read_tokens(tmp_path / "y.syl"))


def test_empty_audio(tmp_path, dmel):
    write(tmp_path / "x.wav", np.zeros(0, np.float32), 16000)
    report = encode_file(dmel, tmp_path / "x.wav", tmp_path / "x.syl")
    assert (report.frames, report.seconds, report.kbps) == (0, 0, 0)
    with (tmp_path / "x.syl").open("rb") as file:
        decode_file(dmel, SylReader(file), tmp_path / "y.wav")
    assert read(tmp_path / "y.wav")[0].shape == (0,)


def test_a_cut_file_decodes_to_the_cut(tmp_path, dmel):
    tokens = dmel.encode(torch.from_numpy(synthetic_speech(16000 * 25)), 16000)
    file = io.BytesIO()
    with SylWriter(file, tokens.spec) as writer:
        writer.write(tokens)
    cut = io.BytesIO(file.getvalue()[:-20_000])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        report = decode_file(dmel, SylReader(cut, "cut.syl"), tmp_path / "y.wav")
    assert [w.category for w in caught] == [ContainerWarning]
    assert report.seconds == 10 and report.partial
    assert read(tmp_path / "y.wav")[0].shape == (160_000,)


def test_another_tokenizer_is_refused(tmp_path, dmel):
    write(tmp_path / "x.wav", synthetic_speech(5000), 16000)
    encode_file(dmel, tmp_path / "x.wav", tmp_path / "x.syl")
    with (tmp_path / "x.syl").open("rb") as file, pytest.raises(TokenMismatchError):
        decode_file(syllabary.load("dmel-fine"), SylReader(file), tmp_path / "y.wav")
    assert not (tmp_path / "y.wav").exists()


def test_merged_tokens_decode(tmp_path, dmel):
    wave = np.concatenate([synthetic_speech(8000), np.zeros(16000, np.float32)])
    tokens = dmel.encode(wave, 16000)
    write_tokens(tmp_path / "x.syl", tokens.deduplicate())
    with (tmp_path / "x.syl").open("rb") as file:
        decode_file(dmel, SylReader(file), tmp_path / "y.wav")
    expected = dmel.decode(tokens)[0].numpy()
    assert np.abs(read(tmp_path / "y.wav")[0] - expected).max() < 1e-4


def test_a_long_duration_takes_no_memory_of_its_own(tmp_path, dmel):
    """One position that stands for 20 minutes: frames are made a second at a time."""
    import tracemalloc

    tokens = dmel.encode(np.zeros(400, np.float32), 16000)
    frames = 48_000
    merged = dataclasses.replace(
        tokens,
        durations=torch.tensor([[frames]]),
        num_samples=torch.tensor([frames * 400]),
    )
    write_tokens(tmp_path / "x.syl", merged)
    assert (tmp_path / "x.syl").stat().st_size < 1000
    from syllabary.jobs.token_blocks import frames_of

    with (tmp_path / "x.syl").open("rb") as file:
        tracemalloc.start()
        lengths = [int(part.lengths) for part, *_ in frames_of(SylReader(file), 40)]
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert sum(lengths) == frames and max(lengths) == 40
    assert peak < 5_000_000


def test_stopping(tmp_path, dmel):
    write(tmp_path / "x.wav", synthetic_speech(16000), 16000)
    stop = Event()
    encode_file(dmel, tmp_path / "x.wav", tmp_path / "x.syl", stop=stop)
    stop.set()
    with pytest.raises(Stopped):
        encode_file(dmel, tmp_path / "x.wav", tmp_path / "y.syl", stop=stop)
    with (tmp_path / "x.syl").open("rb") as file, pytest.raises(Stopped):
        decode_file(dmel, SylReader(file), tmp_path / "y.wav", stop=stop)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.syl", "x.wav"]
