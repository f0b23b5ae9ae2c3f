import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syllabary.bpe import UnitBPE
from syllabary.bpe.huggingface_file import read_tokenizer, write_tokenizer
from syllabary.bpe.sentencepiece_file import read_model, write_model
from syllabary.errors import BPEError

from .vocabularies import vocabularies


@settings(max_examples=60, deadline=None)
@given(vocabularies())
def test_both_formats_hold_all_of_it(vocabulary):
    for again in (
        read_model(write_model(vocabulary)),
        read_tokenizer(write_tokenizer(vocabulary).encode()),
    ):
        assert again.digest == vocabulary.digest
        assert (again.kind, again.num_units) == (vocabulary.kind, vocabulary.num_units)


def test_a_folder_holds_all_of_it(bpe, tmp_path, sequences):
    durations = np.linspace(1, 7, bpe.num_units).round(3)
    full = replace(
        bpe,
        name="my-bpe",
        codebook_sizes=(20, 41),
        source="abc",
        deduplicated=True,
        unit_durations=durations,
    )
    full.save(tmp_path / "a" / "b")
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == [
        "bpe.json",
        "bpe.model",
        "tokenizer.json",
    ]
    again = UnitBPE.load(tmp_path / "a" / "b")
    for field in ("name", "codebook_sizes", "source", "deduplicated", "digest", "kind"):
        assert getattr(again, field) == getattr(full, field)
    assert np.array_equal(again.unit_durations, durations)
    assert np.array_equal(again.encode(sequences[0]), bpe.encode(sequences[0]))
    for name in ("bpe.model", "tokenizer.json"):
        single = UnitBPE.load(tmp_path / "a" / "b" / name)
        assert single.digest == bpe.digest and single.codebook_sizes == (bpe.num_units,)
    bpe.save(tmp_path / "x.model")
    assert (tmp_path / "x.model").read_bytes() == write_model(bpe.vocabulary)


def test_the_digest_tells_apart(bpe):
    from syllabary.bpe.vocabulary import Vocabulary

    pieces = [np.array([0, 1]), np.array([1, 0])]
    scores = np.array([-9, -8, -7, -6], np.int64)
    made = [
        Vocabulary.of_pieces("bpe", 2, pieces),
        Vocabulary.of_pieces("bpe", 2, pieces[::-1]),
        Vocabulary.of_pieces("bpe", 2, pieces[:1]),
        Vocabulary.of_pieces("bpe", 3, pieces),
        Vocabulary.of_pieces("bpe", 2, pieces, None, ("<s>",)),
        Vocabulary.of_pieces("unigram", 2, pieces, scores),
        Vocabulary.of_pieces("unigram", 2, pieces, scores - 1),
    ]
    assert len({vocabulary.digest for vocabulary in made}) == len(made)


@pytest.fixture
def folder(bpe, tmp_path):
    bpe.save(tmp_path / "bpe")
    return tmp_path / "bpe"


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_damaged_models_are_named_errors(data):
    """A byte changed or the end cut off: an error, or a model with another digest."""
    vocabulary = data.draw(vocabularies())
    whole = write_model(vocabulary)
    damaged = bytearray(whole)
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(whole) - 1))
        damaged[at] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del damaged[data.draw(st.integers(0, len(whole) - 1)) :]
    try:
        read_model(bytes(damaged), "x.model")
    except BPEError as error:
        assert str(error).startswith("x.model: ")


@settings(max_examples=50, deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=6))
def test_json_of_any_other_shape_is_a_named_error(value):
    good = json.loads(write_tokenizer(read_model(MODEL)))
    for path in (["model"], ["model", "vocab"], ["model", "merges"], ["added_tokens"], []):
        parts = json.loads(json.dumps(good))
        place = parts
        for key in path[:-1]:
            place = place[key]
        if path:
            if place[path[-1]] == value:
                continue
            place[path[-1]] = value
        else:
            parts = value
        with pytest.raises(BPEError, match=r"^x\.json: "):
            read_tokenizer(json.dumps(parts).encode(), "x.json")


def _model():
    from syllabary.bpe.vocabulary import Vocabulary

    pieces = [np.array([0, 1]), np.array([0, 1, 0])]
    return write_model(Vocabulary.of_pieces("bpe", 2, pieces))


MODEL = _model()


