"""`syllabary train`."""

import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile

import syllabary
from syllabary.cli.train import Duration
from syllabary.training import recipe_registry as recipes
from syllabary.training.fine_tuning import fine_tuning

from ..conftest import synthetic_speech
from ..training.loop import tiny


@pytest.fixture
def corpus(tmp_path):
    return tiny.write_corpus(tmp_path / "corpus")


def test_a_run_in_two_sittings(run, corpus, tmp_path):
    where = (f"data.manifest={corpus}", "steps=4", "schedule.decay=constant", "-o", tmp_path / "x")
    where += ("--device", "cpu", "--cache", tmp_path / "cache")
    code, out, err = run("train", "tiny", *where, "--time-budget", "0.001s")
    assert code == 0 and "time is up: stopped at step 1 of 4" in out
    assert "2,174 parameters, 1 rank on cpu" in err
    code, out, err = run("train", "--recipe", "tiny", *where)
    assert code == 0 and "going on from step 1" in err and "mel" in err
    assert f"done: 4 steps in {tmp_path / 'x'}; best mel" in out
    # A recipe that a run left is a recipe.
    code, out, _ = run("train", tmp_path / "x" / "recipe.json", "--show", "steps=9")
    assert code == 0 and json.loads(out)["recipe"]["steps"] == 9
    code, _, err = run("train", "tiny", "mel_weight=3", *where)
    assert code == 2 and "mel_weight: 1.0 there, 3.0 now" in err


def test_bad_arguments(run, corpus, tmp_path, monkeypatch):
    code, _, err = run("train")
    assert code == 2 and "no RECIPE" in err
    code, _, err = run("train", "rvq-99k")
    assert code == 2 and "no recipe 'rvq-99k'" in err
    code, _, err = run("train", "tiny", "model.widht=3")
    assert code == 2 and "did you mean model.width (int)?" in err
    code, _, err = run("train", "tiny", "--time-budget", "soon")
    assert code == 2 and "90s, 9m or 1.5h" in err
    monkeypatch.delenv("SYLLABARY_SPEECH", raising=False)
    code, _, err = run("train", "tiny", "-o", tmp_path / "y", "--device", "cpu")
    assert code == 2 and "$SYLLABARY_SPEECH" in err


def test_list(run):
    code, out, _ = run("train", "--list")
    names = [line.split()[0] for line in out.splitlines()]
    assert code == 0 and names == list(recipes.RECIPES)
    assert "rvq-small" in names and recipes.DESCRIPTIONS.keys() == set(names) - {"tiny"}


def test_a_folder_without_a_manifest_and_with_stereo_files(run, tmp_path):
    """Speakers are folders, none is in both parts; several channels are averaged."""
    for index in range(8):
        wave = synthetic_speech(8000 + 160 * index, index)
        path = tmp_path / "wavs" / f"s{index % 4}" / f"{index}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.stack([wave, wave], 1), 16000, subtype="PCM_16")
    folder = tmp_path / "run"
    more = ("--device", "cpu", "--cache", tmp_path / "cache", "data.max_share=0.5")
    code, _, err = run("train", "tiny", "steps=2", "--data", tmp_path / "wavs", "-o", folder, *more)
    assert code == 0, err
    assert "no splits: 6 files for training, 2 for validation, by speakers (3 and 1)" in err
    assert syllabary.load(folder).name == "run"


def test_fine_tuning(run, tmp_path, corpus):
    code, out, _ = run("train", "--from", "rvq-16k", "steps=7", "--show")
    recipe = json.loads(out)["recipe"]
    assert code == 0 and recipe["start_from"] == "rvq-16k" and recipe["steps"] == 7
    assert recipe["quantize_from"] == 0 and recipe["supervision"]["own_pitch_from"] == 0
    assert (
        recipe["optimizer"]["lr"]
        < json.loads(run("train", "rvq-16k", "--show")[1])["recipe"]["optimizer"]["lr"]
    )
    for name in ("rvq-16k", "rvq-16k-semantic", "ts3-16k", "ts3-16k-40hz", "fsq-16k"):
        assert fine_tuning(name).model == syllabary.load(name).config
    # Its own layers, also with a recipe that has fewer, and from the folder of an average.
    for recipe in ("rvq-16k", "rvq-small"):
        assert fine_tuning("rvq-16k", recipe).model == syllabary.load("rvq-16k").config
    code, _, err = run("average", "rvq-16k", "rvq-16k", "-o", tmp_path / "average")
    assert code == 0, err
    saved = str(tmp_path / "average")
    assert fine_tuning(saved, "rvq-16k").model == syllabary.load("rvq-16k").config
    code, _, err = run("train", "--from", saved, "--show")
    assert code == 2 and "give the recipe too" in err
    code, _, err = run("train", "--from", "fsq-16k", "rvq-16k", "--show")
    assert code == 2 and "fsq-16k, of family fsq, is no model of recipe rvq-16k" in err
    # Fewer layers than the saved ones are named in a line.
    fields = ("start_from=rvq-16k", "quantize_from=0", f"data.manifest={corpus}")
    code, _, err = run("train", "rvq-16k", *fields, "-o", tmp_path / "less", "--device", "cpu")
    assert code == 2 and "do not fit: Unexpected key(s)" in err and "--from CODEC" in err
    assert len(err.splitlines()[-1]) < 300
    # A recipe by whose name nothing is bundled is that of a run of one's own.
    assert run("train", "--from", "rvq-small", "--show")[0] == 0
    code, _, err = run("train", "--from", "mimi", "--show")
    assert code == 2 and "no recipe of 'mimi' is known" in err
    place = str(tmp_path / "tuned")
    code, _, err = run("train", "--from", "rvq-16k-semantic", "--data", str(corpus), "-o", place)
    assert code == 2 and "runs/phonetic-whisper: no such folder" in err
    code, _, err = run("train", "dmel-vocoder", "--from", "dmel", "--show")
    assert code == 2 and "can't be fine-tuned" in err


def test_help_and_list_load_no_torch():
    for option in ("--help", "--list"):
        code = (
            "import sys; from syllabary.cli.main import main\n"
            f"try: main(['train', '{option}'])\n"
            "except SystemExit as ended: assert ended.code == 0\n"
            "assert 'torch' not in sys.modules"
        )
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("9m", 540), ("1.5h", 5400)]
)
def test_times(text, seconds):
    assert Duration().convert(text, None, None) == seconds
