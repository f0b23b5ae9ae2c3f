"""The example that goes from recordings to a model and back to speech, at a small size."""

import json
import subprocess
import sys

import pytest

from syllabary.audio import read, write
from syllabary.cli.main import main

from ..conftest import ROOT, synthetic_speech


@pytest.mark.parametrize(
    "codec", [("units-16k",), pytest.param(("rvq-16k", "--codebooks", "2"), marks=pytest.mark.slow)]
)
def test_from_recordings_to_speech(tmp_path, codec):
    pytest.importorskip("transformers")
    (tmp_path / "speech").mkdir()
    for number in range(6):
        write(tmp_path / "speech" / f"{number}.wav", synthetic_speech(24_000, number), 16_000)
    tokens, prompt, output = tmp_path / "tokens", tmp_path / "speech" / "0.wav", tmp_path / "x.wav"
    with pytest.raises(SystemExit) as ended:
        folder = str(tmp_path / "speech")
        main(["dataset", "build", folder, "-o", str(tokens), "--codec", *codec])
    assert not ended.value.code
    size = ("--steps", "25", "--layers", "1", "--width", "64", "--context", "160", "--batch", "2")
    example = ROOT / "examples" / "speech_lm.py"
    command = [sys.executable, example, tokens, "--prompt", prompt, "-o", output, *size]
    done = subprocess.run([*command, "--seconds", "0.5"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["steps"] == 25 and report["after"] < report["before"]
    wave, rate = read(output)
    assert rate == 16_000 and len(wave) / rate == report["seconds"]
    assert 1.5 < report["seconds"] <= 2.0  # the prompt, and at most half a second more
