"""What a data set is on disk: the names of its files, the Parquet schema, and items to rows and
back.

    DIR/dataset.json                       what it is, its digest, and each shard's checksum
    DIR/data/train-00000-of-00012.parquet  shards, a row for each utterance
    DIR/README.md, DIR/plots/              the data card
    DIR/failures.jsonl, DIR/drops.jsonl    items that could not be encoded, or were filtered out

`dataset.json` is written last: a folder without it is not finished. Each shard's schema has the
spec of its tokens in its metadata, so that a file by itself says which tokenizer made it.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ...codecs.spec import TokenSpec
from ...errors import DatasetError, TokenError
from ...filesystem import printable
from .items import AlignedWord, Item, canonical_json, code_dtype

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = "syllabary-dataset/1"
DESCRIPTION_NAME = "dataset.json"
DATA_FOLDER = "data"
CARD_NAME = "README.md"
PLOTS_FOLDER = "plots"
FAILURES_NAME = "failures.jsonl"
DROPS_NAME = "drops.jsonl"
LEDGER_NAME = "ledger.jsonl"
#: Key of the schema's metadata with `Header` as JSON.
METADATA_KEY = b"syllabary"
#: Rows in a row group: what random access to one item has to read.
ROWS_A_GROUP = 256


@dataclass(frozen=True)
class Header:
    """What all shards of a data set have in common.

    Attributes:
        spec: of the tokens.
        num_codebooks: how many of the tokenizer's codebooks are stored.
        options: how it was made, such as the name of the BPE and of the text tokenizer.
    """

    spec: TokenSpec
    num_codebooks: int
    options: dict[str, Any]

    @property
    def dtype(self) -> np.dtype:
        """Of the codes."""
        return code_dtype(self.spec)

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "tokenizer": self.spec.tokenizer,
            "tokenizer_digest": self.spec.digest,
            "num_codebooks": self.num_codebooks,
            "spec": self.spec.to_json(),
            "options": self.options,
        }

    @classmethod
    def from_json(cls, fields: Any, where: str) -> Self:
        """Raise `DatasetError`, with `where` in it, if the fields are not of this format."""
        if not isinstance(fields, dict) or fields.get("format") != FORMAT:
            found = fields.get("format") if isinstance(fields, dict) else fields
            raise DatasetError(f"{where}: of format {found!r}, expected {FORMAT!r}")
        try:
            spec = TokenSpec.from_json(fields["spec"])
            return cls(spec, int(fields["num_codebooks"]), dict(fields["options"]))
        except (KeyError, TypeError, ValueError, TokenError) as error:
            raise DatasetError(f"{where}: damaged: {error}") from None

    def start_digest(self) -> "hashlib._Hash":
        """The hash that each item's digest, in order, is added to: see `Shard.items_digest`.

        The tokenizer's name is left out: a saved copy of it may have any.
        """
        spec = {key: value for key, value in self.spec.to_json().items() if key != "tokenizer"}
        return hashlib.sha256(canonical_json([FORMAT, spec, self.num_codebooks]))


@dataclass(frozen=True)
class Shard:
    """A Parquet file of a data set.

    Attributes:
        name: relative to the data set's folder, such as ``data/train-00000-of-00012.parquet``.
        split: of all its items.
        items: rows.
        frames: of all items.
        samples: of all items, at the tokenizer's sample rate.
        bytes: size of the file.
        sha256: of the file.
        items_digest: SHA-256 of the digests of its items, which depends on what they hold only.
    """

    name: str
    split: str
    items: int
    frames: int
    samples: int
    bytes: int
    sha256: str
    items_digest: str

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


def shard_name(split: str, number: int, count: int) -> str:
    """Name of a shard, as the Hugging Face hub expects it."""
    return f"{DATA_FOLDER}/{split}-{number:05}-of-{count:05}.parquet"


class RowFormat:
    """Items to Arrow tables and back.

    The columns are the attributes of `Item`, and ``duration_s``. ``codes`` has a list for each
    codebook, ``alignment`` has ``word``, ``start``, ``end`` and ``ids``, ``extra`` is JSON.
    """

    def __init__(self, header: Header) -> None:
        self.header = header

    @cached_property
    def schema(self) -> "pa.Schema":
        import pyarrow as pa

        code = pa.from_numpy_dtype(self.header.dtype)
        word = pa.struct(
            [
                ("word", pa.string()),
                ("start", pa.float64()),
                ("end", pa.float64()),
                ("ids", pa.list_(pa.uint32())),
            ]
        )
        columns = [
            pa.field("id", pa.string(), nullable=False),
            pa.field("codes", pa.list_(pa.list_(code)), nullable=False),
            pa.field("num_samples", pa.int64(), nullable=False),
            pa.field("duration_s", pa.float64(), nullable=False),
            pa.field("text", pa.string()),
            pa.field("speaker", pa.string()),
            pa.field("language", pa.string()),
            pa.field("split", pa.string(), nullable=False),
            pa.field("durations", pa.list_(pa.uint32())),
            pa.field("global_codes", pa.list_(code)),
            pa.field("alignment", pa.list_(word)),
            pa.field("text_ids", pa.list_(pa.uint32())),
            pa.field("source", pa.string(), nullable=False),
            pa.field("source_sha256", pa.string(), nullable=False),
            pa.field("source_start", pa.int64()),
            pa.field("source_samples", pa.int64()),
            pa.field("extra", pa.string()),
        ]
        return pa.schema(columns, {METADATA_KEY: canonical_json(self.header.to_json())})

    def table(self, items: Sequence[Item]) -> "pa.Table":
        """A table with a row for each item.

        Raises:
            DatasetError: an item doesn't fit the header.
        """
        import pyarrow as pa

        for item in items:
            item.check(self.header.spec, self.header.num_codebooks)
        columns: dict[str, Any] = {
            name: [getattr(item, name) for item in items]
            for name in (
                *("id", "num_samples", "text", "speaker", "language", "split", "durations"),
                *("global_codes", "text_ids", "source", "source_sha256", "source_start"),
                "source_samples",
            )
        }
        rate = self.header.spec.sample_rate
        columns["duration_s"] = [item.num_samples / rate for item in items]
        columns["codes"] = self._codes(items)
        columns["alignment"] = [
            None if item.alignment is None else [word._asdict() for word in item.alignment]
            for item in items
        ]
        columns["extra"] = [
            None
            if item.extra is None
            else json.dumps(item.extra, sort_keys=True, ensure_ascii=False)
            for item in items
        ]
        arrays = [
            values if isinstance(values, pa.Array) else pa.array(values, field.type)
            for field in self.schema
            for values in (columns[field.name],)
        ]
        return pa.Table.from_arrays(arrays, schema=self.schema)

    def _codes(self, items: Sequence[Item]) -> "pa.Array":
        import pyarrow as pa

        books = self.header.num_codebooks
        lengths = np.repeat([item.frames for item in items], books)
        ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        if ends[-1] > np.iinfo(np.int32).max:
            raise DatasetError("over 2**31 codes in one table")
        parts = [item.codes.reshape(-1) for item in items]
        flat = np.concatenate(parts) if parts else np.zeros(0, self.header.dtype)
        inner = pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(flat))
        outer = np.arange(0, len(ends), books, dtype=np.int32)
        return pa.ListArray.from_arrays(pa.array(outer), inner)

    def items(self, table: "pa.Table") -> list[Item]:
        """The items of a table: the inverse of `table`."""
        plain = table.drop_columns(["codes", "duration_s", "durations", "global_codes"])
        codes = codes_of(table, self.header.num_codebooks)
        durations = table["durations"].to_pylist()
        heads = table["global_codes"].to_pylist()
        found = []
        for number, row in enumerate(plain.to_pylist()):
            if row["alignment"] is not None:
                row["alignment"] = tuple(
                    AlignedWord(word["word"], word["start"], word["end"], tuple(word["ids"] or ()))
                    for word in row["alignment"]
                )
            if row["text_ids"] is not None:
                row["text_ids"] = tuple(row["text_ids"])
            if row["extra"] is not None:
                row["extra"] = json.loads(row["extra"])
            lasting, head = durations[number], heads[number]
            found.append(
                Item(
                    codes=codes[number],
                    durations=None if lasting is None else np.array(lasting, np.uint32),
                    global_codes=None if head is None else np.array(head, self.header.dtype),
                    **row,
                )
            )
        return found


def codes_of(table: "pa.Table", num_codebooks: int) -> list[np.ndarray]:
    """The ``codes`` column as arrays (codebooks, frames); views without a copy where possible."""
    found: list[np.ndarray] = []
    for chunk in table["codes"].chunks:
        inner = chunk.flatten()
        values = inner.flatten().to_numpy(zero_copy_only=False)
        ends = inner.offsets.to_numpy()
        ends = ends[::num_codebooks] - ends[0]
        found += [
            values[start:stop].reshape(num_codebooks, -1)
            for start, stop in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)
        ]
    return found


def frame_counts(table: "pa.Table", num_codebooks: int) -> np.ndarray:
    """(rows,) int64 frames of each row of a table."""
    parts = [np.zeros(0, np.int64)]
    for chunk in table["codes"].chunks:
        ends = chunk.flatten().offsets.to_numpy()[::num_codebooks].astype(np.int64)
        parts.append(np.diff(ends) // num_codebooks)
    return np.concatenate(parts)


def shards_digest(header: Header, item_digests: Iterable[bytes]) -> str:
    """The data set's digest: of the spec and of each item's digest, in order."""
    sha = header.start_digest()
    for digest in item_digests:
        sha.update(digest)
    return sha.hexdigest()


def read_description(folder: Path) -> dict[str, Any]:
    """`dataset.json` of a data set.

    Raises:
        DatasetError: there is none, or it is damaged.
    """
    path = folder / DESCRIPTION_NAME
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if (folder / BUILD_FOLDER).is_dir():
            raise DatasetError(
                f"{printable(folder)}: not finished; the command that began it goes on with it"
            ) from None
        raise DatasetError(f"{printable(folder)}: no data set: there is no {path.name}") from None
    except (OSError, ValueError) as error:
        raise DatasetError(f"{printable(path)}: can't be read: {error}") from None
    if not isinstance(fields, dict):
        raise DatasetError(f"{printable(path)}: expected a JSON object")
    return fields


#: What a build keeps while it is at work: the plan, the ledger and finished pieces.
BUILD_FOLDER = ".build"
