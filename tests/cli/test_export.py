"""`syllabary export`: sizes, names, and what it refuses."""

import pytest

import syllabary
from syllabary.codecs.checkpoint import WEIGHTS_FILE

from .. import tiny_codecs


@pytest.fixture
def whole(tmp_path):
    tiny_codecs.rvq(name="mine").save_pretrained(tmp_path / "whole")
    return tmp_path / "whole"


def test_sizes_and_names(run, whole, tmp_path):
    code, out, _ = run("export", whole, "-o", tmp_path / "16", "--name", "a", "--license", "MIT")
    assert code == 0 and "MB" in out
    spec = syllabary.load(tmp_path / "16").spec
    assert (spec.tokens.tokenizer, spec.license) == ("a", "MIT")
    assert run("export", whole, "-o", tmp_path / "8", "--bits", "8")[0] == 0
    sizes = [(place / WEIGHTS_FILE).stat().st_size for place in (tmp_path / "8", tmp_path / "16")]
    assert sizes[0] < sizes[1] < 0.6 * (whole / WEIGHTS_FILE).stat().st_size


def test_a_checkpoint_is_not_replaced_unasked(run, whole, tmp_path):
    assert run("export", whole, "-o", tmp_path / "a")[0] == 0
    before = (tmp_path / "a" / WEIGHTS_FILE).read_bytes()
    code, _, err = run("export", whole, "-o", tmp_path / "a", "--bits", "8")
    assert code == 2 and "--force" in err
    assert (tmp_path / "a" / WEIGHTS_FILE).read_bytes() == before
    assert run("export", whole, "-o", tmp_path / "a", "--bits", "8", "--force")[0] == 0
    assert (tmp_path / "a" / WEIGHTS_FILE).read_bytes() != before


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--bits", "4"], "'4' is not one of '16', '8'"),
        (["--onnx", "--bits", "8"], "not for --onnx"),
        (["--onnx", "--name", "a"], "not for --onnx"),
    ],
)
def test_bad_options(run, whole, tmp_path, more, message):
    code, _, err = run("export", whole, "-o", tmp_path / "a", *more)
    assert code == 2 and message in err and not (tmp_path / "a").exists()


def test_without_output(run, whole):
    code, _, err = run("export", whole)
    assert code == 2 and "--output is required" in err
