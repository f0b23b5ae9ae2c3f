"""A data set's codes, or documents made of them, as flat arrays in one file beside the shards.

Parquet is made for reading columns, not for a row here and a row there. So the first reader of a
data set copies what it needs into ``DIR/.flat/``, once; all others map this file. Its name is a
hash of the shards' checksums and of everything that determines its contents, so a changed data set
has another file, and the contents of a file never change.
"""

import hashlib
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import DatasetError, SyllabaryWarning
from ...filesystem import content_digest, printable
from ..dataset.format import codes_of
from ..dataset.items import canonical_json
from .documents import MissingTextError
from .flat_file import FlatWriter, flat_file, read_flat

if TYPE_CHECKING:
    from ..dataset.items import Item
    from ..dataset.stored import StoredDataset

    Documents = Callable[[Any], tuple[np.ndarray, np.ndarray]]

FOLDER = ".flat"
#: Row groups that are read in one piece.
_GROUPS = 16


@dataclass(frozen=True, eq=False)
class FlatStore:
    """Arrays of all items of a data set, or of one split of it.

    Attributes:
        path: of the file.
        values: codes, codebook after codebook of each item; or ids of a document and its targets,
            as `Interleaved` has them.
        starts: (items + 1,) int64, where each item begins.
        heads: (items, global codebooks) global codes.
        rows: codebooks of an item; 2 for documents.
        documents: whether these are documents and not codes.
        greatest: the greatest code of each codebook; -1 without any.
        left_out: items that lack the text of a document, which is empty.
    """

    path: Path
    values: np.ndarray
    starts: np.ndarray
    heads: np.ndarray
    rows: int
    documents: bool
    greatest: list[int]
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.starts) - 1

    def item(self, number: int) -> np.ndarray:
        """Codes (codebooks, frames), or ids and targets (2, n), of one item, without copying."""
        first, last = int(self.starts[number]), int(self.starts[number + 1])
        return np.asarray(self.values[first:last]).reshape(self.rows, -1)

    @property
    def frames(self) -> np.ndarray:
        """(items,) int64 frames of each."""
        return np.diff(self.starts) // self.rows


def store_of(dataset: "StoredDataset", cache: Path | None = None) -> FlatStore:
    """The codes of a data set.

    Args:
        dataset: opened, perhaps with one split only.
        cache: folder for the file; default: `FOLDER` in the data set's, or, where that can't be
            written, in the user's cache.

    Raises:
        DatasetError: a shard is damaged, or the file can't be written.
    """

    def write(writer: FlatWriter) -> dict[str, Any]:
        dtype, starts, heads = dataset.header.dtype, [0], []
        greatest = np.full(dataset.num_codebooks, -1, np.int64)
        columns = ["codes", "global_codes"] if dataset.spec.global_codebook_sizes else ["codes"]
        for table in _tables(dataset, columns):
            codes = codes_of(table, dataset.num_codebooks)
            for array in codes:
                starts.append(starts[-1] + array.size)
                if array.size:
                    greatest = np.maximum(greatest, array.max(1))
            joined = [array.reshape(-1) for array in codes]
            writer.append("values", np.concatenate([np.empty(0, dtype), *joined]).astype(dtype))
            if len(columns) > 1:
                heads += table["global_codes"].to_pylist()
        if len(starts) == 1:
            writer.append("values", np.empty(0, dtype))
        writer.append("starts", np.array(starts, np.int64))
        writer.append("heads", np.array(heads, np.int64))
        return {"rows": dataset.num_codebooks, "documents": False, "greatest": greatest.tolist()}

    return _open(dataset, {}, write, cache)


