import json

import numpy as np
import pytest

from syllabary.audio.files import write
from syllabary.errors import ManifestError
from syllabary.eval.probes.layouts import LAYOUTS
from syllabary.eval.probes.task import Layout, ProbeTask, utterances_of


def sound(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, np.zeros(160, np.float32), 16000)


def text(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


@pytest.mark.parametrize("name", LAYOUTS)
def test_an_empty_folder_is_told_what_is_expected(tmp_path, name):
    with pytest.raises(ManifestError, match="expected"):
        LAYOUTS[name](tmp_path)


def test_librispeech(tmp_path):
    chapter = tmp_path / "dev-clean" / "84" / "121123"
    sound(chapter / "84-121123-0001.flac")
    sound(chapter / "84-121123-0000.flac")
    text(chapter / "84-121123.trans.txt", "84-121123-0000 GO\n84-121123-0001 DO YOU HEAR\n")
    text(tmp_path / "SPEAKERS.TXT", "; ID | SEX\n84   | F | dev-clean | 8.02 | A | B\n")
    first, second = LAYOUTS["librispeech"](tmp_path)
    assert first.text == "GO" and second.text == "DO YOU HEAR" and first.speaker == "84"
    assert first.split == "dev-clean" and first.extra == {"chapter": "121123", "gender": "f"}
    assert str(second.name) == "dev-clean/84/121123/84-121123-0001.flac" and second.path.is_file()
    assert LAYOUTS["librispeech"](tmp_path / "dev-clean")[0].split is None
    text(chapter / "84-121123.trans.txt", "84-121123-0000 GO\n")
    with pytest.raises(ManifestError, match=r"no text of 84-121123-0001 in 84-121123\.trans"):
        LAYOUTS["librispeech"](tmp_path)
    (chapter / "84-121123.trans.txt").unlink()
    with pytest.raises(ManifestError, match=r"no 84-121123\.trans\.txt"):
        LAYOUTS["librispeech"](tmp_path)


def test_voxceleb(tmp_path):
    sound(tmp_path / "test" / "wav" / "id10270" / "5r0dWxy17C8" / "00001.wav")
    sound(tmp_path / "test" / "wav" / "id10271" / "1gtz-CUIygI" / "00002.wav")
    sound(tmp_path / "test" / "wav" / "noise" / "x" / "00002.wav")
    head = "VoxCeleb1 ID\tVGGFace1 ID\tGender\tNationality\tSet\n"
    text(tmp_path / "vox1_meta.csv", head + "id10270\tA_B\tm\tUSA\ttest\n")
    first, second = LAYOUTS["voxceleb"](tmp_path)
    assert str(first.name) == "id10270/5r0dWxy17C8/00001.wav" and first.split == "test"
    assert first.extra == {"video": "5r0dWxy17C8", "gender": "m", "nation": "usa"}
    assert second.speaker == "id10271" and "gender" not in second.extra
    text(tmp_path / "vox1_meta.csv", head + "id10270\tA_B\n")
    with pytest.raises(ManifestError, match="expected 5 columns"):
        LAYOUTS["voxceleb"](tmp_path)


def test_slurp(tmp_path):
    sound(tmp_path / "audio" / "slurp_real" / "audio-1.flac")
    line = {
        "sentence": "wake me at five",
        "scenario": "alarm",
        "action": "set",
        "recordings": [{"file": "audio-1.flac", "wer": 0.0}],
        "entities": [{"type": "time", "filler": "five"}, {"type": "date"}],
    }
    path = tmp_path / "dataset" / "slurp" / "devel.jsonl"
    text(path, json.dumps(line) + "\n")
    (found,) = LAYOUTS["slurp"](tmp_path)
    assert found.text == "wake me at five" and found.split == "devel"
    assert found.extra["intent"] == "alarm_set" and found.extra["slots"] == "date+time"
    line["recordings"] += [{"file": "audio-2.flac"}]
    text(path, json.dumps(line))
    with pytest.raises(ManifestError, match=r"line 1: no audio-2\.flac in slurp_real"):
        LAYOUTS["slurp"](tmp_path)
    text(path, json.dumps({"sentence": "x"}))
    with pytest.raises(ManifestError, match="line 1: expected an object with sentence"):
        LAYOUTS["slurp"](tmp_path)


def test_iemocap(tmp_path):
    session, dialog = tmp_path / "Session1", "Ses01F_impro01"
    label = "[6.2901 - 8.2357]\tSes01F_impro01_M000\tneu\t[2.5000, 2.5000, 2.5000]\n"
    said = "Ses01F_impro01_M000 [006.2901-008.2357]: Excuse me.\n"
    text(session / "dialog" / "EmoEvaluation" / f"{dialog}.txt", "% [START - END]\n\n" + label)
    text(session / "dialog" / "transcriptions" / f"{dialog}.txt", said)
    with pytest.raises(ManifestError, match="no such file, but"):
        LAYOUTS["iemocap"](tmp_path)
    sound(session / "sentences" / "wav" / dialog / f"{dialog}_M000.wav")
    (found,) = LAYOUTS["iemocap"](tmp_path)
    assert found.extra == {"session": "Session1", "gender": "m", "emotion": "neu"}
    assert found.speaker == "Ses01M" and found.text == "Excuse me."
    (tmp_path / "Session2").mkdir()
    with pytest.raises(ManifestError, match="no EmoEvaluation is there"):
        LAYOUTS["iemocap"](tmp_path)


def test_speech_commands(tmp_path):
    sound(tmp_path / "yes" / "0a7c2a8d_nohash_0.wav")
    sound(tmp_path / "no" / "1b_nohash_1.wav")
    sound(tmp_path / "_background_noise_" / "pink.wav")
    assert [item.split for item in LAYOUTS["speech-commands"](tmp_path)] == [None, None]
    text(tmp_path / "testing_list.txt", "yes/0a7c2a8d_nohash_0.wav\n")
    first, second = LAYOUTS["speech-commands"](tmp_path)
    assert (first.text, first.split, first.speaker) == ("no", "train", "1b")
    assert (second.text, second.split) == ("yes", "test")
    text(tmp_path / "validation_list.txt", "up/2_nohash_0.wav\n")
    with pytest.raises(ManifestError, match=r"no up/2_nohash_0\.wav, which validation_list"):
        LAYOUTS["speech-commands"](tmp_path)


def test_a_task_of_a_layout(tmp_path):
    sound(tmp_path / "yes" / "a_nohash_0.wav")
    data = Layout("speech-commands", str(tmp_path))
    task = ProbeTask("mine", "classification", train={"split": "a"}, test={"split": "b"}, data=data)
    assert [item.text for item in utterances_of(task, list)] == ["yes"]
