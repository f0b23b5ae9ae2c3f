"""All samples of a file come, or it is refused by name, whatever its header says."""

import shutil
import struct
import subprocess

import numpy as np
import pytest
import soundfile

from syllabary.audio.files import AudioReader, read, write
from syllabary.audio.mpeg_streams import find_streams
from syllabary.errors import AudioFileError

from ..conftest import synthetic_speech

RATE = 16000
ID3_BEFORE = b"ID3\x04\x00\x00" + bytes([0, 0, 2, 0]) + bytes(256)
ID3_BEHIND = b"TAG" + b"a title".ljust(125, b"\0")


def mp3(path, mode="VARIABLE", length=60_000, seed=0, rate=RATE):
    """An MP3 with a Xing header: its bytes, and those without that header."""
    wave = synthetic_speech(length, seed, rate)
    settings = {"bitrate_mode": mode, "compression_level": 0.6}
    with soundfile.SoundFile(path, "w", rate, 1, format="MP3", **settings) as file:
        file.write(wave)
    data = path.read_bytes()
    (stream,), _ = find_streams(data)
    assert stream.declared == stream.frames
    return data, data[stream.audio_start : stream.stop]


def in_blocks(path, size):
    with AudioReader(path) as reader:
        return np.concatenate(list(reader.blocks(size)))


@pytest.mark.parametrize("mode", ["VARIABLE", "AVERAGE", "CONSTANT"])
def test_an_mp3_without_a_count_comes_whole(tmp_path, mode):
    _, bare = mp3(tmp_path / "x.mp3", mode)
    whole = read(tmp_path / "x.mp3")[0]
    assert len(whole) == 60_000
    # ffmpeg -f mp3 - puts a tag before; others put one behind, or fill up with zeros.
    for number, content in enumerate(
        (bare, ID3_BEFORE + bare, bare + ID3_BEHIND, bare + bytes(5000), bare + b"APETAGEX" * 4)
    ):
        path = tmp_path / f"{number}.mp3"
        path.write_bytes(content)
        found = read(path)[0]
        # An encoder's delay before and its padding behind: whole frames of 576 samples.
        assert len(found) % 576 == 0 and 60_000 < len(found) < 63_000
        assert np.abs(found[1105 : 1105 + len(whole)] - whole).max() < 1e-5
        assert np.array_equal(in_blocks(path, 5000), found)
        with AudioReader(path) as reader:
            assert reader.num_samples == len(found)


def test_samples_do_not_depend_on_the_blocks(tmp_path):
    """soundfile's own reads do: it seeks after each of them, which an MP3's decoder feels."""
    for suffix in ("mp3", "ogg", "opus", "flac", "wav"):
        write(tmp_path / f"x.{suffix}", synthetic_speech(100_000), RATE)
        whole = read(tmp_path / f"x.{suffix}")[0]
        for size in (1000, 16_000):
            assert np.array_equal(in_blocks(tmp_path / f"x.{suffix}", size), whole), suffix


@pytest.mark.parametrize(
    ("suffix", "between"),
    [
        *((suffix, b"") for suffix in ("mp3", "ogg", "opus", "flac")),
        ("mp3", ID3_BEHIND),
        ("mp3", ID3_BEHIND + ID3_BEFORE),
    ],
)
def test_joined_files_are_read_to_the_last(tmp_path, suffix, between):
    parts = []
    for number in range(3):
        path = tmp_path / f"{number}.{suffix}"
        write(path, synthetic_speech(20_000 + 7000 * number, number), RATE)
        parts.append(path)
    (tmp_path / f"all.{suffix}").write_bytes(between.join(path.read_bytes() for path in parts))
    expected = np.concatenate([read(path)[0] for path in parts])
    assert np.array_equal(read(tmp_path / f"all.{suffix}")[0], expected)
    assert np.array_equal(in_blocks(tmp_path / f"all.{suffix}", 3000), expected)
    with AudioReader(tmp_path / f"all.{suffix}", offset_s=1.5, duration_s=1.0) as reader:
        assert np.array_equal(next(reader.blocks()), expected[24_000:40_000])


def test_what_follows_the_count_of_an_mp3_is_read(tmp_path):
    data, bare = mp3(tmp_path / "x.mp3")
    _, other = mp3(tmp_path / "y.mp3", "CONSTANT", 40_000, 1)
    (tmp_path / "z.mp3").write_bytes(data + other)
    (tmp_path / "other.mp3").write_bytes(other)
    expected = [read(tmp_path / name)[0] for name in ("x.mp3", "other.mp3")]
    assert np.array_equal(read(tmp_path / "z.mp3")[0], np.concatenate(expected))
    # A count that is wrong, in the middle of a stream: all frames come, as without one.
    at = data.index(b"Xing") if b"Xing" in data else data.index(b"Info")
    wrong = data[: at + 8] + (20).to_bytes(4, "big") + data[at + 12 :]
    (tmp_path / "wrong.mp3").write_bytes(wrong)
    (tmp_path / "bare.mp3").write_bytes(bare)
    assert len(read(tmp_path / "wrong.mp3")[0]) >= 60_000


