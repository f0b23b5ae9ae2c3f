"""Encoding before kernels are compiled: by PyTorch, with the same codes."""

import os
import subprocess
import sys

import pytest
import torch

import syllabary
from syllabary.audio.files import read, write
from syllabary.audio.manifests import Utterance
from syllabary.cli.demo import CLIP
from syllabary.codecs.neural.without_compiling import may_compile, without_compiling
from syllabary.jobs import first_use
from syllabary.jobs.first_use import FirstUse

from ...conftest import synthetic_speech


@pytest.mark.parametrize("count", [1, 3, 8])
def test_the_same_codes(count):
    tokenizer = syllabary.load("rvq-16k")
    for wave in (read(CLIP, 16_000)[0], synthetic_speech(9_999), synthetic_speech(0)):
        expected = tokenizer.encode(wave, 16_000, num_codebooks=count)
        with without_compiling(), tokenizer.stream(num_codebooks=count) as session:
            assert not may_compile()
            half = torch.as_tensor(wave[: len(wave) // 2])
            parts = [session.encode(half)]
            parts.append(session.encode(wave[len(half) :], final=True))
            found = syllabary.Tokens.concat(parts)
        assert found.equal(expected)
    assert may_compile()


def test_nothing_is_compiled_for_a_short_file_on_a_new_machine(tmp_path):
    """In a process of its own with an empty cache; the output is that of compiled kernels."""
    write(tmp_path / "my.wav", synthetic_speech(16_000), 16_000)
    arguments = [str(tmp_path / "my.wav"), "-o", str(tmp_path / "cold.syl")]
    empty = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "syllabary", "encode", *arguments]
    done = subprocess.run(command, env=empty, check=True, capture_output=True, text=True)
    assert "first use on this machine" in done.stderr and "once" not in done.stderr
    assert not list(tmp_path.rglob("*.nbc"))
    tokenizer = syllabary.load("rvq-16k")
    expected = tokenizer.encode(*read(tmp_path / "my.wav"))
    assert syllabary.read_tokens(tmp_path / "cold.syl").equal(expected)


def test_it_waits_for_as_much_audio_as_pays_off(tmp_path, monkeypatch):
    write(tmp_path / "a.wav", synthetic_speech(16_000), 16_000)
    item = Utterance(tmp_path / "a.wav", tmp_path / "a.wav")
    tokenizer = syllabary.load("rvq-16k")
    monkeypatch.setattr(first_use, "PAYS_OFF", 2.5)
    for compiled, expected in ((True, [True] * 4), (False, [False, False, True, True])):
        monkeypatch.setattr(first_use, "_is_compiled", lambda compiled=compiled: compiled)
        first, found = FirstUse(tokenizer), []
        for _ in expected:
            with first.of(item):
                found.append(may_compile())
        assert found == expected
    with FirstUse(syllabary.load("dmel")).of(item):  # which has no other way
        assert may_compile()


def test_compiling_is_told(capsys):
    from syllabary.cli.compiling import telling_of_compiling
    from syllabary.kernels.compiling import announce

    with telling_of_compiling():
        announce("first")
        announce("second")
    announce("nobody listens")
    assert capsys.readouterr().err.count("compiling for this processor") == 1
