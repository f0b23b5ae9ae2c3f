"""Open a data set, read its items in order or at random, and write one from items."""

import hashlib
import json
import os
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import accumulate, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np

from ...codecs.spec import TokenSpec
from ...codecs.tokens import check_same_tokenizer
from ...errors import DatasetError
from ...filesystem import content_digest, printable, replacing
from .format import (
    DESCRIPTION_NAME,
    METADATA_KEY,
    ROWS_A_GROUP,
    Header,
    RowFormat,
    Shard,
    codes_of,
    frame_counts,
    read_description,
    shard_name,
    shards_digest,
)
from .items import Item

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

#: Codes in a shard; 100 MB, about, of codes of 10 bits.
CODES_A_SHARD = 80_000_000
_HELD_GROUPS = 4
#: Rows, and the digest of each.
Digested: TypeAlias = tuple["pa.Table", Sequence[bytes]]


def open_dataset(
    folder: str | Path, split: str | None = None, spec: TokenSpec | None = None
) -> "StoredDataset":
    """Open a finished data set.

    Args:
        folder: of the data set.
        split: only this one's items.
        spec: of the tokenizer that its tokens are expected to be of.

    Raises:
        DatasetError: not a data set, not finished, without this split, or shards are missing or of
            another size or tokenizer than `dataset.json` says.
        TokenMismatchError: made by another tokenizer than `spec`'s.
    """
    return StoredDataset(Path(folder), split, spec)


