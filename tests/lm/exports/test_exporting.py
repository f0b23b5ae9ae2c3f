"""Whole or not at all, with the digest, and what is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syllabary import lm
from syllabary.errors import DatasetError, TokenMismatchError, VocabularyError
from syllabary.lm import EXPORTS, export
from syllabary.lm.dataset import Item, write_dataset
from syllabary.lm.exports.webdataset import key_of

from ..conftest import token_spec


@pytest.mark.parametrize("to", ["webdataset", "mds", "arrow", "lhotse", "megatron", "memmap"])
def test_every_export_says_whose_tokens_it_has(several, vocabulary, tmp_path, to):
    export(several.folder, to, tmp_path / "a", vocabulary=vocabulary)
    fields = json.loads((tmp_path / "a" / "tokens.json").read_text())
    assert fields["tokenizer_digest"] == several.spec.digest and fields["export"] == to
    assert fields["digest"] == several.data.digest
    assert lm.Vocabulary.from_json(fields["vocabulary"]) == vocabulary
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    export(several.data, to, tmp_path / "b", vocabulary=vocabulary)
    for path in (tmp_path / "a").rglob("*"):
        if path.is_file():
            twin = tmp_path / "b" / path.relative_to(tmp_path / "a")
            assert path.read_bytes() == twin.read_bytes(), path.name


@pytest.mark.parametrize("to", EXPORTS)
def test_another_tokenizers_vocabulary_is_refused(several, tmp_path, to):
    other = lm.Vocabulary(replace(several.spec, digest="cd" * 32), first=1000)
    with pytest.raises(TokenMismatchError, match=r"cdcdcdcdcdcd.*abababababab"):
        export(several.folder, to, tmp_path / "out", vocabulary=other)
    assert not list(tmp_path.iterdir())


def test_only_one_split(several, tmp_path):
    made = export(several.folder, "webdataset", tmp_path / "out", split="valid")
    assert made.items == len(several.of("valid", False))
    assert {p.name for p in made.folder.iterdir()} == {"tokens.json", "valid-000000.tar"}


def test_nothing_is_overwritten(several, tmp_path):
    (tmp_path / "out").mkdir()
    export(several.folder, "arrow", tmp_path / "out")
    before = sorted((tmp_path / "out").rglob("*"))
    with pytest.raises(DatasetError, match="not an empty folder"):
        export(several.folder, "webdataset", tmp_path / "out")
    assert sorted((tmp_path / "out").rglob("*")) == before


def test_ids_that_do_not_fit(several, tmp_path):
    """70,000 would be 4,464 in uint16."""
    far = lm.Vocabulary(several.spec, first=70_000)
    with pytest.raises(DatasetError, match=r"id 700\d\d doesn't fit in uint16.*wider dtype"):
        export(several.folder, "megatron", tmp_path / "out", vocabulary=far, dtype="uint16")
    assert not list(tmp_path.iterdir())
    export(several.folder, "megatron", tmp_path / "out", vocabulary=far)
    assert (tmp_path / "out" / "train.idx").read_bytes()[17] == 4  # int32


@pytest.mark.parametrize(
    ("to", "settings", "message"),
    [
        ("webdatset", {}, "did you mean webdataset"),
        ("parquet", {}, "there are: webdataset, megatron"),
        ("mds", {"begin": 1}, "mds keeps codes as they are: begin is of the formats of ids"),
        ("megatron", {}, "has 3 codebooks, whose codes need ids of their own"),
        ("memmap", {}, "has 3 codebooks, whose codes need ids of their own"),
        ("megatron", {"dtype": "int7"}, "Megatron has uint8"),
        ("memmap", {"dtype": "uint16"}, "int32"),
        ("slamkit", {}, "slamkit's files have one"),
        ("moshi", {}, "no times of words"),
        ("arrow", {"shard_bytes": 0}, "shard_bytes must be 1"),
        ("arrow", {"split": "test"}, "no split 'test'"),
    ],
)
def test_refused(several, vocabulary, tmp_path, to, settings, message):
    if "dtype" in settings:
        settings = settings | {"vocabulary": vocabulary}
    with pytest.raises(ValueError, match=message):
        export(several.folder, to, tmp_path / "out", **settings)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("to", ["megatron", "memmap"])
def test_parallel_streams_are_refused(several, vocabulary, tmp_path, to):
    delay = lm.pattern("delay", several.spec.codebook_sizes)
    with pytest.raises(VocabularyError, match=r"3 streams.*such as flatten"):
        export(several.folder, to, tmp_path / "out", vocabulary=vocabulary, pattern=delay)


def test_text_that_is_missing(several, vocabulary, tmp_path):
    scheme = lm.TextThenSpeech(vocabulary.speech)
    silent = [replace(item, text=None, text_ids=None) for item in lm.open_dataset(several.folder)]
    write_dataset(tmp_path / "silent", silent, several.spec)
    with pytest.raises(DatasetError, match=r"item .* has no text.*transcripts"):
        export(
            tmp_path / "silent", "megatron", tmp_path / "out", vocabulary=vocabulary, scheme=scheme
        )
    assert not (tmp_path / "out").exists()
    # Also where the last item has no frames, and is left out for that.
    none = silent[0].codes[:, :0]
    write_dataset(
        tmp_path / "last", [*silent, replace(silent[0], id="z", codes=none, num_samples=0)],
        several.spec,
    )  # fmt: skip
    for read in (
        lambda: export(
            tmp_path / "last", "megatron", tmp_path / "out", vocabulary=vocabulary, scheme=scheme
        ),
        lambda: lm.reader(tmp_path / "last", None, vocabulary, scheme=scheme),
    ):
        with pytest.raises(DatasetError, match=r"item .* has no text.*transcripts"):
            read()


def test_text_that_some_items_lack(units, tmp_path):
    items = [
        replace(item, text=None if n == 2 else "a", text_ids=None if n == 2 else (1, 2))
        for n, item in enumerate(units.of("train"))
    ]
    write_dataset(tmp_path / "set", items, units.spec)
    vocabulary = lm.Vocabulary(units.spec, first=10)
    scheme = lm.TextThenSpeech(vocabulary.speech)
    export(tmp_path / "set", "megatron", tmp_path / "out", vocabulary=vocabulary, scheme=scheme)
    left_out = json.loads((tmp_path / "out" / "tokens.json").read_text())["left_out"]
    assert "has no text" in left_out[items[2].id]
    empty = {item.id for item in items if not item.frames}
    assert set(left_out) == {items[2].id} | empty


def test_a_source_outside_the_folder(units, tmp_path):
    item = replace(units.of("train")[0], source="../elsewhere.wav", split="train")
    write_dataset(tmp_path / "set", [item], units.spec)
    with pytest.raises(DatasetError, match="must be a relative path"):
        export(tmp_path / "set", "moshi", tmp_path / "out")
    assert not (tmp_path / "elsewhere.json").exists()


def test_a_damaged_shard(several, tmp_path):
    import shutil

    shutil.copytree(several.folder, tmp_path / "set")
    path = next((tmp_path / "set" / "data").glob("train*"))
    raw = bytearray(path.read_bytes())
    raw[4:2000] = bytes(1996)
    path.write_bytes(raw)
    with pytest.raises(DatasetError, match=r"train-0000\d.*can't be read"):
        export(tmp_path / "set", "webdataset", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@given(st.lists(st.text(min_size=1, max_size=12), min_size=2, max_size=2, unique=True))
def test_keys_differ_and_have_no_dots(names):
    first, second = map(key_of, names)
    assert first != second
    for key in (first, second):
        assert "." not in key and all(key.split("/")) and not key.startswith("__")


def test_ids_with_dots(tmp_path):
    wds = pytest.importorskip("webdataset")
    spec = token_spec((64,))
    names = ["utt.1.take", "utt.2", "../x", "__a__/b", "A/b"]
    items = [Item(name, np.array([[n]], np.uint16), spec.hop) for n, name in enumerate(names)]
    write_dataset(tmp_path / "set", items, spec)
    export(tmp_path / "set", "webdataset", tmp_path / "out")
    (path,) = (tmp_path / "out").glob("*.tar")
    found = list(wds.WebDataset(str(path), shardshuffle=False).decode())
    assert [sample["json"]["id"] for sample in found] == names
    assert [sample["codes.npy"].item() for sample in found] == [0, 1, 2, 3, 4]
