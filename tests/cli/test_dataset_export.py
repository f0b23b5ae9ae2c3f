"""`syllabary dataset export`: what it writes, its exit codes, and bad input."""

import json

import numpy as np
import pytest

from syllabary.lm import Vocabulary, read_vocabulary, write_dataset, write_tokenizer

from ..lm.conftest import text_tokenizer, token_spec
from ..lm.dataset.made_up import made_up_items


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    spec = token_spec((64, 128))
    folder = tmp_path_factory.mktemp("export") / "set"
    write_dataset(folder, made_up_items(spec, 30), spec)
    return folder, spec


def export(run, folder, to, out, *more):
    return run("dataset", "export", folder, "--to", to, "-o", out, *more)


def test_codes(run, made, tmp_path):
    folder, spec = made
    code, out, err = export(run, folder, "mds", tmp_path / "out", "--split", "train")
    assert code == 0, err
    assert "utterances for mds" in out and "left out" in err and "it has no frames" in err
    fields = json.loads((tmp_path / "out" / "tokens.json").read_text())
    assert fields["tokenizer_digest"] == spec.digest and fields["left_out"]


def test_ids_of_a_tokenizer(run, made, tmp_path):
    """Ids in the file are those of the tokenizer.json, or begin at --first."""
    folder, spec = made
    text_tokenizer("gpt-2").save(str(tmp_path / "base.json"))
    vocabulary = Vocabulary(spec, first=1000)
    write_tokenizer(tmp_path / "base.json", tmp_path / "tokenizer.json", vocabulary)
    assert read_vocabulary(tmp_path / "tokenizer.json", spec) == vocabulary
    markers = ("--begin", "<|speech_start|>", "--end", "<|speech_end|>")
    for name, more in (
        ("a", ("--tokenizer", tmp_path / "tokenizer.json")),
        ("b", ("--first", 1000, "--pattern", "flatten")),
    ):
        code, _, err = export(run, folder, "megatron", tmp_path / name, *more, *markers)
        assert code == 0, err
    data = (tmp_path / "a" / "train.bin").read_bytes()
    assert data == (tmp_path / "b" / "train.bin").read_bytes()
    ids = np.frombuffer(data, "<u2")
    assert ids[0] == vocabulary.marker("<|speech_start|>") and ids.max() < vocabulary.stop


def test_rows(run, made, tmp_path):
    folder, _ = made
    code, _, err = export(
        run, folder, "memmap", tmp_path / "out", "--first", 1000, "--context", 128
    )
    assert code == 0, err
    assert np.load(tmp_path / "out" / "train_input_ids_shape.npy")[1] == 128


@pytest.mark.parametrize(
    ("to", "more", "message"),
    [
        ("mp3", (), "no format 'mp3'; there are: webdataset"),
        ("megatron", (), "give a vocabulary (--first, or --tokenizer)"),
        ("megatron", ("--first", 1, "--tokenizer", "x.json"), "not both"),
        ("megatron", ("--first", 1, "--pattern", "dely"), "did you mean delay?"),
        ("megatron", ("--first", 1, "--pattern", "delay"), "take a pattern of one stream"),
        ("megatron", ("--first", 70_000, "--dtype", "uint16"), "doesn't fit in uint16"),
        ("arrow", ("--begin", "<|speech_start|>"), "arrow keeps codes as they are"),
        ("slamkit", (), "build the data set with --codebooks 1"),
        ("arrow", ("--split", "dev"), "no split 'dev'; it has train, valid"),
    ],
)
def test_bad_input(run, made, tmp_path, to, more, message):
    code, _, err = export(run, made[0], to, tmp_path / "out", *more)
    assert code == 2 and message in " ".join(err.split()) and "Traceback" not in err
    assert not (tmp_path / "out").exists()


def test_no_data_set(run, tmp_path):
    code, _, err = export(run, tmp_path, "arrow", tmp_path / "out")
    assert code == 2 and "no data set" in err