def test_damaged_mp3s_are_refused(tmp_path):
    data, bare = mp3(tmp_path / "x.mp3")
    garbage = np.random.default_rng(0).integers(0, 250, 4000, np.uint8).tobytes()
    (tmp_path / "y.mp3").write_bytes(bare + garbage + bare)
    with pytest.raises(AudioFileError, match=r"y\.mp3: damaged: \d+ bytes from byte"):
        read(tmp_path / "y.mp3")
    (tmp_path / "z.mp3").write_bytes(data[: len(data) // 2])
    with pytest.raises(AudioFileError, match=r"z\.mp3: cut short or damaged"):
        read(tmp_path / "z.mp3")
    # Behind all that a header counts, and before the first frame, nothing is missing.
    for content in (data + garbage, garbage + data):
        (tmp_path / "x.mp3").write_bytes(content)
        assert len(read(tmp_path / "x.mp3")[0]) == 60_000
    (tmp_path / "rates.mp3").write_bytes(data + mp3(tmp_path / "r.mp3", rate=44100)[0])
    with pytest.raises(AudioFileError, match="1 channels at 44100 Hz, before 1 at 16000 Hz"):
        read(tmp_path / "rates.mp3")


def test_a_flac_of_unknown_or_wrong_length(tmp_path):
    wave = synthetic_speech(100_000)
    write(tmp_path / "x.flac", wave, RATE)
    expected = read(tmp_path / "x.flac")[0]
    data = bytearray((tmp_path / "x.flac").read_bytes())
    word = int.from_bytes(data[18:26], "big") & ~((1 << 36) - 1)
    for count in (0, 1, 4096, 99_999):
        data[18:26] = (word | count).to_bytes(8, "big")
        (tmp_path / "y.flac").write_bytes(data)
        with AudioReader(tmp_path / "y.flac") as reader:
            assert reader.num_samples == 100_000
        assert np.array_equal(read(tmp_path / "y.flac")[0], expected)
        (tmp_path / "z.flac").write_bytes(data + ID3_BEHIND)
        assert np.array_equal(read(tmp_path / "z.flac")[0], expected)
    data[18:26] = (word | 100_001).to_bytes(8, "big")
    (tmp_path / "y.flac").write_bytes(data)
    with pytest.raises(AudioFileError, match=r"y\.flac"):
        read(tmp_path / "y.flac")
    # Cut in the last frame and without a count: up to the last whole frame.
    data[18:26] = word.to_bytes(8, "big")
    (tmp_path / "y.flac").write_bytes(data[:-500])
    found = read(tmp_path / "y.flac")[0]
    assert len(found) >= 90_000 and np.array_equal(found, expected[: len(found)])


FORMATS = {
    "wav": ("WAV", "PCM_16"),
    "wav24": ("WAV", "PCM_24"),
    "float.wav": ("WAV", "FLOAT"),
    "u8.wav": ("WAV", "PCM_U8"),
    "ulaw.wav": ("WAV", "ULAW"),
    "ex.wav": ("WAVEX", "PCM_16"),
    "rf64": ("RF64", "PCM_16"),
    "w64": ("W64", "PCM_16"),
    "aiff": ("AIFF", "PCM_16"),
    "au": ("AU", "PCM_16"),
    "caf": ("CAF", "PCM_16"),
    "nist": ("NIST", "PCM_16"),
}


def field_of_size(data, container):
    """Where the size of the samples stands, its layout, and what it says beyond them."""
    if container == "W64":
        return data.index(b"data\xf3\xac") + 16, "<Q", 24
    if container == "AIFF":
        return data.index(b"SSND") + 4, ">I", 8
    if container == "AU":
        return 8, ">I", 0
    if container == "CAF":
        return data.rindex(b"data", 0, 4096) + 4, ">q", 4
    if container == "RF64":
        return data.index(b"ds64") + 16, "<Q", 0
    return data.index(b"data") + 4, "<I", 0


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind != "nist"])
def test_sizes_that_are_too_small(tmp_path, kind):
    container, subtype = FORMATS[kind]
    stereo = np.stack([synthetic_speech(9000, 1), synthetic_speech(9000, 2)], 1)
    path = tmp_path / f"x.{kind}"
    soundfile.write(path, stereo, RATE, subtype, format=container)
    expected = read(path, channels="mix")[0]
    data = bytearray(path.read_bytes())
    if container == "CAF":  # libsndfile fills up to 4096 bytes with a chunk
        at, layout, extra = data.index(b"data\x00\x00") + 4, ">q", 4
    else:
        at, layout, extra = field_of_size(data, container)
    (size,) = struct.unpack_from(layout, data, at)
    struct.pack_into(layout, data, at, extra)
    if container == "RF64":
        struct.pack_into("<Q", data, at + 8, 0)  # its count of samples
    path.write_bytes(data)
    assert np.array_equal(read(path, channels="mix")[0], expected)
    with AudioReader(path, "mix") as reader:
        assert reader.num_samples == 9000
    # Some of them, and more behind: never silently a part.
    struct.pack_into(layout, data, at, extra + (size - extra) // 2 // 12 * 12)
    if container == "RF64":
        struct.pack_into("<Q", data, at + 8, 4500)
    path.write_bytes(data)
    with pytest.raises(AudioFileError, match=r"its header says .* more follow"):
        read(path, channels="mix")


def test_sizes_that_are_too_large_or_unknown(tmp_path):
    wave = synthetic_speech(9000)
    write(tmp_path / "x.wav", wave, RATE)
    expected = read(tmp_path / "x.wav")[0]
    data = bytearray((tmp_path / "x.wav").read_bytes())
    for size in (0xFFFFFFFF, 0x7FFFFFFF, 0xFFFFF000, 0x7FFFF000, 20_000):
        struct.pack_into("<I", data, 40, size)
        (tmp_path / "y.wav").write_bytes(data)
        assert np.array_equal(read(tmp_path / "y.wav")[0], expected), hex(size)


def test_chunks_and_padding_behind_are_no_samples(tmp_path):
    write(tmp_path / "x.wav", synthetic_speech(9001), RATE)
    data = (tmp_path / "x.wav").read_bytes()
    for behind in (
        b"LIST\x04\x00\x00\x00INFO",
        b"id3 \x05\x00\x00\x00abcde",
        b"bext\x02\x00\x00\x00ab" + b"LIST\x04\x00\x00\x00INFO",
        bytes(512),
        ID3_BEHIND,
    ):
        (tmp_path / "y.wav").write_bytes(data + behind)
        assert len(read(tmp_path / "y.wav")[0]) == 9001
    # An empty recording with a title is empty.
    empty = data[:40] + bytes(4) + b"LIST\x04\x00\x00\x00INFO"
    (tmp_path / "y.wav").write_bytes(empty)
    assert len(read(tmp_path / "y.wav")[0]) == 0


def test_a_size_that_wrapped_at_4_gib(tmp_path):
    frames = 2**31 + 8000
    wave = synthetic_speech(8000)
    samples = np.rint(wave * 32767).astype("<i2")
    size = 2 * frames
    with (tmp_path / "x.wav").open("wb") as file:
        file.write(b"RIFF" + struct.pack("<I", (size + 36) % 2**32))
        file.write(b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, RATE, 2 * RATE, 2, 16))
        file.write(b"data" + struct.pack("<I", size % 2**32))
        file.seek(44 + size - samples.nbytes)  # a hole: the file takes no room
        file.write(samples.tobytes())
        for behind in (b"", b"LIST\x04\x00\x00\x00INFO"):
            file.write(behind)
            file.flush()
            with AudioReader(tmp_path / "x.wav") as reader:
                assert reader.num_samples == frames
            segment = read(tmp_path / "x.wav", offset_s=2**31 / RATE)[0]
            assert np.array_equal(segment, samples / np.float32(32768))


