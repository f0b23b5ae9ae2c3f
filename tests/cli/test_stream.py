"""`syllabary stream`: the codes and samples of files, and what is said of bad input."""

import io
import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from syllabary.audio.resampling import resample
from syllabary.codecs.container import SylReader, read_tokens, write_tokens
from syllabary.codecs.streaming import StreamSession

from ..conftest import synthetic_speech
from .conftest import LENGTH, pcm, split


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("rvq-16k", []),
        ("rvq-16k", ["--codebooks", "3", "--frames-per-chunk", "5"]),
        ("fsq-16k", []),
        ("dmel", ["--frames-per-chunk", "3"]),
        ("dmel-narrow", []),
    ],
)
def test_codes_and_samples_are_those_of_files(run, stream, wav, codec, options):
    expected = wav.with_suffix(".syl")
    kept = options[:2] if "--codebooks" in options else []
    assert run("encode", wav, "--codec", codec, *kept)[0] == 0
    assert run("decode", expected)[0] == 0
    code, out, err = stream(pcm(wav), "encode", codec, *options)
    assert (code, err) == (0, "")
    (wav.parent / "streamed.syl").write_bytes(out)
    assert read_tokens(wav.parent / "streamed.syl").equal(read_tokens(expected))
    code, out, err = stream(out, "decode")
    assert (code, err) == (0, "")
    assert out == pcm(wav.with_name("my.decoded.wav"))


def test_streams_are_files_and_files_are_streams(run, stream, wav, tmp_path):
    assert run("encode", wav)[0] == 0
    assert run("decode", wav.with_suffix(".syl"))[0] == 0
    expected = pcm(wav.with_name("my.decoded.wav"))

    (tmp_path / "x.syl").write_bytes(stream(pcm(wav), "encode")[1])
    code, out, _ = run("info", tmp_path / "x.syl")
    assert code == 0 and "whole                yes" in out and "frames_per_chunk" in out
    assert run("decode", tmp_path / "x.syl", "-o", tmp_path / "x.wav")[0] == 0
    assert pcm(tmp_path / "x.wav") == expected

    tokens = read_tokens(wav.with_suffix(".syl"))
    write_tokens(tmp_path / "merged.syl", tokens.deduplicate(), compress=True)
    for name in ("my.syl", "merged.syl"):
        code, out, err = stream((tmp_path / name).read_bytes(), "decode", "rvq-16k")
        assert (code, err) == (0, "") and out == expected


def test_formats_and_rates(run, stream, tmp_path):
    rng = np.random.default_rng(0)
    wave = synthetic_speech(50_000, sample_rate=48000) + 1e-5 * rng.standard_normal(50_000)
    wave = wave.astype("<f4")
    soundfile.write(tmp_path / "x.wav", wave, 48000, "FLOAT")
    assert run("encode", tmp_path / "x.wav")[0] == 0
    floats = ["--format", "f32le", "--sample-rate", "48000"]
    code, out, _ = stream(wave.tobytes(), "encode", *floats)
    assert code == 0
    (tmp_path / "y.syl").write_bytes(out)
    tokens = read_tokens(tmp_path / "y.syl")
    assert tokens.equal(read_tokens(tmp_path / "x.syl"))
    assert "soxr" in SylReader(io.BytesIO(out)).metadata["resampler"]

    samples = np.frombuffer(stream(out, "decode", "--format", "f32le")[1], "<f4")
    assert len(samples) == int(tokens.num_samples[0])
    fast = np.frombuffer(stream(out, "decode", *floats)[1], "<f4")
    assert np.array_equal(fast, resample(samples, 16000, 48000))