class StoredDataset(Sequence[Item]):
    """The items of a data set, in order; see `open_dataset`.

    Attributes:
        folder: of the data set.
        header: what is common to all shards.
        shards: those of the chosen split, or all, in order.
        digest: SHA-256 of what all items of the data set hold; the same for the same sources,
            tokenizer and settings, however it was built.
        description: `dataset.json`.
    """

    def __init__(self, folder: Path, split: str | None, spec: TokenSpec | None) -> None:
        self.folder = folder
        self.description = read_description(folder)
        where = printable(folder / DESCRIPTION_NAME)
        self.header = Header.from_json(self.description, where)
        if spec is not None:
            check_same_tokenizer(self.spec, spec)
        try:
            shards = [Shard(**fields) for fields in self.description["shards"]]
            self.digest = str(self.description["digest"])
        except (KeyError, TypeError) as error:
            raise DatasetError(f"{where}: damaged: {error}") from None
        if split is not None and all(shard.split != split for shard in shards):
            there = ", ".join(sorted({shard.split for shard in shards})) or "none"
            raise DatasetError(f"{printable(folder)}: no split {split!r}; it has {there}")
        self.shards = [shard for shard in shards if split in (None, shard.split)]
        for shard in self.shards:
            self._check_there(shard)
        self._starts = [0, *accumulate(shard.items for shard in self.shards)]
        self._format = RowFormat(self.header)
        self._groups: dict[tuple[int, int], pa.Table] = {}

    def _check_there(self, shard: Shard) -> None:
        path = self.folder / shard.name
        if not path.is_file():
            raise DatasetError(f"{printable(path)}: missing")
        if (size := path.stat().st_size) != shard.bytes:
            raise DatasetError(f"{printable(path)}: {size} bytes, expected {shard.bytes}: damaged")

    @property
    def spec(self) -> TokenSpec:
        """Of the tokens."""
        return self.header.spec

    @property
    def num_codebooks(self) -> int:
        """How many of the tokenizer's codebooks are stored."""
        return self.header.num_codebooks

    @property
    def schema(self) -> "pa.Schema":
        """Of the Parquet shards."""
        return self._format.schema

    @property
    def num_frames(self) -> int:
        """Of all items."""
        return sum(shard.frames for shard in self.shards)

    def __len__(self) -> int:
        return self._starts[-1]

    def __iter__(self) -> Iterator[Item]:
        for number in range(len(self.shards)):
            yield from self.shard_items(number)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        if isinstance(index, slice):
            return [self.item(number) for number in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"item {index} of {len(self)}")
        return self.item(index % len(self))

    def item(self, index: int) -> Item:
        """One item: reads the row group that it is in, and keeps the last few of them."""
        shard, group, row = self.locate(index)
        return self._format.items(self._group(shard, group).slice(row, 1))[0]

    def locate(self, index: int) -> tuple[int, int, int]:
        """Number of the shard, of the row group in it and of the row in that."""
        if not 0 <= index < len(self):
            raise IndexError(f"item {index} of {len(self)}")
        shard = bisect_right(self._starts, index) - 1
        group, row = divmod(index - self._starts[shard], ROWS_A_GROUP)
        return shard, group, row

    def num_groups(self, shard: int) -> int:
        """Row groups of a shard; each but the last has `ROWS_A_GROUP` rows."""
        return -(-self.shards[shard].items // ROWS_A_GROUP)

    def shard_items(self, shard: int) -> Iterator[Item]:
        """The items of one shard, a row group in memory at a time."""
        with self.open_shard(shard) as file:
            for group in range(file.num_row_groups):
                yield from self._format.items(self._read(file, shard, group))

    def group_codes(self, shard: int, group: int) -> list[np.ndarray]:
        """Only the codes of a row group: (codebooks, frames) of each row; see `Item.codes`."""
        with self.open_shard(shard) as file:
            return codes_of(self._read(file, shard, group, ["codes"]), self.num_codebooks)

    def group_table(self, shard: int, group: int, columns: Sequence[str] | None = None) -> Any:
        """A row group, or some of its columns, as an Arrow table."""
        with self.open_shard(shard) as file:
            return self._read(file, shard, group, None if columns is None else list(columns))

    def column(self, name: str) -> list[Any]:
        """All values of one column, without reading the others."""
        found: list[Any] = []
        for number in range(len(self.shards)):
            with self.open_shard(number) as file:
                try:
                    found += file.read(columns=[name])[name].to_pylist()
                except Exception as error:
                    raise self._unreadable(number, error) from None
        return found

    @cached_property
    def frame_counts(self) -> np.ndarray:
        """(items,) int64 frames of each item, without decoding codes."""
        if not self.shards:
            return np.zeros(0, np.int64)
        samples = np.array(self.column("num_samples"), np.int64)
        if self.description.get("merged"):
            lasting = self.column("durations")
            return np.array([len(values) for values in lasting], np.int64)
        return -(-samples // self.spec.hop)

    def open_shard(self, shard: int) -> "pq.ParquetFile":
        """A shard as pyarrow's file, memory-mapped.

        Raises:
            DatasetError: it can't be read, or is of another tokenizer than the data set.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self.folder / self.shards[shard].name
        try:
            file = pq.ParquetFile(path, memory_map=True)
        except (OSError, pa.ArrowInvalid) as error:
            raise self._unreadable(shard, error) from None
        held = (file.schema_arrow.metadata or {}).get(METADATA_KEY)
        if held != self.schema.metadata[METADATA_KEY]:
            file.close()
            raise DatasetError(
                f"{printable(path)}: its metadata differ from those of {DESCRIPTION_NAME}: it is "
                "of another data set"
            )
        return file

    def _read(
        self, file: "pq.ParquetFile", shard: int, group: int, columns: list[str] | None = None
    ) -> Any:
        try:
            return file.read_row_group(group, columns=columns, use_threads=False)
        except Exception as error:  # Arrow raises many kinds for damaged pages
            raise self._unreadable(shard, error) from None

    def _unreadable(self, shard: int, error: Exception) -> DatasetError:
        path = printable(self.folder / self.shards[shard].name)
        return DatasetError(f"{path}: can't be read: {error}; `dataset verify` checks all shards")

    def _group(self, shard: int, group: int) -> Any:
        key = (shard, group)
        if key not in self._groups:
            with self.open_shard(shard) as file:
                table = self._read(file, shard, group)
            while len(self._groups) >= _HELD_GROUPS:
                del self._groups[next(iter(self._groups))]
            self._groups[key] = table
        return self._groups[key]


def write_shard(
    folder: Path, name: str, split: str, header: Header, tables: Iterable["Digested"]
) -> Shard:
    """Write one shard, whole or not at all.

    Args:
        folder: of the data set.
        name: of the shard.
        split: of all its items.
        header: of the data set.
        tables: rows, however they are grouped, with the digest of each.

    Raises:
        OSError: it can't be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = RowFormat(header).schema
    items = frames = samples = 0
    sha = hashlib.sha256()
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        with pq.ParquetWriter(temporary, schema, **PARQUET) as writer:
            waiting = schema.empty_table()
            for table, digests in tables:
                items += len(table)
                samples += sum(table["num_samples"].to_pylist())
                frames += sum(frame_counts(table, header.num_codebooks).tolist())
                for digest in digests:
                    sha.update(digest)
                waiting = pa.concat_tables([waiting, table.cast(schema)])
                while len(waiting) >= ROWS_A_GROUP:
                    # Row groups of one chunk: the same bytes, however the rows came.
                    writer.write_table(waiting.slice(0, ROWS_A_GROUP).combine_chunks())
                    waiting = waiting.slice(ROWS_A_GROUP)
            if len(waiting):
                writer.write_table(waiting.combine_chunks())
        sync(temporary)
        size, digest_of_file = temporary.stat().st_size, content_digest(temporary)
    return Shard(name, split, items, frames, samples, size, digest_of_file, sha.hexdigest())


#: How shards are written. Codes repeat: a dictionary stores them in as many bits as there are
#: distinct ones, which general compression does not beat; texts and names do compress.
PARQUET: dict[str, Any] = {
    "compression": "zstd",
    "use_dictionary": True,
    "write_statistics": False,
    "dictionary_pagesize_limit": 1 << 20,
}


def sync(path: Path) -> None:
    """Wait until a file's contents are on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def write_dataset(
    folder: str | Path,
    items: Iterable[Item],
    spec: TokenSpec,
    num_codebooks: int | None = None,
    options: dict[str, Any] | None = None,
    codes_a_shard: int = CODES_A_SHARD,
) -> "StoredDataset":
    """Write a data set from items in memory, such as codes that another program made.

    Args:
        folder: must not hold a data set.
        items: of any splits, each with an id of its own.
        spec: of their tokens.
        num_codebooks: that are stored; default: all.
        options: to note how it was made.
        codes_a_shard: a shard ends with the item that exceeds this many codes.

    Raises:
        DatasetError: the folder holds a data set, or an item doesn't fit.
    """
    folder = Path(folder)
    if (folder / DESCRIPTION_NAME).exists():
        raise DatasetError(f"{printable(folder)}: holds a data set already")
    header = Header(spec, num_codebooks or spec.num_codebooks, options or {})
    by_split = sorted(items, key=lambda item: item.split)  # stable: in order within a split
    repeated = [name for name, count in Counter(item.id for item in by_split).items() if count > 1]
    if repeated:
        raise DatasetError(f"several items have the id {repeated[0]!r}")
    shards, digests = [], [item.digest() for item in by_split]
    merged = any(item.durations is not None for item in by_split)
    for split, of_split in groupby(by_split, key=lambda item: item.split):
        parts = list(cut_shards(list(of_split), header.num_codebooks, codes_a_shard))
        for number, part in enumerate(parts):
            name = shard_name(split, number, len(parts))
            shards.append(write_shard(folder, name, split, header, _digested(part, header)))
    folder.mkdir(parents=True, exist_ok=True)
    write_description(folder, header, shards, shards_digest(header, digests), merged=merged)
    return open_dataset(folder)


def _digested(items: Sequence[Item], header: Header) -> Iterator["Digested"]:
    row_format = RowFormat(header)
    for start in range(0, len(items), ROWS_A_GROUP):
        part = items[start : start + ROWS_A_GROUP]
        yield row_format.table(part), [item.digest() for item in part]


def cut_shards(
    items: Sequence[Item], num_codebooks: int, codes_a_shard: int
) -> Iterator[list[Item]]:
    """Cut a list of items into shards of about as many codes."""
    part: list[Item] = []
    codes = 0
    for item in items:
        part.append(item)
        codes += item.frames * num_codebooks
        if codes >= codes_a_shard:
            yield part
            part, codes = [], 0
    if part:
        yield part


def totals_of(shards: Sequence[Shard]) -> dict[str, int]:
    """Return the items, frames, samples and bytes of all shards."""
    names = ("items", "frames", "samples", "bytes")
    return {name: sum(getattr(shard, name) for shard in shards) for name in names}


def write_description(
    folder: Path, header: Header, shards: Sequence[Shard], digest: str, **more: Any
) -> None:
    """Write `dataset.json`, which makes the folder a finished data set."""
    fields = header.to_json() | {"digest": digest, "totals": totals_of(shards)} | more
    fields["shards"] = [shard.to_json() for shard in shards]
    with replacing(folder / DESCRIPTION_NAME) as temporary:
        temporary.write_text(json.dumps(fields, indent=1, sort_keys=False) + "\n")
        sync(temporary)
