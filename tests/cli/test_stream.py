"""`syllabary stream`: the codes and samples of files, at once, and a clean end whatever happens."""

import io
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from syllabary.audio.files import write
from syllabary.audio.resampling import resample
from syllabary.codecs.container import SylReader, chunk_size, read_tokens, write_tokens
from syllabary.errors import ContainerError

from ..conftest import synthetic_speech

SYLLABARY = [sys.executable, "-m", "syllabary"]
PATIENCE = 100  # seconds after which a process is given up; no test that passes waits so long
# The last frame holds 13 samples: fewer than a decoder with little delay would give at once.
LENGTH = 48 * 320 + 13


@pytest.fixture
def stream(run, tmp_path):
    """Runs `syllabary stream …` on these bytes: exit code, output, stderr."""

    def call(data, *arguments):
        (tmp_path / "stdin").write_bytes(data)
        kept = os.dup(0)
        with (tmp_path / "stdin").open("rb") as file:
            os.dup2(file.fileno(), 0)
        try:
            return run("stream", *arguments, text=False)
        finally:
            os.dup2(kept, 0)
            os.close(kept)

    return call


@pytest.fixture
def wav(tmp_path):
    write(tmp_path / "my.wav", synthetic_speech(LENGTH), 16000)
    return tmp_path / "my.wav"


def pcm(path):
    """The samples of a 16-bit file as s16le."""
    return soundfile.read(path, dtype="int16")[0].astype("<i2").tobytes()


def split(data):
    """The header of a .syl file, and its chunks."""
    file = io.BytesIO(data)
    SylReader(file)
    parts = [data[: file.tell()]]
    rest = data[file.tell() :]
    while rest:
        size = chunk_size(rest) or len(rest)
        parts.append(rest[:size])
        rest = rest[size:]
    return parts


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
        (b"", ["encode", "--sample-rate", "0"], "--sample-rate"),
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


def start(*arguments, **pipes):
    return subprocess.Popen(
        [*SYLLABARY, "stream", *arguments],
        stdin=pipes.pop("stdin", subprocess.PIPE),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        **pipes,
    )


def receive(process, enough):
    """What the process writes, read until `enough` of it says so."""
    out = b""
    while not enough(out):
        ready, _, _ = select.select([process.stdout], [], [], PATIENCE)
        assert ready, f"nothing more came after {len(out)} bytes"
        piece = process.stdout.read(65536)
        assert piece, f"the output ended after {len(out)} bytes: {process.stderr.read()}"
        out += piece
    return out


def finish(process):
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err.decode()


def frames_in(data):
    """Whole chunks, of one frame each, in what came so far of a .syl file."""
    try:
        return sum(chunk_size(part) == len(part) for part in split(data)[1:])
    except ContainerError:
        return 0  # the header is not whole


def test_every_frame_goes_through_at_once(wav):
    """With the pipes open all the time, so that no end of input pushes anything out."""
    data = pcm(wav)
    encoder = start("encode", "--stats")
    decoder = start("decode", stdin=encoder.stdout)
    encoder.stdout.close()
    out = b""
    for frame in range(12):
        encoder.stdin.write(data[frame * 640 : (frame + 1) * 640])
        # What the last frame that came stands for may still be cut short.
        due = frame * 640 - len(out)
        out += receive(decoder, lambda new, due=due: len(new) >= due)
        assert len(out) == frame * 640
    encoder.stdin.write(data[12 * 640 :])
    encoder.stdin.close()
    code, rest, err = finish(decoder)
    assert (code, err, len(out + rest)) == (0, "", len(data))
    assert encoder.wait(PATIENCE) == 0 and b"encode: 49 frames" in encoder.stderr.read()
    encoder.stderr.close()


def test_signals_end_the_output_well(stream, wav):
    encoder, decoder = start("encode"), start("decode")
    parts = split(stream(pcm(wav), "encode")[1])

    encoder.stdin.write(pcm(wav)[: 10 * 640 + 100])
    out = receive(encoder, lambda out: frames_in(out) == 10)
    encoder.send_signal(signal.SIGINT)
    code, rest, err = finish(encoder)
    assert (code, err) == (130, "")
    reader = SylReader(io.BytesIO(out + rest))
    assert sum(chunk.codes.shape[1] for chunk in reader.chunks()) == 11
    assert reader.complete and reader.num_samples == 10 * 320 + 50

    decoder.stdin.write(b"".join(parts[:11]) + parts[11][:5])
    out = receive(decoder, lambda out: len(out) == 9 * 640)
    decoder.send_signal(signal.SIGTERM)
    code, rest, err = finish(decoder)
    assert (code, err, len(out + rest)) == (143, "", 10 * 640)


