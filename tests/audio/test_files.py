import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from syllabary.audio import files
from syllabary.audio.files import AudioReader, AudioWriter, read, write
from syllabary.audio.resampling import Resampler, resample, resampler_name
from syllabary.errors import AudioFileError, WaveError

from ..conftest import synthetic_speech


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "opus", "mp3"])
def test_formats_come_back(tmp_path, suffix):
    wave = synthetic_speech(16000)
    path = tmp_path / f"x.{suffix}"
    write(path, wave, 16000)
    again, rate = read(path, sample_rate=16000)
    assert rate == 16000
    assert again.dtype == np.float32
    if suffix in ("wav", "flac"):
        assert np.abs(again - wave).max() < 1e-4
    else:
        assert abs(len(again) - len(wave)) < 3000
        shortest = min(len(again), len(wave))
        assert np.std(again) == pytest.approx(np.std(wave), rel=0.3) and shortest > 15000


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs an ffmpeg program")
def test_other_formats_go_through_ffmpeg(tmp_path):
    wave = synthetic_speech(44100, sample_rate=44100)
    stereo = np.stack([wave, -0.5 * wave], 1)
    soundfile.write(tmp_path / "x.wav", stereo, 44100, subtype="FLOAT")
    command = [
        "ffmpeg",
        "-v",
        "error",
        "-i",
        tmp_path / "x.wav",
        "-c:a",
        "alac",
        tmp_path / "x.m4a",
    ]
    subprocess.run(command, check=True)
    with AudioReader(tmp_path / "x.m4a", channels=1) as reader:
        assert (reader.sample_rate, reader.num_channels) == (44100, 2)
        blocks = list(reader.blocks(10_000))
        assert [len(block) for block in blocks[:-1]] == [10_000] * (len(blocks) - 1)
    assert np.abs(np.concatenate(blocks) + 0.5 * wave).max() < 1e-3
    (tmp_path / "bad.m4a").write_bytes(b"not audio at all" * 100)
    with pytest.raises(AudioFileError, match=r"bad\.m4a.*ffmpeg"):
        read(tmp_path / "bad.m4a")


def test_without_ffmpeg_the_message_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    (tmp_path / "x.m4a").write_bytes(b"not audio at all" * 100)
    with pytest.raises(AudioFileError, match="no ffmpeg program"):
        read(tmp_path / "x.m4a")


def test_what_can_not_be_read(tmp_path):
    with pytest.raises(AudioFileError, match="no such file"):
        read(tmp_path / "none.wav")
    with pytest.raises(AudioFileError, match="a folder"):
        read(tmp_path)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs an ffmpeg program")
@pytest.mark.parametrize("kind", ["flac", "wav", "ogg", "mp3"])
def test_what_was_written_to_a_pipe_has_no_length_in_its_header(tmp_path, kind):
    write(tmp_path / "x.wav", synthetic_speech(48_000), 16000)
    command = ["ffmpeg", "-v", "error", "-i", tmp_path / "x.wav", "-f", kind, "pipe:1"]
    done = subprocess.run(command, capture_output=True, check=True)
    (tmp_path / f"y.{kind}").write_bytes(done.stdout)
    length = len(read(tmp_path / f"y.{kind}")[0])
    assert length == 48_000 or (kind == "mp3" and 48_000 < length < 52_000)


