"""A file of a few flat arrays that is read through memory mapping.

A magic number and the place of the header, then the arrays, then the header as JSON: names, dtypes
and places of the arrays, and what else was noted. It is written once, whole or not at all, from
parts of any size, and is opened without being read.
"""

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ...errors import DatasetError
from ...filesystem import printable, replacing

_MAGIC = b"SYLFLAT1"
_ALIGNMENT = 64


class FlatWriter:
    """Appends to arrays of one file, one after the other.

    Args:
        file: open for writing.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._file.write(_MAGIC + bytes(8))
        self._arrays: dict[str, list[Any]] = {}

    def append(self, name: str, values: np.ndarray) -> None:
        """Values behind those that the array has; a new name begins the next array."""
        plain = np.ascontiguousarray(values)
        if name not in self._arrays:
            self._file.write(bytes(-self._file.tell() % _ALIGNMENT))
            self._arrays[name] = [plain.dtype.str, self._file.tell(), 0]
        assert next(reversed(self._arrays)) == name and self._arrays[name][0] == plain.dtype.str
        self._file.write(plain.reshape(-1).view(np.uint8).data if plain.size else b"")
        self._arrays[name][2] += plain.size

    def finish(self, notes: dict[str, Any]) -> None:
        """Write the header; nothing may be appended after it."""
        at = self._file.tell()
        self._file.write(json.dumps({"arrays": self._arrays, "notes": notes}).encode())
        self._file.seek(len(_MAGIC))
        self._file.write(at.to_bytes(8, "little"))


def read_flat(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays of such a file, memory-mapped, and its notes.

    Raises:
        DatasetError: it is damaged, or of another kind.
        OSError: it can't be read.
    """
    with path.open("rb") as file:
        begin = file.read(len(_MAGIC) + 8)
        size = path.stat().st_size
        at = int.from_bytes(begin[len(_MAGIC) :], "little")
        try:
            if not begin.startswith(_MAGIC) or not len(begin) <= at < size:
                raise ValueError("no such file, or not whole")
            file.seek(at)
            header = json.loads(file.read())
            arrays = {}
            for name, (kind, place, count) in header["arrays"].items():
                dtype = np.dtype(kind)
                if place + count * dtype.itemsize > at:
                    raise ValueError(f"{name} is cut short")
                arrays[name] = (
                    np.memmap(path, dtype, "r", place, (count,)) if count else np.empty(0, dtype)
                )
            return arrays, dict(header["notes"])
        except (ValueError, KeyError, TypeError) as error:
            raise DatasetError(f"{printable(path)}: damaged: {error}; delete it") from None


def flat_file(path: Path, write: Callable[[FlatWriter], dict[str, Any]]) -> Path:
    """A file that is written if it is not there; other processes wait for the one that writes.

    Args:
        path: of the file.
        write: appends all arrays and returns the notes.

    Raises:
        OSError: it can't be written.
    """
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with _alone(path.with_suffix(".lock")):
        if not path.exists():
            with replacing(path) as temporary, temporary.open("wb") as file:
                writer = FlatWriter(file)
                writer.finish(write(writer))
                file.flush()
                os.fsync(file.fileno())
    return path


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