def test_a_tokenizer_that_would_give_other_ids(folder, bpe):
    path = folder / "tokenizer.json"
    good = json.loads(path.read_text())

    def expect(change, what):
        parts = json.loads(json.dumps(good))
        change(parts)
        path.write_text(json.dumps(parts))
        with pytest.raises(BPEError, match=what):
            UnitBPE.load(path)

    expect(lambda p: p.update(normalizer={"type": "NFC"}), "a normalizer is set; units need none")
    expect(lambda p: p["model"].update(type="WordLevel"), "type BPE or Unigram, got 'WordLevel'")
    if bpe.kind == "bpe":
        expect(lambda p: p["model"].update(dropout=0.1), "dropout is set")
        expect(lambda p: p["model"]["merges"].reverse(), "merges are not the")
        expect(lambda p: p["model"]["merges"].pop(), "139 merges are not|13. merges are not")
        expect(lambda p: p["model"]["vocab"].popitem(), "merges are not|expected")
    else:
        expect(lambda p: p["model"]["vocab"][0].__setitem__(1, 0.1), "multiples of 1/256")
        expect(lambda p: p["model"]["vocab"][0].__setitem__(1, 1e300), "x|score")
    path.write_text("{")
    with pytest.raises(BPEError, match="expected JSON"):
        UnitBPE.load(path)


def test_damaged_folders(folder, bpe, tmp_path):
    config = json.loads((folder / "bpe.json").read_text())

    def expect(changes, what, drop=()):
        fields = {k: v for k, v in (config | changes).items() if k not in drop}
        (folder / "bpe.json").write_text(json.dumps(fields))
        with pytest.raises(BPEError, match=what):
            UnitBPE.load(folder)

    expect({"format": "other"}, "expected an object of format syllabary.bpe.1")
    expect({}, "unknown or missing field name", drop=("name",))
    expect({"more": 1}, "unknown or missing field more")
    expect({"name": 3}, "name is 3")
    expect({"name": "../x"}, "a name is")
    expect({"codebook_sizes": []}, "must be whole numbers")
    expect({"codebook_sizes": ["61"]}, "must be whole numbers")
    expect({"codebook_sizes": [60]}, "can't have 61 units")
    expect({"unit_durations": [1.0]}, "expected 61 mean durations")
    expect({"unit_durations": ["1"] * 61}, "must be numbers")
    expect({"unit_durations": [0.5] * 61}, "of 1 to 2")
    expect({"digest": "0" * 64}, "with digest 000000000000, bpe.model of a")
    (folder / "bpe.json").write_text("[")
    with pytest.raises(BPEError, match="expected JSON"):
        UnitBPE.load(folder)
    (folder / "bpe.json").write_text(json.dumps(config))
    UnitBPE.load(folder)
    (folder / "bpe.model").unlink()
    with pytest.raises(BPEError, match=r"bpe\.model: No such file"):
        UnitBPE.load(folder)
    with pytest.raises(BPEError, match=r"expected a folder with bpe\.json and bpe\.model"):
        UnitBPE.load(tmp_path / "nothing")


def test_files_that_are_too_large(folder, monkeypatch):
    from syllabary.bpe import saved

    monkeypatch.setattr(saved, "MAX_MODEL_BYTES", 100)
    with pytest.raises(BPEError, match="expected at most 100 bytes"):
        UnitBPE.load(folder)


def test_a_folder_stays_what_it_is_where_the_disk_is_full(bpe, folder, tmp_path, monkeypatch):
    target = shutil.copytree(folder, tmp_path / "held")
    before = {path.name: path.read_bytes() for path in target.iterdir()}
    real = Path.write_bytes
    for left in range(3):  # files that there is room for
        written = []

        def write(path, data, left=left, written=written):
            if len(written) == left:
                raise OSError(28, "No space left on device")
            written.append(path)
            return real(path, data)

        monkeypatch.setattr(Path, "write_bytes", write)
        with pytest.raises(BPEError, match="No space left"):
            replace(bpe, name="another").save(target)
        monkeypatch.undo()
        assert {path.name: path.read_bytes() for path in target.iterdir()} == before


def test_no_folder_is_left_where_nothing_can_be_written(bpe, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BPEError, match="can't be written"):
        bpe.save(tmp_path / "file" / "bpe")
