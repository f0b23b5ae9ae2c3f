"""`syllabary stream` in pipes: at once, and a clean end whatever happens."""

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

from syllabary.codecs.container import SylReader, chunk_size, read_tokens
from syllabary.errors import ContainerError

from ..conftest import synthetic_speech
from .conftest import pcm, split

SYLLABARY = [sys.executable, "-m", "syllabary"]
PATIENCE = 100  # seconds after which a process is given up; no test that passes waits so long


def start(*arguments, **pipes):
    return subprocess.Popen(
        [*SYLLABARY, "stream", *arguments],
        stdin=pipes.pop("stdin", subprocess.PIPE),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        # Tests may run in a shell's background, whose processes ignore SIGINT, and so would ours.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
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


def test_a_signal_ends_a_backlog():
    """What has come is half a minute of audio, of which a second at most is waited for."""
    process = start("encode", "fsq-16k", "--sample-rate", "1000")
    process.stdin.write(bytes(65_536))
    out = receive(process, lambda out: frames_in(out) > 0)
    process.send_signal(signal.SIGTERM)
    code, rest, err = finish(process)
    assert (code, err) == (143, "")
    reader = SylReader(io.BytesIO(out + rest))
    assert 0 < sum(chunk.codes.shape[1] for chunk in reader.chunks()) < 32.7 * 50 - 100
    assert reader.complete


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
