"""Mosaic streaming's MDS: ``SPLIT/shard.00000.mds`` and ``SPLIT/index.json``.

A shard is the number of samples (u32), where each begins and the last ends (u32 each), the columns
as JSON, and the samples: the sizes of their columns (u32), and the columns' bytes, in order of
names. An item has ``codes`` (codebooks, frames), ``fields`` (JSON of all else), ``id``,
``num_samples`` and ``text``, which is empty where there is none. MDS has no empty arrays, so items
without frames are left out.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .job import Job, plain_fields

if TYPE_CHECKING:
    from ..dataset.items import Item

#: Greatest size of a shard; Mosaic's own default, which fits the u32 of its offsets.
_SHARD = 1 << 26
_VALUE_DTYPES = {"uint8": 8, "uint16": 16, "uint32": 32}


def write(job: Job) -> None:
    """Shards and index of each split."""
    limit = min(job.shard_bytes, _SHARD)
    codes = f"ndarray:{job.dataset.header.dtype.name}"
    merged = bool(job.dataset.description.get("merged"))
    columns: dict[str, tuple[str, int | None]] = {
        "codes": (codes, None),
        "fields": ("json", None),
        "id": ("str", None),
        "num_samples": ("int", 8),
        "text": ("str", None),
    }
    if merged:
        columns["durations"] = ("ndarray:uint32", None)
    for split, items in job.splits():
        folder = job.folder / split
        folder.mkdir()
        writer = ShardWriter(folder, dict(sorted(columns.items())), limit)
        for item in job.with_frames(items):
            writer.add(_sample(item, merged, job.dataset.spec.digest))
        writer.finish()


def _sample(item: "Item", merged: bool, digest: str) -> dict[str, bytes]:
    found = {
        "codes": encoded_array(item.codes),
        "fields": json.dumps(plain_fields(item) | {"tokenizer_digest": digest}).encode(),
        "id": item.id.encode(),
        "num_samples": np.array(item.num_samples, "<i8").tobytes(),
        "text": (item.text or "").encode(),
    }
    if merged and item.durations is not None:
        found["durations"] = encoded_array(item.durations)
    return found


def encoded_array(values: np.ndarray) -> bytes:
    """An array of a known dtype and any shape: axes and the width of their sizes in one byte, the
    sizes, the values."""
    most = max(values.shape)
    width = 0 if most < 1 << 8 else 1 if most < 1 << 16 else 2
    head = bytes([values.ndim << 2 | width])
    sizes = np.array(values.shape, f"<u{1 << width}").tobytes()
    plain = np.ascontiguousarray(values)
    return head + sizes + plain.astype(plain.dtype.newbyteorder("<"), copy=False).tobytes()


class ShardWriter:
    """Shards of samples, and their index.

    Args:
        folder: exists.
        columns: encoding and size (None: it varies) of each, sorted by name.
        limit: of a shard's bytes.
    """

    def __init__(
        self, folder: Path, columns: dict[str, tuple[str, int | None]], limit: int
    ) -> None:
        self._folder, self._columns = folder, columns
        self._config: dict[str, Any] = {
            "column_encodings": [encoding for encoding, _ in columns.values()],
            "column_names": list(columns),
            "column_sizes": [size for _, size in columns.values()],
            "compression": None,
            "format": "mds",
            "hashes": [],
            "size_limit": limit,
            "version": 2,
        }
        self._text = json.dumps(self._config, sort_keys=True).encode()
        self._samples: list[bytes] = []
        self._size = self._empty
        self._shards: list[dict[str, Any]] = []

    @property
    def _empty(self) -> int:
        return 8 + len(self._text)

    def add(self, values: dict[str, bytes]) -> None:
        """A sample: the bytes of each column."""
        names = self._columns
        sizes = [len(values[name]) for name in names if names[name][1] is None]
        sample = np.array(sizes, "<u4").tobytes() + b"".join(values[name] for name in names)
        if self._samples and self._size + len(sample) + 4 > self._config["size_limit"]:
            self._flush()
        self._samples.append(sample)
        self._size += len(sample) + 4

    def finish(self) -> None:
        """The last shard, and the index."""
        if self._samples:
            self._flush()
        index = json.dumps({"shards": self._shards, "version": 2}, sort_keys=True)
        (self._folder / "index.json").write_text(index)

    def _flush(self) -> None:
        name = f"shard.{len(self._shards):05}.mds"
        count = len(self._samples)
        ends = np.cumsum([0, *map(len, self._samples)]) + 4 + 4 * (count + 1) + len(self._text)
        data = np.uint32(count).tobytes() + ends.astype("<u4").tobytes() + self._text
        data += b"".join(self._samples)
        (self._folder / name).write_bytes(data)
        info = {"basename": name, "bytes": len(data), "hashes": {}}
        shard = {"samples": count, "raw_data": info, "zip_data": None} | self._config
        self._shards.append(shard)
        self._samples, self._size = [], self._empty
