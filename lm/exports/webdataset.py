"""WebDataset's tar files: ``SPLIT-000000.tar``, the members of each item one after the other.

An item is ``KEY.codes.npy`` (codebooks, frames), ``KEY.json`` with all else, ``KEY.txt`` where
there is text, and ``KEY.durations.npy`` of merged units. A key is the path up to the first dot of
its last part, so dots of an item's id are written ``%2E``; the id itself is in the JSON, with the
tokenizer's digest.
"""

import io
import json
import re
import tarfile
from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING
from urllib.parse import quote

import numpy as np

from .job import Job, plain_fields

if TYPE_CHECKING:
    from ..dataset.items import Item


def write(job: Job) -> None:
    """The tar files of each split."""
    for split, items in job.splits():
        waiting = next(items, None)
        for number in count():
            if waiting is None:
                break
            path = job.folder / f"{split}-{number:06}.tar"
            with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as file:
                while waiting is not None and file.offset < job.shard_bytes:
                    for name, data in _members(job, waiting):
                        entry = tarfile.TarInfo(name)
                        entry.size = len(data)
                        file.addfile(entry, io.BytesIO(data))
                    waiting = next(items, None)


def key_of(name: str) -> str:
    """An item's id as a key: no dots, nothing that leaves the folder, nothing that is skipped."""
    parts = []
    for part in name.split("/"):
        safe = quote(part, safe=" !#$&'()+,;=@[]^_`{}~", encoding="utf-8", errors="surrogatepass")
        safe = safe.replace(".", "%2E")
        parts.append(re.sub(r"^__", "%5F_", safe) or "%")
    return "/".join(parts)


def _members(job: Job, item: "Item") -> Iterator[tuple[str, bytes]]:
    key = key_of(item.id)
    fields = plain_fields(item) | {
        "tokenizer": job.dataset.spec.tokenizer,
        "tokenizer_digest": job.dataset.spec.digest,
    }
    yield f"{key}.codes.npy", npy(item.codes)
    if item.durations is not None:
        yield f"{key}.durations.npy", npy(item.durations)
    yield f"{key}.json", json.dumps(fields, ensure_ascii=False).encode()
    if item.text is not None:
        yield f"{key}.txt", item.text.encode()


def npy(values: np.ndarray) -> bytes:
    """An array as the bytes of a ``.npy`` file."""
    out = io.BytesIO()
    np.save(out, np.ascontiguousarray(values), allow_pickle=False)
    return out.getvalue()