def test_rare_formats_that_hold_more(tmp_path):
    soundfile.write(tmp_path / "x.nist", synthetic_speech(9000), RATE, "PCM_16", format="NIST")
    assert len(read(tmp_path / "x.nist")[0]) == 9000
    data = (tmp_path / "x.nist").read_bytes()
    (tmp_path / "y.nist").write_bytes(
        data.replace(b"sample_count -i 9000", b"sample_count -i 4500")
    )
    try:
        assert len(read(tmp_path / "y.nist")[0]) == 9000
    except AudioFileError as error:
        assert "more follow" in str(error)
    soundfile.write(tmp_path / "x.mat", synthetic_speech(9000), RATE, "PCM_16", format="MAT4")
    assert len(read(tmp_path / "x.mat")[0]) == 9000
    (tmp_path / "y.mat").write_bytes((tmp_path / "x.mat").read_bytes() + 70_000 * b"\x01")
    with pytest.raises(AudioFileError, match=r"y\.mat: its header counts 9000 samples"):
        read(tmp_path / "y.mat")


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs an ffmpeg program")
@pytest.mark.parametrize("options", [["-q:a", "5"], ["-abr", "1", "-b:a", "40k"], ["-b:a", "64k"]])
def test_as_ffmpeg_reads_what_it_wrote_to_a_pipe(tmp_path, options):
    write(tmp_path / "x.wav", synthetic_speech(100_000), RATE)
    command = ["ffmpeg", "-v", "error", "-i", tmp_path / "x.wav", *options, "-f", "mp3", "-"]
    done = subprocess.run(command, capture_output=True, check=True)
    (tmp_path / "x.mp3").write_bytes(done.stdout)
    command = ["ffmpeg", "-v", "error", "-i", tmp_path / "x.mp3", "-f", "f32le", "-"]
    done = subprocess.run(command, capture_output=True, check=True)
    expected = np.frombuffer(done.stdout, "<f4")
    found = read(tmp_path / "x.mp3")[0]
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-4


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs an ffmpeg program")
def test_a_film_without_sound_says_so(tmp_path):
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "color=black:size=16x16:duration=0.2"]
    subprocess.run([*command, tmp_path / "x.mp4"], check=True)
    with pytest.raises(AudioFileError, match=r"x\.mp4: it has no audio track"):
        read(tmp_path / "x.mp4")
