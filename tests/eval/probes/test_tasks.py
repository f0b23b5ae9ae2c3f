import json
import sys
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syllabary.audio.manifests import Utterance
from syllabary.errors import ConfigError
from syllabary.eval.metrics.interface import MetricError
from syllabary.eval.probes.catalogue import DEFAULT_TASKS, TASKS, parse
from syllabary.eval.probes.sampling import choose
from syllabary.eval.probes.task import PathPart, ProbeTask, SplitBy, label_of, read_task

DIGITS = {
    "name": "my-digits",
    "kind": "classification",
    "label": "text",
    "where": {"source": ["fsdd"]},
    "train": {"split": "train"},
    "test": {"split": "test"},
}


def utterance(number, speaker="a", split="train", text="one", **extra):
    name = f"{text}/{speaker}-{number}.wav"
    return Utterance(Path("/data", name), PurePosixPath(name), 1.0, speaker, text, split, extra)


def many(speakers="abcd", texts=("one", "two"), each=5, split="train"):
    return [
        utterance(number, speaker, split, text, source="fsdd")
        for speaker in speakers
        for text in texts
        for number in range(each)
    ]


def test_a_task_is_one_small_file(tmp_path):
    path = tmp_path / "task.json"
    path.write_text(json.dumps(DIGITS | {"data": "mine.jsonl"}))
    task = read_task(path)
    assert (
        task.label == "text"
        and task.max_seconds == ProbeTask("x", "ctc", split_by=SplitBy()).max_seconds
    )
    assert task.data == str(tmp_path / "mine.jsonl")
    path.write_text(json.dumps(DIGITS | {"label": {"path_part": -2}}))
    task = read_task(path)
    assert task.label == PathPart(-2) and label_of(utterance(1), task.label) == "one"
    path.write_text(json.dumps(DIGITS | {"data": {"layout": "voxceleb", "folder": "vox"}}))
    assert read_task(path).data.folder == str(tmp_path / "vox")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "regression"}, "kind must be one of"),
        ({"nmae": "x"}, "did you mean name"),
        ({"name": "My digits"}, "name must be"),
        ({"test": {"split": "train"}}, "how train and test differ"),
        ({"split_by": {"test_share": 1.5}}, "test_share must lie"),
        ({"data": {"layout": "timit", "folder": "."}}, "layout must be one of"),
        ({"max_train": 0}, "must be positive"),
        ({"trials": "list.txt"}, "of a verification task"),
        ({"kind": "ctc", "heads": "speaker"}, "heads of a ctc task"),
    ],
)
def test_what_is_wrong_with_a_task_is_said(tmp_path, changes, message):
    path = tmp_path / "task.json"
    path.write_text(json.dumps(DIGITS | changes))
    with pytest.raises(ConfigError, match=message) as error:
        read_task(path)
    assert str(path) in str(error.value)
    with pytest.raises(ConfigError, match=r"nowhere\.json"):
        read_task(tmp_path / "nowhere.json")


@pytest.mark.parametrize("task", TASKS.values(), ids=str)
def test_bundled_tasks_survive_json(tmp_path, task):
    path = tmp_path / "task.json"
    path.write_text(json.dumps(task.to_json()))
    assert read_task(path) == task


def test_what_the_command_line_names(tmp_path, monkeypatch):
    assert tuple(task.name for task in parse("default")) == DEFAULT_TASKS
    assert parse("none") == () and parse("digits, digits") == (TASKS["digits"],)
    path = tmp_path / "task.json"
    path.write_text(json.dumps(DIGITS))
    assert [task.name for task in parse(f"digits,{path}")] == ["digits", "my-digits"]
    for text, message in (
        ("digit", "no probe 'digit', did you mean digits"),
        ("", "no probe named"),
    ):
        with pytest.raises(ConfigError, match=message):
            parse(text)
    path.write_text(json.dumps(DIGITS | {"name": "digits"}))
    with pytest.raises(ConfigError, match="two different probes"):
        parse(f"digits,{path}")
    # A package elsewhere.
    (tmp_path / "elsewhere.py").write_text(
        "from syllabary.eval.probes.task import SplitBy, ProbeTask\n"
        "moods = ProbeTask('moods', 'classification', label='mood', split_by=SplitBy('speaker'))\n"
    )
    info = tmp_path / "elsewhere-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[syllabary.tasks]\nmoods = elsewhere:moods\n")
    monkeypatch.syspath_prepend(tmp_path)
    (task,) = parse("moods")
    assert task.label == "mood" and task in parse("all") and task not in parse("default")
    sys.modules.pop("elsewhere")


def names(examples):
    return [example.name for example in examples]


