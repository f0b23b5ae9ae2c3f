"""Megatron-LM's indexed data set: ``SPLIT.bin`` has the ids, ``SPLIT.idx`` where each document is.

The bytes are those of Megatron's own builder. Where that wraps ids that its dtype can't hold
(70,000 becomes 4,464 in uint16), this refuses them. The index is written in pieces: its size in
memory is four bytes a document.
"""

import struct
from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ...errors import DatasetError
from .job import Job

_MAGIC = b"MMIDIDX\x00\x00"
_VERSION = 1
_DTYPES = {"uint8": 1, "int8": 2, "int16": 3, "int32": 4, "int64": 5, "uint16": 8}
#: Megatron takes uint16 for vocabularies of fewer ids than this, and int32 for others.
_SMALL_VOCABULARY = 65_500
_PIECE = 1 << 20


def write(job: Job) -> None:
    """`SPLIT.bin` and `SPLIT.idx` of each split: one sequence, which is a document, an item."""
    dtype = dtype_of(job)
    for split, documents in job.ids():
        write_pair(job.folder / split, documents, dtype)


def dtype_of(job: Job) -> np.dtype:
    """As asked for, or as Megatron chooses by the size of the vocabulary."""
    if job.dtype is None:
        sizes = job.dataset.spec.codebook_sizes
        size = job.vocabulary.stop if job.vocabulary else max(sizes)
        return np.dtype(np.uint16 if size < _SMALL_VOCABULARY else np.int32)
    if job.dtype not in _DTYPES:
        raise DatasetError(f"dtype {job.dtype!r}; Megatron has {', '.join(_DTYPES)}")
    return np.dtype(job.dtype)


def write_pair(
    prefix: Path, documents: "Iterator[tuple[str, np.ndarray]]", dtype: np.dtype
) -> None:
    """Documents of one sequence each as ``prefix.bin`` and ``prefix.idx``.

    Args:
        documents: name and ids (n,) of each.
        dtype: of the ids in the file.

    Raises:
        DatasetError: an id that the dtype can't hold, named with its document.
    """
    lengths = array("i")
    with Path(f"{prefix}.bin").open("wb") as file:
        for name, ids in documents:
            file.write(fitted(name, ids, dtype).tobytes())
            lengths.append(len(ids))
    with Path(f"{prefix}.idx").open("wb") as file:
        count = len(lengths)
        file.write(_MAGIC + struct.pack("<QBQQ", _VERSION, _DTYPES[dtype.name], count, count + 1))
        sizes = np.frombuffer(lengths, np.int32) if count else np.empty(0, np.int32)
        file.write(sizes.astype("<i4", copy=False).tobytes())
        at = 0
        for first in range(0, count, _PIECE):
            ends = at + np.cumsum(sizes[first : first + _PIECE], dtype=np.int64) * dtype.itemsize
            begins = np.concatenate([[at], ends[:-1]])
            at = int(ends[-1])
            file.write(begins.astype("<i8").tobytes())
        for first in range(0, count + 1, _PIECE):
            file.write(np.arange(first, min(first + _PIECE, count + 1), dtype="<i8").tobytes())


def fitted(name: str, ids: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Ids in a dtype; raise `DatasetError`, naming the document, where one doesn't fit."""
    limits = np.iinfo(dtype)
    wrong = (ids < limits.min) | (ids > limits.max)
    if wrong.any():
        raise DatasetError(
            f"{name}: id {int(ids[wrong][0])} doesn't fit in {dtype.name}, which ends at "
            f"{limits.max}: take a wider dtype"
        )
    return ids.astype(dtype.newbyteorder("<"))
