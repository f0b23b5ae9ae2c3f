"""`syllabary dataset`: what it prints, its exit codes, and bad input."""

import json

import pytest

from syllabary.lm.dataset import open_dataset

CODEC = ("--codec", "dmel-narrow")


@pytest.fixture
def made(run, tree, tmp_path):
    code, _, err = run("dataset", "build", tree, "-o", tmp_path / "set", *CODEC, "--workers", 1)
    assert code == 0, err
    return tmp_path / "set"


def test_the_journey(run, tree, tmp_path, made):
    code, out, err = run("dataset", "plan", tree, *CODEC, "--share", 1, "--json")
    assert code == 0, err
    planned = json.loads(out)
    found = open_dataset(made)
    assert planned["planned"] == planned["sampled"] == len(found) == 12
    assert planned["frames"] == found.num_frames and planned["splits"] == {"test": 6, "train": 6}
    code, out, _ = run("dataset", "plan", tree, *CODEC, "--workers", 3)
    assert code == 0 and "3 workers" in out and "core-hours" in out
    code, out, _ = run("dataset", "build", tree, "-o", made, *CODEC, "--workers", 1)
    assert code == 0 and "was finished already" in out and found.digest in out
    code, out, _ = run("dataset", "info", made)
    assert code == 0 and found.digest in out and "test 6, train 6" in out
    code, out, _ = run("dataset", "info", made, "--json")
    assert json.loads(out)["digest"] == found.digest
    code, out, _ = run("dataset", "verify", made, tree, "--sample", 5)
    assert code == 0 and "5 items were encoded again" in out and "all as it was written" in out


def test_something_wrong(run, tree, tmp_path, made):
    path = made / open_dataset(made).shards[0].name
    held = bytearray(path.read_bytes())
    held[len(held) // 2] ^= 1
    path.write_bytes(held)
    code, _, err = run("dataset", "verify", made)
    assert code == 1 and "its bytes are not those that were written" in err
    (tree / "s0" / "0.wav").write_bytes(b"no sound")
    options = ("--min-duration", "0.1", "--json", "--workers", 1)
    code, out, err = run("dataset", "build", tree, "-o", tmp_path / "new", *CODEC, *options)
    report = json.loads(out)
    # The tree's files have 3000 samples and 500 more each.
    assert code == 1 and report["failures"] == 1 and report["items"] == 11
    assert report["drops"] == {}
    assert run("dataset", "build", tree, "-o", tmp_path / "new", *CODEC, *options)[0] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("build", "TREE"), "say -o FOLDER"),
        (("build", "TREE", "-o", "OUT", "--codec", "none"), "no tokenizer 'none'"),
        (("build", "nowhere", "-o", "OUT", *CODEC), "no such file or folder"),
        (("build", "TREE", "-o", "TREE", *CODEC), "not empty, and no data set"),
        (("build", "TREE", "-o", "OUT", *CODEC, "--codebooks", "3"), "codebooks"),
        (("build", "TREE", "-o", "OUT", *CODEC, "--bpe", "none"), "no byte-pair encoding"),
        (("build", "TREE", "-o", "OUT", *CODEC, "--splits", "a=2"), "shares be within 0 and 1"),
        (("build", "TREE", "-o", "OUT", *CODEC, "--split", "dev"), "it has test, train"),
        (("build", "TREE", "-o", "OUT", *CODEC, "--words", "none"), "no such file or folder of"),
        (("build", "TREE", "-o", "OUT", *CODEC, "--aligner", "x"), "expected pocketsphinx or"),
        (("build", "TREE", "-o", "OUT", *CODEC, "--text-tokenizer", "x"), "no such tokenizer.json"),
        (("build", "TREE", "-o", "OUT", *CODEC, "--address", "auto"), "is for --engine ray"),
        (
            ("build", "TREE", "-o", "OUT", *CODEC, "--min-duration", "3", "--max-duration", "2"),
            "min_duration 3 exceeds max_duration 2",
        ),
        (("plan", "nowhere", *CODEC), "no such file or folder"),
        (("verify", "TREE"), "no data set: there is no dataset.json"),
        (("info", "TREE"), "no data set: there is no dataset.json"),
    ],
)
def test_bad_input(run, tree, tmp_path, arguments, message):
    places = {"TREE": tree, "OUT": tmp_path / "out"}
    code, _, err = run("dataset", *(places.get(argument, argument) for argument in arguments))
    assert code == 2 and message in err and "Traceback" not in err
    assert not (tmp_path / "out" / "dataset.json").exists()