@pytest.mark.parametrize("samples", [0, 1, 319, 320, 321])
def test_short_inputs(stream, samples):
    data = (synthetic_speech(samples) * 32767).astype("<i2").tobytes()
    code, out, _ = stream(data, "encode", "fsq-16k")
    assert code == 0 and len(split(out)) == 2 + -(-samples // 320)
    code, out, err = stream(out, "decode")
    assert (code, err) == (0, "") and len(out) == 2 * samples


def test_an_input_that_ends_within_a_sample(stream, wav):
    whole = stream(pcm(wav), "encode")[1]
    code, out, err = stream(pcm(wav) + b"\1", "encode")
    assert code == 2 and "ends within a sample: 30747 bytes of s16le" in err
    assert "Traceback" not in err
    assert out == whole


def test_truncation_is_spoken_up_to_the_last_whole_chunk(stream, wav):
    data = stream(pcm(wav), "encode")[1]
    expected = stream(data, "decode")[1]
    parts = split(data)
    cut = b"".join(parts[:21]) + parts[21][:-1]
    code, out, err = stream(cut, "decode")
    assert code == 1 and err == "cut short: what came before the cut was decoded\n"
    assert out[: 2 * 19 * 320] == expected[: 2 * 19 * 320] and len(out) == 2 * 20 * 320
    code, out, err = stream(b"".join(parts[:-1]), "decode")
    assert code == 1 and len(out) == 2 * 49 * 320  # the real end was in the mark that is missing
    code, out, err = stream(parts[0], "decode")
    assert code == 2 and "cut short before its first whole chunk" in err and not out


def test_damage_is_an_error_after_what_came_before_it(stream, wav):
    parts = split(stream(pcm(wav), "encode")[1])
    damaged = bytearray(b"".join(parts))
    damaged[sum(map(len, parts[:11])) - 1] ^= 1
    code, out, err = stream(bytes(damaged), "decode")
    assert code == 2 and len(out) == 2 * 9 * 320
    assert err == (
        "syllabary: standard input: chunk 10 is damaged; the 9 positions before it are whole\n"
    )
    code, out, err = stream(b"".join(parts) + b"more", "decode")
    assert code == 2 and "bytes after the end mark" in err and len(out) == 2 * LENGTH


@pytest.mark.parametrize(
    ("data", "arguments", "message"),
    [
        (b"", ["decode"], "standard input: not a .syl file"),
        (b"RIFF" * 99, ["decode"], "standard input: not a .syl file"),
        (np.full(999, np.nan, "<f4").tobytes(), ["encode", "--format", "f32le"], "NaN or infinity"),
        (b"", ["encode", "nonsense"], "nonsense"),
        (b"", ["encode", "dmel", "--codebooks", "3"], "takes 80 codebooks, got 3"),
        (b"", ["encode", "--frames-per-chunk", "0"], "--frames-per-chunk"),
        (b"", ["encode", "--frames-per-chunk", "999999"], "a chunk holds 1 to 131072 positions"),
        (b"", ["encode", "--format", "s24le"], "'s16le', 'f32le'"),
        (b"", ["encode", "--sample-rate", "999"], "--sample-rate"),
        (b"", ["decode", "--sample-rate", "384001"], "--sample-rate"),
    ],
)
def test_bad_input_and_arguments(stream, data, arguments, message):
    code, _, err = stream(data, *arguments)
    assert code == 2 and message in err and "Traceback" not in err


def test_tokens_of_another_tokenizer(stream):
    tokens = stream(bytes(640), "encode", "fsq-16k")[1]
    code, out, err = stream(tokens, "decode", "rvq-16k")
    assert code == 2 and "were made by fsq-16k" in err and not out


def test_stats(stream, wav):
    code, tokens, err = stream(pcm(wav), "encode", "--stats")
    assert code == 0
    lines = err.splitlines()
    assert len(lines) == 4 and all(line.startswith("encode: ") for line in lines)
    assert "49 frames × 8, 0.96 s of audio" in lines[0] and "× real time" in lines[0]
    assert all("p50" in line and "p99" in line for line in lines[1:3])
    assert "latency: 20.0 ms by design" in lines[2]
    kbps = len(tokens) * 8 / 1000 / (LENGTH / 16000)
    assert f"30.7 kB in, {len(tokens) / 1000:.1f} kB out; tokens {kbps:.2f} kbit/s" in lines[3]
    code, _, err = stream(tokens, "decode", "--stats")
    lines = err.splitlines()
    assert code == 0 and len(lines) == 4 and "decode: 49 frames × 8" in lines[0]
    assert f"tokens {kbps:.2f} kbit/s, codes alone 4.00" in lines[3]
    err = stream(pcm(wav), "encode", "--stats", "--frames-per-chunk", "3")[2]
    assert "latency: 60.0 ms by design" in err


@pytest.mark.parametrize("descriptor", [0, 1])
@pytest.mark.parametrize("command", ["encode", "decode"])
def test_closed_descriptors(command, descriptor):
    done = subprocess.run(
        [sys.executable, "-m", "syllabary", "stream", command],
        preexec_fn=lambda: os.close(descriptor),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    name = ("input", "output")[descriptor]
    assert done.stderr.decode() == f"syllabary: standard {name} is closed\n"
    assert done.returncode == 2


def test_help_is_whole_at_80_columns(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    out = run("stream", "--help")[1]
    assert "Raw PCM to .syl." in out and ".syl to raw PCM." in out
    assert "..." not in out.partition("Commands:")[2]


def test_low_rates_are_resampled_a_second_at_a_time(stream, monkeypatch):
    pieces, original = [], StreamSession.encode

    def encode(session, chunk, final=False):
        pieces.append(len(chunk))
        return original(session, chunk, final=final)

    monkeypatch.setattr(StreamSession, "encode", encode)
    code, out, _ = stream(bytes(2 * 5_500), "encode", "dmel", "--sample-rate", "1000")
    assert code == 0 and len(split(out)) == 2 + 5.5 * 40
    assert sum(pieces) > 5.5 * 16_000 and max(pieces) < 2 * 16_000
