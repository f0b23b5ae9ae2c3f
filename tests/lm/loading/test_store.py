import json
import os
import subprocess
import sys

import numpy as np
import pytest

from syllabary.errors import DatasetError
from syllabary.lm.dataset import open_dataset
from syllabary.lm.loading import store
from syllabary.lm.loading.flat_file import flat_file, read_flat
from syllabary.lm.loading.store import FOLDER, store_of


@pytest.mark.parametrize("split", [None, "train", "valid"])
def test_it_holds_the_codes(made, split):
    folder, items = made(600, seed=1)
    items = [item for item in items if split in (None, item.split)]
    held = store_of(open_dataset(folder, split))
    assert len(held) == len(items) and held.frames.tolist() == [item.frames for item in items]
    assert all((held.item(n) == item.codes).all() for n, item in enumerate(items))
    assert held.greatest == np.concatenate([item.codes for item in items], 1).max(1).tolist()
    assert held.path.parent == folder / FOLDER and isinstance(held.values, np.memmap)


def test_it_is_written_once(made):
    folder, _ = made(30, seed=2)
    path = store_of(open_dataset(folder)).path
    before = path.stat()
    assert store_of(open_dataset(folder)).path.stat() == before
    assert sorted(name.suffix for name in (folder / FOLDER).iterdir()) == [".flat", ".lock"]


def test_another_folder_for_it(made, tmp_path):
    folder, _ = made(30, seed=3)
    held = store_of(open_dataset(folder), tmp_path / "elsewhere")
    assert held.path.parent == tmp_path / "elsewhere" and not (folder / FOLDER).exists()


def test_where_the_data_set_cannot_be_written(made, tmp_path, monkeypatch):
    folder, _ = made(30, seed=4)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(store.os, "access", lambda path, mode: False)
    held = store_of(open_dataset(folder))
    assert tmp_path in held.path.parents and len(held) == 30
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert store_of(open_dataset(folder)).path == held.path


def test_a_changed_shard_is_refused(made, tmp_path):
    folder, _ = made(30, seed=5)
    data = open_dataset(folder)
    path = folder / data.shards[0].name
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    with pytest.raises(
        DatasetError, match=r"train-00000.*changed or damaged; fetch or build it again"
    ):
        store_of(data)
    assert not list((folder / FOLDER).glob("*.flat"))


@pytest.mark.parametrize("damage", ["cut", "magic", "header", "empty"])
def test_a_damaged_file_is_named(made, tmp_path, damage):
    folder, _ = made(30, seed=6)
    path = store_of(open_dataset(folder), tmp_path).path
    raw = path.read_bytes()
    path.write_bytes({
        "cut": raw[:-100], "magic": b"x" + raw[1:], "header": raw.replace(b"arrays", b"errors"),
        "empty": b"",
    }[damage])  # fmt: skip
    with pytest.raises(DatasetError, match=r"damaged.*delete it"):
        store_of(open_dataset(folder), tmp_path)


def test_arrays_of_any_parts(tmp_path):
    def write(writer):
        for part in ([1, 2], [], [3]):
            writer.append("a", np.array(part, np.uint16))
        writer.append("b", np.arange(5))
        writer.append("nothing", np.empty(0, np.int32))
        return {"said": "é"}

    arrays, notes = read_flat(flat_file(tmp_path / "x" / "y.flat", write))
    assert {name: values.tolist() for name, values in arrays.items()} == {
        "a": [1, 2, 3], "b": [0, 1, 2, 3, 4], "nothing": [],
    }  # fmt: skip
    assert notes == {"said": "é"} and arrays["b"].offset % 64 == 0


def test_a_failure_leaves_nothing(tmp_path):
    def write(writer):
        writer.append("a", np.arange(5))
        raise DatasetError("stop")

    with pytest.raises(DatasetError, match="stop"):
        flat_file(tmp_path / "y.flat", write)
    assert [path.name for path in tmp_path.iterdir()] == ["y.lock"]


def test_processes_that_come_at_once_write_it_once(made, tmp_path):
    """Each says how often it wrote; all see the same file."""
    folder, _ = made(300, seed=7)
    code = f"""
import json
from syllabary.lm.dataset import open_dataset
from syllabary.lm.loading import flat_file, store
written = []
begin = flat_file.FlatWriter.__init__
def counted(self, file):
    written.append(1); begin(self, file)
flat_file.FlatWriter.__init__ = counted
held = store.store_of(open_dataset({str(folder)!r}))
print(json.dumps([len(written), int(held.values.astype(int).sum())]))
"""
    running = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=os.environ)
        for _ in range(3)
    ]
    found = [json.loads(process.communicate()[0]) for process in running]
    assert sum(count for count, _ in found) == 1 and len({total for _, total in found}) == 1