def test_audio_that_is_cut_short_is_refused(tmp_path):
    wave = synthetic_speech(160_000)
    for suffix in ("flac", "mp3", "wav", "opus"):
        path = tmp_path / f"x.{suffix}"
        write(path, wave, 16000)
        read(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        if suffix in ("wav", "opus"):
            # A wav or ogg stream that ends early is what a recorder leaves that was switched off:
            # libsndfile takes its length from the file's end.
            assert 60_000 < len(read(path)[0]) < 100_000
            continue
        with pytest.raises(AudioFileError, match=r"x\."):
            read(path)
    write(tmp_path / "y.wav", wave, 16000)
    data = bytearray((tmp_path / "y.wav").read_bytes())
    data[40:44] = bytes(4)
    (tmp_path / "z.wav").write_bytes(data)
    assert np.array_equal(read(tmp_path / "z.wav")[0], read(tmp_path / "y.wav")[0])


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs an ffmpeg program")
def test_ffmpeg_reads_no_file_but_the_one_given(tmp_path, monkeypatch):
    wave = synthetic_speech(16000)
    write(tmp_path / "a.wav", wave, 16000)
    (tmp_path / "list.m4a").write_text("ffconcat version 1.0\nfile a.wav\n")
    with pytest.raises(AudioFileError, match=r"list\.m4a"):
        read(tmp_path / "list.m4a")
    command = ["ffmpeg", "-v", "error", "-i", tmp_path / "a.wav", f"file:{tmp_path}/12:30.m4a"]
    subprocess.run(command, check=True)
    monkeypatch.chdir(tmp_path)
    assert len(read("12:30.m4a")[0]) >= 16000
    with Path("12:30.m4a").open("r+b") as file:
        file.seek(2000)
        file.write(b"\xff" * 600)
    with pytest.raises(AudioFileError, match="damaged"):
        read("12:30.m4a")
    (tmp_path / "x.raw").write_bytes(b"\0" * 1000)
    with pytest.raises(AudioFileError, match=r"x\.raw"):
        read(tmp_path / "x.raw")


def test_channels_are_never_mixed_silently(tmp_path):
    left, right = synthetic_speech(1000, 1), synthetic_speech(1000, 2)
    soundfile.write(tmp_path / "x.wav", np.stack([left, right], 1), 16000, subtype="FLOAT")
    with pytest.raises(AudioFileError, match=r"2 channels.*mix"):
        read(tmp_path / "x.wav")
    assert np.array_equal(read(tmp_path / "x.wav", channels="first")[0], left)
    assert np.array_equal(read(tmp_path / "x.wav", channels=1)[0], right)
    mixed = read(tmp_path / "x.wav", channels="mix")[0]
    assert np.allclose(mixed, (left + right) / 2, atol=1e-6)
    with pytest.raises(AudioFileError, match="no channel 2"):
        read(tmp_path / "x.wav", channels=2)
    with pytest.raises(AudioFileError, match="channels must be"):
        read(tmp_path / "x.wav", channels="both")


def test_clipping_is_said(tmp_path):
    wave = np.array([0, 1.5, -2, 0.5], np.float32)
    assert write(tmp_path / "x.wav", wave, 16000) == 2
    assert np.abs(read(tmp_path / "x.wav")[0]).max() <= 1
    with pytest.raises(WaveError, match=r"2 samples.*peak 2\.000"):
        write(tmp_path / "y.wav", wave, 16000, clipping="error")
    with pytest.raises(WaveError, match="NaN"):
        write(tmp_path / "y.wav", wave * np.nan, 16000)
    for bad in (np.array([32767, 0], np.int16), np.zeros((5, 2), np.float32)):
        with pytest.raises(WaveError, match="expected samples"):
            write(tmp_path / "y.wav", bad, 16000)
    with pytest.raises(AudioFileError, match="clipping must be"):
        write(tmp_path / "y.wav", wave, 16000, clipping="wrap")
    with pytest.raises(AudioFileError, match=r"can't write.*\.wav or \.flac"):
        write(tmp_path / "y.xyz", wave, 16000)
    with pytest.raises(AudioFileError, match="can't write"):
        write(tmp_path / "y.opus", wave, 44100)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.wav"]


def test_a_writer_takes_open_files(tmp_path):
    with (tmp_path / "x").open("wb") as file, AudioWriter(file, 8000, "flac") as writer:
        for _ in range(3):
            writer.write(synthetic_speech(500))
    assert soundfile.info(tmp_path / "x").frames == 1500


@pytest.mark.parametrize(("source", "target"), [(44100, 16000), (8000, 16000), (48000, 16000)])
def test_resampling_does_not_depend_on_the_chunks(source, target):
    wave = synthetic_speech(3 * source, sample_rate=source)
    whole = resample(wave, source, target)
    assert abs(len(whole) - 3 * target) <= 1
    rng = np.random.default_rng(0)
    for size in (1000, source, None):
        resampler = Resampler(source, target)
        sizes = [size] * 500 if size else rng.integers(0, 9000, 500)
        parts, at = [], 0
        for step in sizes:
            parts.append(resampler.push(wave[at : at + step]))
            at += step
        parts.append(resampler.push(wave[at:], final=True))
        assert np.array_equal(np.concatenate(parts), whole)


def test_resampling_keeps_a_tone():
    tone = np.sin(2 * np.pi * 440 * np.arange(44100) / 44100).astype(np.float32)
    again = resample(np.stack([tone, -tone]), 44100, 16000)
    expected = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    assert np.abs(again[0] - expected)[200:-200].max() < 1e-3
    assert np.array_equal(again[0], -again[1])
    assert resample(tone, 16000, 16000) is tone
    for shape in ((0,), (2, 0), (0, 5)):
        assert resample(np.zeros(shape, np.float32), 44100, 16000).shape == (*shape[:-1], 0)
    assert resampler_name().startswith("soxr ")
    for rate in (0, -1, 999, 384_001):
        with pytest.raises(WaveError, match="must be 1000 to 384000 Hz"):
            resample(tone, rate, 16000)


def test_reading_resampled_blocks_equals_reading_at_once(tmp_path, monkeypatch):
    wave = synthetic_speech(44100 * 2, sample_rate=44100)
    write(tmp_path / "x.flac", wave, 44100)
    whole, _ = read(tmp_path / "x.flac", 16000)
    monkeypatch.setattr(files, "BLOCK_SECONDS", 0.1)
    with AudioReader(tmp_path / "x.flac") as reader:
        reader.blocks.__func__.__defaults__ = (4410,)
        blocks = list(reader.resampled_blocks(16000))
        reader.blocks.__func__.__defaults__ = (None,)
    assert len(blocks) > 15
    assert np.array_equal(np.concatenate(blocks), whole)
