"""What was written before still loads and is equal; what is written now is what was meant."""

import dataclasses
import json
from pathlib import Path

import pytest

from syllabary.eval.results.check import load
from syllabary.eval.results.files import (
    Problems,
    ResultError,
    as_bytes,
    parse_result,
    read_result,
    write_result,
)
from syllabary.eval.results.schema import Curve, Value

from ..leaderboard.imagined import SYSTEMS, result

#: By the harness, before `Result` was what it writes.
LAST_VERSION = sorted((Path(__file__).parent / "of_last_version").glob("*.json"))


def assert_holds(new, old, default=None):
    """`new` has all of `old`, and beyond it only fields without content."""
    if isinstance(old, dict):
        assert set(old) <= set(new)
        for name, value in new.items():
            if name in old:
                assert_holds(value, old[name])
            else:
                assert not value, f"{name}: {value}"
    elif isinstance(old, list):
        assert len(new) == len(old)
        for one, other in zip(new, old, strict=True):
            assert_holds(one, other)
    else:
        assert new == old


@pytest.mark.parametrize("path", LAST_VERSION, ids=lambda path: path.stem)
def test_results_of_the_last_version_load_and_are_equal(path, tmp_path):
    loaded = load(path)
    assert loaded.system.name == path.stem
    write_result(tmp_path / "again.json", loaded)
    old, new = (json.loads(one.read_text()) for one in (path, tmp_path / "again.json"))
    assert_holds(new, old)
    assert load(tmp_path / "again.json") == loaded


def test_there_are_results_of_the_last_version_with_everything_in_them():
    assert {path.stem for path in LAST_VERSION} == {"loud", "dmel", "original"}
    loud, dmel, _ = (load(path) for path in LAST_VERSION[1::-1] + LAST_VERSION[2:])
    assert {item.name for item in loud.items if item.error} == {"b/2.wav"}
    assert [item.capped for item in loud.items if item.capped] == [{"share": 90.0}]
    assert loud.items[0].scores["share"] == (4.0, 4.0) and loud.items[1].failures["share"]
    assert loud.clips[0].original == "../originals/00.flac"
    studies = {study.name: study for study in loud.studies}
    assert studies["count"].values[1] == Value("rate", "Rate", 2.5, True, "bit/s", 1, 2.0, 3.0, 4)
    assert studies["count"].curves == (
        Curve("c", "Curve", "share (%)", (0.0, 1.0, 2.0), (3.0, 2.5, 1.0), "dB"),
    )
    assert set(studies["count"].missing) == {"gone", "odd"}
    assert studies["never"].why_not == "it can't" and "IndexError" in studies["broken"].why_not
    assert dmel.system.tokenizer["tokens"]["sample_rate"] == 16000


@pytest.mark.parametrize("system", SYSTEMS[::5], ids=lambda system: system[0])
def test_writing_and_reading_gives_the_same(system, tmp_path):
    one = parse_result(json.dumps(result(*system, items=5)).encode())
    write_result(tmp_path / "result.json", one)
    assert read_result(tmp_path / "result.json") == one
    assert (tmp_path / "result.json").read_bytes().endswith(b"}\n")


def test_a_result_that_can_not_be_written_leaves_the_one_before(tmp_path):
    one = parse_result(json.dumps(result(*SYSTEMS[0], items=5)).encode())
    path = tmp_path / "result.json"
    write_result(path, one)
    for wrong, error in ((float("nan"), ValueError), (object(), TypeError)):
        with pytest.raises(error):
            write_result(path, dataclasses.replace(one, bitrate=wrong))
    assert read_result(path) == one and list(tmp_path.iterdir()) == [path]


def test_bytes_of_names_that_are_no_text():
    assert as_bytes({"name": "caf\udce9 ü"}) == '{"name": "caf? ü"}'.encode()


def test_problems_of_text_and_of_types_are_told_together():
    fields = result(*SYSTEMS[0], items=5)
    fields["system"]["delay"] = "late"
    fields["command"] = "\ud800"
    fields["items"][0]["seconds"] = 10**320
    fields["metrics"][0]["domains"]["all"]["count"] = 1.5
    with pytest.raises(ResultError) as caught:
        parse_result(json.dumps(fields).encode())
    assert sorted(caught.value.problems) == [
        "command: '\\ud800' holds characters that are not text",
        "items[0].seconds: too large a number",
        "metrics[0].domains.all.count must be int, got 1.5",
        "system.delay must be int, got 'late'",
    ]


def test_messages_stay_readable_whatever_is_in_the_file():
    long = "x" * 100_000
    fields = result(*SYSTEMS[0], items=5)
    fields |= {long: 1, "system": [long] * 10}
    fields["data"]["domains"] = {"\u202e" + long: long}
    with pytest.raises(ResultError) as caught:
        parse_result(json.dumps(fields).encode())
    message = str(caught.value)
    assert len(message) < 3000 and "\u202e" not in message and "data.domains.\\u202e" in message


def test_problems_end_where_nobody_reads_on():
    problems = Problems("here")
    problems.raise_any()
    for place in range(50):
        problems.add(f"items[{place}]", "wrong")
    with pytest.raises(ResultError, match=r"^here: not a valid result(\n  items.*){50}\n  … and"):
        problems.add("items[50]", "wrong")
