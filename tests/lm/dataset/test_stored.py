"""Items come back from disk; what is damaged, unfinished or of another tokenizer is refused."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from syllabary.errors import DatasetError, TokenMismatchError
from syllabary.lm.dataset import open_dataset, write_dataset
from syllabary.lm.dataset.items import Item

from ..conftest import token_spec
from .made_up import made_up_items


def same(one: Item, other: Item) -> bool:
    if one.codes.dtype != other.codes.dtype:
        return False
    for name, value in vars(one).items():
        its = getattr(other, name)
        if isinstance(value, np.ndarray):
            if its.shape != value.shape or (its != value).any():
                return False
        elif its != value:
            return False
    return one.digest() == other.digest()


@pytest.mark.parametrize("sizes", [(1024,) * 4, (16,), (70_000, 8)])
@pytest.mark.parametrize("merged", [False, True])
def test_items_come_back(tmp_path, sizes, merged):
    spec = token_spec(sizes)
    items = made_up_items(spec, 600, merged=merged)
    made = write_dataset(tmp_path / "set", items, spec, codes_a_shard=3000)
    assert len(made.shards) > 3 and {shard.split for shard in made.shards} == {"train", "valid"}
    expected = [item for item in items if item.split == "train"]
    expected += [item for item in items if item.split == "valid"]
    assert all(map(same, made, expected)) and len(made) == 600
    for index in (0, 255, 256, 599, -1):
        assert same(made[index], expected[index])
    valid = open_dataset(tmp_path / "set", "valid", spec)
    assert [item.id for item in valid] == [item.id for item in items if item.split == "valid"]
    assert made.frame_counts.tolist() == [item.frames for item in expected]
    assert made.num_frames == sum(item.frames for item in items)
    shard, group, row = made.locate(300)
    codes = made.group_codes(shard, group)[row]
    assert (codes == expected[300].codes).all() and codes.dtype == expected[300].codes.dtype
    with pytest.raises(IndexError):
        made[600]
    tokens = made[300].tokens(spec)
    assert tokens.num_samples.tolist() == [expected[300].num_samples]


def test_one_digest_for_any_cut_into_shards(tmp_path):
    spec = token_spec()
    items = made_up_items(spec, 50)
    one = write_dataset(tmp_path / "one", items, spec)
    many = write_dataset(tmp_path / "many", items, spec, codes_a_shard=1)
    assert len(one.shards) == 2 and len(many.shards) > 40 and one.digest == many.digest
    for change in ({"text": "other"}, {"speaker": None}, {"codes": items[3].codes[:, ::-1]}):
        changed = [*items[:3], replace(items[3], **change), *items[4:]]
        folder = tmp_path / f"changed {sorted(change)}"
        assert write_dataset(folder, changed, spec).digest != one.digest


def test_other_programs_read_it(tmp_path):
    """uint16 lists in plain Parquet, with the tokenizer in the schema's metadata."""
    spec = token_spec((65536, 8))
    items = made_up_items(spec, 3)
    made = write_dataset(tmp_path / "set", items, spec)
    path = tmp_path / "set" / made.shards[0].name
    schema = pq.read_schema(path)
    assert schema.field("codes").type == pa.list_(pa.list_(pa.uint16()))
    header = json.loads(schema.metadata[b"syllabary"])
    assert header["tokenizer_digest"] == spec.digest and header["tokenizer"] == spec.tokenizer
    rows = pq.read_table(path).to_pylist()
    assert rows[0]["codes"] == items[0].codes.tolist()
    assert rows[1]["alignment"][0] == {"word": "two", "start": 0.0, "end": 0.25, "ids": [3, 4]}
    wide = write_dataset(
        tmp_path / "wide", made_up_items(token_spec((65537,)), 3), token_spec((65537,))
    )
    assert wide.schema.field("codes").type == pa.list_(pa.list_(pa.uint32()))


def test_what_cannot_be_opened(tmp_path):
    spec = token_spec()
    items = made_up_items(spec, 20)
    folder = tmp_path / "set"
    with pytest.raises(DatasetError, match=r"no data set: there is no dataset\.json"):
        open_dataset(folder)
    made = write_dataset(folder, items, spec)
    with pytest.raises(DatasetError, match="holds a data set"):
        write_dataset(folder, items, spec)
    with pytest.raises(TokenMismatchError, match="made by codec"):
        open_dataset(folder, spec=token_spec(digest="cd"))
    with pytest.raises(DatasetError, match="no split 'test'; it has train, valid"):
        open_dataset(folder, "test")
    path = folder / made.shards[0].name
    held = path.read_bytes()
    middle = len(held) // 3
    path.write_bytes(held[:middle] + bytes(200) + held[middle + 200 :])
    with pytest.raises(DatasetError, match="can't be read"):
        list(open_dataset(folder))
    path.write_bytes(held[:-1])
    with pytest.raises(DatasetError, match="damaged"):
        open_dataset(folder)
    other = write_dataset(tmp_path / "other", items, token_spec(digest="cd"))
    path.write_bytes((tmp_path / "other" / other.shards[0].name).read_bytes())
    with pytest.raises(DatasetError, match="of another data set"):
        list(open_dataset(folder))
    path.unlink()
    with pytest.raises(DatasetError, match="missing"):
        open_dataset(folder)
    (folder / "dataset.json").write_text("{}")
    with pytest.raises(DatasetError, match="of format None"):
        open_dataset(folder)
    (folder / "dataset.json").unlink()
    (folder / ".build").mkdir()
    with pytest.raises(DatasetError, match="not finished"):
        open_dataset(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": ""}, "no id"),
        ({"codes": np.zeros((3, 5), np.uint16)}, r"expected \(4, frames\)"),
        ({"codes": np.zeros((4, 5), np.int64)}, "int64, expected uint16"),
        ({"codes": np.full((4, 5), 1024, np.uint16)}, "code 1024 is out of range: codebook 0"),
        ({"durations": np.ones(1000, np.uint32)}, "durations for"),
        ({"num_samples": 1_000_000}, "frames for 1000000 samples, expected 3125"),
        ({"global_codes": np.ones(1, np.uint16)}, "1 global codes; codec has 0"),
        ({"id": "speaker-0/é 0"}, "several items have the id 'speaker-0/é 0'"),
    ],
)
def test_items_that_do_not_fit(tmp_path, change, message):
    spec = token_spec()
    first, second = made_up_items(spec, 2)
    with pytest.raises(DatasetError, match=message):
        write_dataset(tmp_path, [first, replace(second, **change)], spec)
    assert not (tmp_path / "dataset.json").exists()
    assert not list(tmp_path.rglob("*.tmp*"))
