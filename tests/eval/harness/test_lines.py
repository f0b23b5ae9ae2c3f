import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syllabary.errors import SyllabaryError
from syllabary.eval.harness.lines import ResultLines

LINES = [{"item": "a", "value": 1.5}, {"item": "ü\u2028b", "value": [1, 2]}, {"study": "x"}]


@given(cut=st.integers(0, 200))
def test_whatever_is_torn_off_the_rest_is_whole(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("lines") / "deep" / "lines.jsonl"
    with ResultLines(path) as lines:
        for line in LINES:
            lines.add(line)
    content = path.read_bytes()
    kept = content[: max(0, len(content) - cut)]
    path.write_bytes(kept)
    with ResultLines(path) as lines:
        assert lines.lines == LINES[: kept.count(b"\n")]
        lines.add({"item": "new"})
    whole = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert whole == [*LINES[: kept.count(b"\n")], {"item": "new"}]


def test_a_whole_line_that_is_no_result_is_named(tmp_path):
    path = tmp_path / "lines.jsonl"
    path.write_text('{"item": "a"}\nnonsense\n')
    with pytest.raises(SyllabaryError, match="line 2"):
        ResultLines(path)
    assert path.read_text() == '{"item": "a"}\nnonsense\n'


def test_names_that_are_not_text_do_not_stop_anything(tmp_path):
    with ResultLines(tmp_path / "lines.jsonl") as lines:
        lines.add({"error": "\udcff.wav: no such file"})
    with ResultLines(tmp_path / "lines.jsonl") as lines:
        assert lines.lines == [{"error": "?.wav: no such file"}]


def test_nan_is_no_result(tmp_path):
    with ResultLines(tmp_path / "lines.jsonl") as lines, pytest.raises(ValueError):
        lines.add({"value": float("nan")})
    assert not (tmp_path / "lines.jsonl").read_bytes()
