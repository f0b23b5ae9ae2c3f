"""What libraries write to standard error becomes a note of the file."""

import json
import os
import subprocess
import sys

import numpy as np
import soundfile

from syllabary.jobs.library_noise import as_note, caught_noise

from ..conftest import synthetic_speech


def test_what_a_library_writes_is_caught_and_what_python_writes_is_shown(capfd):
    with caught_noise() as noise:
        os.write(2, b"one\ntwo\n")
        print("shown", file=sys.stderr, flush=True)
        assert noise() == "one\ntwo\n" and noise() == ""
        os.write(2, b"nobody asked")
    print("after", file=sys.stderr, flush=True)
    err = capfd.readouterr().err
    assert "one" not in err and "shown" in err and "nobody asked" in err and "after" in err
    assert as_note("one\n\ntwo\n") == "a library said: two (and 1 more lines)"
    assert as_note(" \n") == ""


def test_a_damaged_mp3_has_the_decoders_words_in_its_note(tmp_path):
    """In a process of its own, whose standard error is the descriptor that libraries write to."""
    wave = np.tile(synthetic_speech(16_000), 6)
    soundfile.write(tmp_path / "a.mp3", wave, 16_000)
    data = bytearray((tmp_path / "a.mp3").read_bytes())
    data[len(data) // 2 : len(data) // 2 + 4_000] = bytes(range(250)) * 16
    (tmp_path / "a.mp3").write_bytes(data)
    command = [sys.executable, "-m", "syllabary", "encode", "a.mp3", "-o", "a.syl"]
    command += ["--codec", "dmel", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stderr
    assert any(note.startswith("a library said:") for note in lines[0]["notes"]), done
    assert "mpg123" not in done.stderr
