"""What libraries write to standard error becomes a note of the file."""

import json
import os
import sys

import pytest

from syllabary.audio.files import write
from syllabary.cli.main import main
from syllabary.jobs import one_file
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


def test_it_is_a_note_of_the_file(monkeypatch, tmp_path, capfd):
    write(tmp_path / "a.wav", synthetic_speech(8_000), 16_000)
    digest = one_file.content_digest

    def noisy(path):
        os.write(2, b"[some/decoder.c] warning: an odd frame\n")
        return digest(path)

    monkeypatch.setattr(one_file, "content_digest", noisy)
    command = ["encode", str(tmp_path / "a.wav"), "--codec", "dmel", "--json"]
    with pytest.raises(SystemExit) as ended:
        main(command)
    out, err = capfd.readouterr()
    assert ended.value.code == 0 and "odd frame" not in err
    notes = json.loads(out.splitlines()[0])["notes"]
    assert notes == ["a library said: [some/decoder.c] warning: an odd frame"]