def documents_of(
    dataset: "StoredDataset", description: dict[str, Any], make: "Documents", cache: Path | None
) -> FlatStore:
    """Documents made of each item: ids of text and speech in one sequence.

    An item that lacks the text for it has an empty one.

    Args:
        description: everything that determines what `make` gives, as JSON.
        make: ids (n,) and targets (n,) of an `Item`; raises `MissingTextError`.
        cache: as for `store_of`.

    Raises:
        DatasetError: a shard is damaged, no item has a text, or the file can't be written.

    Warns:
        SyllabaryWarning: items lack a text.
    """

    def write(writer: FlatWriter) -> dict[str, Any]:
        starts, left_out, lacking = [0], 0, None
        waiting: list[np.ndarray] = [np.empty(0, np.int32)]
        for number, item in enumerate(_items(dataset)):
            try:
                ids, targets = make(item)
            except MissingTextError as error:
                left_out, lacking = left_out + 1, error
                ids = targets = waiting[0]
            starts.append(starts[-1] + 2 * len(ids))
            waiting += [ids.astype(np.int32), targets.astype(np.int32)]
            if number % 4096 == 4095:
                writer.append("values", np.concatenate(waiting))
                waiting = waiting[:1]
        if lacking is not None and not starts[-1]:
            raise lacking  # no item has what is needed
        writer.append("values", np.concatenate(waiting))
        writer.append("starts", np.array(starts, np.int64))
        writer.append("heads", np.empty(0, np.int64))
        return {"rows": 2, "documents": True, "greatest": [], "left_out": left_out}

    store = _open(dataset, description, write, cache)
    if store.left_out:
        warnings.warn(
            f"{printable(dataset.folder)}: {store.left_out} of {len(dataset)} items lack the text, "
            "or the times of words, that the scheme needs, and are left out",
            SyllabaryWarning,
            stacklevel=2,
        )
    return store


def _open(
    dataset: "StoredDataset",
    description: dict[str, Any],
    write: "Callable[[FlatWriter], dict[str, Any]]",
    cache: Path | None,
) -> FlatStore:
    checksums = [[shard.name, shard.sha256] for shard in dataset.shards]
    key = hashlib.sha256(canonical_json([dataset.header.to_json(), checksums, description]))
    name = f"{key.hexdigest()[:32]}.flat"
    path = flat_file(_place(dataset, cache, name), write)
    arrays, notes = read_flat(path)
    heads = arrays["heads"].reshape(len(arrays["starts"]) - 1, -1)
    return FlatStore(path, arrays["values"], arrays["starts"], heads, **notes)


def _place(dataset: "StoredDataset", cache: Path | None, name: str) -> Path:
    """Where the file is, or is to be written."""
    if cache is not None:
        return cache / name
    beside = dataset.folder / FOLDER
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    elsewhere = home / "syllabary" / "flat" / name
    if (beside / name).exists() or not elsewhere.exists():
        try:
            beside.mkdir(exist_ok=True)
            if os.access(beside, os.W_OK) or (beside / name).exists():
                return beside / name
        except OSError:
            pass
    return elsewhere


def _check_shard(dataset: "StoredDataset", number: int) -> None:
    """Raise `DatasetError` unless a shard has its checksum."""
    shard = dataset.shards[number]
    path = dataset.folder / shard.name
    if (found := content_digest(path)) != shard.sha256:
        raise DatasetError(
            f"{printable(path)}: its SHA-256 is {found[:12]}…, dataset.json says "
            f"{shard.sha256[:12]}…: it was changed or damaged; fetch or build it again"
        )


def _items(dataset: "StoredDataset") -> "Iterator[Item]":
    """All items, of shards of the right checksums."""
    for number in range(len(dataset.shards)):
        _check_shard(dataset, number)
        yield from dataset.shard_items(number)


def _tables(dataset: "StoredDataset", columns: list[str]) -> "Iterator[Any]":
    """Some columns of all items, a few row groups at a time, of shards of the right checksums."""
    for number in range(len(dataset.shards)):
        _check_shard(dataset, number)
        with dataset.open_shard(number) as file:
            groups = range(file.num_row_groups)
            for first in range(0, len(groups), _GROUPS):
                yield file.read_row_groups(groups[first : first + _GROUPS], columns=columns)