@given(st.randoms(use_true_random=False))
@settings(max_examples=20, deadline=None)
def test_the_choice_does_not_depend_on_the_order(random):
    task = ProbeTask(
        "t", "classification", split_by=SplitBy("utterance", 0.4), max_train=13, keep={"speaker": 3}
    )
    items = many()
    parts = choose(task, items)
    random.shuffle(items)
    assert choose(task, items) == parts
    assert not set(names(parts.train)) & set(names(parts.test))
    # Labels take turns, and each has its share of the test.
    labels = [example.label for example in parts.train]
    assert abs(labels.count("one") - labels.count("two")) <= 1 and len(labels) == 13
    assert len({example.utterance.speaker for example in parts.train}) == 3
    assert [example.label for example in parts.test].count("one") == 8


def test_labels_that_were_not_learned_are_counted():
    task = ProbeTask("t", "classification", train={"split": "train"}, test={"split": "test"})
    items = many() + many(texts=("one", "three"), each=2, split="test", speakers="ef")
    parts = choose(task, items)
    assert [example.label for example in parts.test] == ["one"] * 4
    assert parts.untaught == 4
    assert choose(task, many() + many(each=2, split="test", speakers="ef")).untaught == 0


def test_a_split_by_speaker_shares_none():
    parts = choose(ProbeTask("t", "classification", split_by=SplitBy("speaker", 0.5)), many())
    speakers = [{e.utterance.speaker for e in part} for part in (parts.train, parts.test)]
    assert not speakers[0] & speakers[1] and speakers[0] | speakers[1] == set("abcd")


def test_parts_by_fields_and_what_is_missing():
    task = ProbeTask("t", "classification", where={"source": "fsdd"}, train={"split": "train"},
                test={"split": ["valid", "test"]})  # fmt: skip
    items = many() + many("e", split="valid") + many("f", split="test")
    items.append(utterance(1, "g", "test", "three", source="fsdd"))  # a class never trained on
    items.append(utterance(1, "h", "test", "one", source="other"))
    parts = choose(task, items)
    assert {e.utterance.speaker for e in parts.test} == {"e", "f"} and len(parts.train) == 40
    for changed, message in (
        (replace(task, where={"source": "nowhere"}), "0 utterances to train on"),
        (replace(task, label="mood"), "0 utterances to train on.*label 'mood'"),
        (replace(task, label="source"), "has the label 'fsdd'"),
        (replace(task, test={"source": "fsdd"}), "of both train and test"),
        (replace(task, where={}), None),
    ):
        if message is None:
            choose(changed, items)
        else:
            with pytest.raises(MetricError, match=message):
                choose(changed, items)
    with pytest.raises(MetricError, match="one name"):
        choose(task, items + items[:1])


def test_verification_is_of_other_speakers(tmp_path):
    items = many("abc") + many("de", split="test", each=3)
    trials = tmp_path / "trials.txt"
    task = ProbeTask("t", "verification", label="speaker", train={"split": "train"},
                test={"split": "test"}, heads="speaker")  # fmt: skip
    parts = choose(task, items)
    assert len(parts.test) == 12 and parts.trials is None
    lines = ["1 one/d-0.wav two/d-1.wav", "0 one/d-0.wav one/e-2.wav", "0 one/d-2.wav two/e-1.wav"]
    trials.write_text("\n".join(lines))
    task = replace(task, trials=str(trials))
    parts = choose(task, items)
    assert len(parts.test) == 5 and parts.trials[0] == ("one/d-0.wav", "two/d-1.wav", True)
    trials.write_text("1 one/d-0.wav one/a-0.wav")
    with pytest.raises(MetricError, match=r"line 1: no test utterance 'one/a-0\.wav'"):
        choose(task, items)
    trials.write_text("same d e")
    with pytest.raises(MetricError, match="line 1: expected"):
        choose(task, items)
    with pytest.raises(MetricError, match="were trained on"):
        choose(replace(task, trials=None, split_by=SplitBy(), train={}, test={}), items)


def test_long_speech_has_no_part_in_recognition():
    items = [replace(item, text=f"Text {n}!") for n, item in enumerate(many())]
    items = [
        replace(item, duration_s=1.0 + n % 2, name=PurePosixPath(str(n)))
        for n, item in enumerate(items)
    ]
    task = ProbeTask("t", "ctc", split_by=SplitBy(), max_seconds=1.5)
    parts = choose(task, items)
    assert len(parts.train) == 16 and len(parts.test) == 4
    assert all(e.utterance.duration_s == 1.0 for e in parts.train + parts.test)
    assert parts.train[0].label.startswith("text ")