def catches(process, number):
    """Whether the process has a handler for the signal."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"SigCgt:\s*(\w+)", status)[1], 16) >> (number - 1) & 1


def test_a_signal_before_anything_came():
    encoder, decoder = start("encode"), start("decode")
    for process in (encoder, decoder):
        while not catches(process, signal.SIGTERM):
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
    code, out, err = finish(encoder)
    assert (code, err, len(split(out))) == (143, "", 2)
    assert finish(decoder) == (143, b"", "")


def test_a_closed_pipe_ends_quietly(wav):
    process = start("encode")
    receive(process, lambda out: len(out) > 0)
    process.stdout.close()
    process.stdin.write(pcm(wav))
    assert process.wait(PATIENCE) == 141
    assert process.stderr.read() == b""
    process.stdin.close()
    process.stderr.close()


@pytest.mark.parametrize("command", ["encode", "decode"])
def test_no_binary_into_a_terminal(command):
    ours, terminal = pty.openpty()
    try:
        for ends, message in (
            ({"stdin": subprocess.DEVNULL, "stdout": terminal}, b"standard output is a terminal"),
            ({"stdin": terminal, "stdout": subprocess.PIPE}, b"on standard input, not a terminal"),
        ):
            done = subprocess.run(
                [*SYLLABARY, "stream", command], stderr=subprocess.PIPE, check=False, **ends
            )
            assert done.returncode == 2 and message in done.stderr
            assert b"Traceback" not in done.stderr
    finally:
        os.close(ours)
        os.close(terminal)


def test_live_line_on_a_terminal(wav):
    ours, terminal = pty.openpty()
    process = subprocess.Popen(
        [*SYLLABARY, "stream", "encode", "--stats"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=terminal,
    )
    os.close(terminal)
    shown = b""
    while b"p99" not in shown:
        process.stdin.write(pcm(wav)[:640])
        process.stdin.flush()
        if select.select([ours], [], [], 0.02)[0]:
            shown += os.read(ours, 4096)
    assert shown.startswith(b"\rencode: ") and b" frames, p99 " in shown
    process.stdin.close()
    assert process.wait(PATIENCE) == 0
    os.close(ours)


@pytest.mark.slow
def test_ten_minutes_take_no_more_memory_than_one(run, tmp_path):
    script = (
        "import resource, sys; from syllabary.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end: assert not end.code\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
    )
    command = [sys.executable, "-c", script, "stream"]
    minute = (synthetic_speech(16000 * 60) * 32767).astype("<i2").tobytes()

    def peaks(minutes):
        """Peak memory of both ends in MB; leaves minutes.syl and minutes.pcm."""
        tokens, sound = tmp_path / f"{minutes}.syl", tmp_path / f"{minutes}.pcm"
        with sound.open("wb") as output:
            encoder = subprocess.Popen(
                [*command, "encode"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            tee = subprocess.Popen(
                ["tee", str(tokens)], stdin=encoder.stdout, stdout=subprocess.PIPE
            )
            decoder = subprocess.Popen(
                [*command, "decode"], stdin=tee.stdout, stdout=output, stderr=subprocess.PIPE
            )
            encoder.stdout.close()
            tee.stdout.close()
            for _ in range(minutes):
                encoder.stdin.write(minute)
            encoder.stdin.close()
            words = [end.stderr.read().split() for end in (encoder, decoder)]
            assert [end.wait() for end in (encoder, tee, decoder)] == [0, 0, 0]
        return np.array([int(said[-1]) / 1024 for said in words])

    one, ten = peaks(1), peaks(10)
    assert (ten - one < 40).all(), (one, ten)

    (tmp_path / "ten.raw").write_bytes(minute * 10)
    samples = np.fromfile(tmp_path / "ten.raw", "<i2")
    soundfile.write(tmp_path / "ten.wav", samples, 16000, "PCM_16")
    assert run("encode", tmp_path / "ten.wav")[0] == 0
    assert run("decode", tmp_path / "ten.syl")[0] == 0
    assert read_tokens(tmp_path / "10.syl").equal(read_tokens(tmp_path / "ten.syl"))
    assert (tmp_path / "10.pcm").read_bytes() == pcm(tmp_path / "ten.decoded.wav")
