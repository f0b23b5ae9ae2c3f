"""`syllabary convert`: the same units in another voice."""

import numpy as np
import pytest
import soundfile

from syllabary.audio.files import read, write

from .. import tiny_codecs
from ..conftest import synthetic_speech


@pytest.fixture(scope="module")
def codec(tmp_path_factory):
    folder = tmp_path_factory.mktemp("codec")
    tiny_codecs.content_units("small").save_pretrained(folder)
    return folder


@pytest.fixture
def voice(tmp_path):
    write(tmp_path / "voice.wav", synthetic_speech(12_000, 7), 16000)
    return tmp_path / "voice.wav"


def test_a_file_is_spoken_in_the_voice(run, tmp_path, codec, voice):
    wave = synthetic_speech(9_013, 1)
    write(tmp_path / "a.wav", wave, 16000)
    code, _, err = run("convert", tmp_path / "a.wav", "--voice", voice, "--codec", codec)
    assert code == 0, err
    units = tiny_codecs.content_units("small")
    heard, other = read(tmp_path / "a.wav")[0], read(voice)[0]
    expected = units.with_voice(other, 16000).decode(units.encode(heard, 16000))[0].numpy()
    said = read(tmp_path / "a.converted.wav")[0]
    assert said.shape == (9_013,)
    assert abs(said - expected).max() < 1e-4
    code, _, err = run("convert", tmp_path / "a.wav", "--voice", voice, "--codec", codec)
    assert code == 2 and "--force" in err


def test_a_channel_of_the_speech_is_not_one_of_the_voice(run, tmp_path, codec, voice):
    both = [synthetic_speech(9_000, seed) for seed in (1, 2)]
    soundfile.write(tmp_path / "a.wav", np.stack(both, 1), 16000)
    soundfile.write(tmp_path / "right.wav", both[1], 16000)
    for name, channel in (("a", ("--channels", 1)), ("right", ())):
        code, _, err = run(
            "convert", tmp_path / f"{name}.wav", "--voice", voice, "--codec", codec, *channel
        )
        assert code == 0, err
    one, other = (read(tmp_path / f"{name}.converted.wav")[0] for name in ("a", "right"))
    assert np.array_equal(one, other)


def test_a_folder_keeps_its_tree_and_resampling_is_said(run, tmp_path, codec, voice):
    folder = tmp_path / "speech"
    for name in ("x/a.wav", "y/b.wav"):
        (folder / name).parent.mkdir(parents=True)
        soundfile.write(folder / name, synthetic_speech(22_050, 2, 22_050), 22_050)
    code, out, err = run(
        "convert", folder, "-o", tmp_path / "out", "--voice", voice, "--codec", codec
    )
    assert code == 0, err
    assert "resampled from 22050 Hz" in out + err
    found = sorted(path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*.wav"))
    assert [str(path) for path in found] == ["x/a.wav", "y/b.wav"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a.wav", "--codec", "dmel"), "expected a unit tokenizer"),
        (("a.wav", "-o", "-"), "not pipes"),
        (("-",), "not pipes"),
        (("nothing.wav",), "nothing.wav"),
    ],
)
def test_bad_input(run, tmp_path, codec, voice, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    write("a.wav", synthetic_speech(3_000, 1), 16000)
    if "--codec" not in arguments:
        arguments = (*arguments, "--codec", codec)
    code, _, err = run("convert", *arguments, "--voice", voice)
    assert code == 2 and message in err and "Traceback" not in err
