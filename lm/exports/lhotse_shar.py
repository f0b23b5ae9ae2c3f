"""lhotse's shar: ``SPLIT/cuts.000000.jsonl.gz`` and ``SPLIT/codes.000000.tar``.

Each cut has a supervision with the text, and a field ``codes``, an array (frames, codebooks), as
lhotse cuts arrays along their first axis: loading it gives the frames of the cut, also when that
was truncated. A cut lasts a whole number of frames; its recording has no audio. Merged units are
plain arrays, ``codes`` and ``durations``. What else is known of an item is in `custom`, with the
tokenizer's digest.
"""

import gzip
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np

from .job import Job, plain_fields
from .webdataset import npy

if TYPE_CHECKING:
    from ..dataset.items import Item

_IN_SUPERVISION = ("text", "language", "speaker")


def write(job: Job) -> None:
    """The shards of each split; items without frames are left out, as a cut must last."""
    for split, items in job.splits():
        folder = job.folder / split
        folder.mkdir()
        shards = _Shards(folder, bool(job.dataset.description.get("merged")), job.shard_bytes)
        try:
            for item in job.with_frames(items):
                shards.add(item, cut_of(job, item), _arrays(job, item))
        finally:
            shards.close()


def cut_of(job: Job, item: "Item") -> dict[str, Any]:
    """An item as lhotse's MonoCut, in JSON."""
    spec = job.dataset.spec
    frames = item.frames if item.durations is None else int(item.durations.sum())
    duration = float(frames / spec.frame_rate)
    supervision = {"id": item.id, "recording_id": item.id, "start": 0.0, "duration": duration}
    supervision |= {"channel": 0} | {
        name: value for name in _IN_SUPERVISION if (value := getattr(item, name)) is not None
    }
    if item.alignment:
        words = [[w.word, w.start, round(w.end - w.start, 8), None] for w in item.alignment]
        supervision["alignment"] = {"word": words}
    custom = plain_fields(item) | {
        "tokenizer": spec.tokenizer,
        "tokenizer_digest": spec.digest,
        "duration_s": item.num_samples / spec.sample_rate,
    }
    for name in ("id", "alignment", *_IN_SUPERVISION):
        custom.pop(name, None)
    return {
        "id": item.id,
        "start": 0.0,
        "duration": duration,
        "channel": 0,
        "supervisions": [supervision],
        # Without sources: lhotse asks it for the sampling rate, which it needs to cut arrays.
        "recording": {
            "id": item.id,
            "sources": [],
            "sampling_rate": spec.sample_rate,
            "num_samples": frames * spec.hop,
            "duration": duration,
            "channel_ids": [0],
        },
        "custom": custom,
        "type": "MonoCut",
    }


def _arrays(job: Job, item: "Item") -> Iterator[tuple[str, np.ndarray, dict[str, Any]]]:
    """Field, values and manifest of each array."""

    def plain(values: np.ndarray) -> dict[str, Any]:
        return {
            "storage_type": "shar", "storage_path": "", "storage_key": "",
            "shape": list(values.shape),
        }  # fmt: skip

    codes = item.codes.T
    if item.durations is not None:
        yield "codes", codes, plain(codes)
        yield "durations", item.durations, plain(item.durations)
        return
    manifest = {
        "array": plain(codes),
        "temporal_dim": 0,
        "frame_shift": float(1 / job.dataset.spec.frame_rate),
        "start": 0,
    }
    yield "codes", codes, manifest


class _Shards:
    """Files with the same number for each field, which lhotse reads side by side."""

    def __init__(self, folder: Path, merged: bool, limit: int) -> None:
        self._folder, self._limit = folder, limit
        self._fields = ("codes", "durations") if merged else ("codes",)
        self._number = -1
        self._tars: dict[str, tarfile.TarFile] = {}
        self._cuts: IO[bytes] | None = None

    def add(self, item: "Item", cut: dict[str, Any], arrays: Iterator[Any]) -> None:
        if not self._tars or self._tars["codes"].offset > self._limit:
            self._next()
        assert self._cuts is not None
        self._cuts.write(json.dumps(cut).encode() + b"\n")
        for field, values, manifest in arrays:
            pair = (("npy", npy(values)), ("json", json.dumps(manifest).encode() + b"\n"))
            for ending, data in pair:
                entry = tarfile.TarInfo(f"{item.id}.{ending}")
                entry.size = len(data)
                self._tars[field].addfile(entry, io.BytesIO(data))

    def close(self) -> None:
        for tar in self._tars.values():
            tar.close()
        if self._cuts is not None:
            self._cuts.close()

    def _next(self) -> None:
        self.close()
        self._number += 1
        name = f"cuts.{self._number:06}.jsonl.gz"
        self._cuts = cast(IO[bytes], gzip.GzipFile(self._folder / name, "wb", mtime=0))
        self._tars = {
            field: tarfile.open(  # noqa: SIM115
                self._folder / f"{field}.{self._number:06}.tar", "w", format=tarfile.PAX_FORMAT
            )
            for field in self._fields
        }
