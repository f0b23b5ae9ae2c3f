"""Features from any source, as a stream of blocks that can be read repeatedly."""

import warnings
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ...errors import QuantizerError
from ...filesystem import printable
from .feature_files import SUFFIXES, FileShard, shards_of_file

Array = Tensor | np.ndarray
#: A matrix; a file or folder, or several; or something that yields matrices at each iteration.
Source = Array | str | Path | Sequence[str | Path] | Iterable[Array] | Callable[[], Iterable[Array]]


class Features(Protocol):
    """Rows of `dim` features.

    `num_rows` is None until they have been counted.
    """

    dim: int
    num_rows: int | None

    def blocks(self, batch_size: int, start: int = 0) -> Iterator[Tensor]:
        """Yield float32 rows (batch_size, dim) from row `start` on; the last block may be shorter.

        A block may be a buffer that the next one overwrites.
        """

    def where(self, row: int) -> str:
        """Describe the place of a row, for messages."""


def open_features(source: Source | Features, dim: int | None = None) -> Features:
    """Open features from any source that `KMeans.fit` accepts.

    Args:
        source: a tensor or array (N, dim); a `.npy`, `.safetensors`, `.f32` or `.f16` file, a
            folder of such files (by name), or a sequence of paths; an iterable of arrays (n, dim)
            that can be iterated again and gives the same rows again; or a function that returns
            one, such as a generator function.
        dim: of the rows of `.f32` and `.f16` files.

    Raises:
        QuantizerError: the source is empty or missing, or of a wrong shape or dtype.
    """
    if isinstance(source, Tensor | np.ndarray):
        return StoredFeatures([_MemoryShard("features", as_matrix(source, "features"))])
    if isinstance(source, str | Path):
        return StoredFeatures(_shards_of_path(Path(source), dim))
    if hasattr(source, "blocks") and hasattr(source, "where"):
        return source  # type: ignore[return-value]
    if isinstance(source, Sequence) and all(isinstance(item, str | Path) for item in source):
        return StoredFeatures([s for item in source for s in _shards_of_path(Path(item), dim)])
    if isinstance(source, Sequence):
        return StoredFeatures(
            [
                _MemoryShard(f"array {i}", as_matrix(item, f"array {i}"))
                for i, item in enumerate(source)
            ]
        )
    if callable(source):
        return StreamedFeatures(source)
    if isinstance(source, Iterator):
        raise QuantizerError(
            "features from an iterator can be read only once; pass the function that makes it"
        )
    if isinstance(source, Iterable):
        return StreamedFeatures(source.__iter__)
    raise QuantizerError(f"features can't be read from {type(source).__name__}")


def _shards_of_path(path: Path, dim: int | None) -> list[FileShard]:
    if not path.is_dir():
        return shards_of_file(path, dim)
    files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
    if not files:
        raise QuantizerError(f"{printable(path)} has no file of {', '.join(SUFFIXES)}")
    return [shard for file in files for shard in shards_of_file(file, dim)]


def as_matrix(values: Any, name: str) -> Tensor:
    """Convert values to a tensor (n, dim) that shares their memory if possible."""
    if isinstance(values, np.ndarray):
        if values.dtype not in (np.float16, np.float32, np.float64):
            raise QuantizerError(f"{name} must hold floats, got {values.dtype}")
        if not values.dtype.isnative or min(values.strides, default=0) < 0:
            # Memory layouts that torch can't share.
            values = np.array(values, values.dtype.newbyteorder("="))
        with warnings.catch_warnings():
            # Read-only arrays, such as memory maps, are fine, since this only reads.
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            values = torch.from_numpy(values)
    if not isinstance(values, Tensor):
        raise QuantizerError(f"{name} must be a tensor or an array, got {type(values).__name__}")
    if not values.is_floating_point():
        raise QuantizerError(f"{name} must hold floats, got {values.dtype}")
    if values.ndim != 2:
        raise QuantizerError(f"{name} must have shape (rows, dim), got {tuple(values.shape)}")
    if 0 in values.shape:
        raise QuantizerError(f"{name} is empty: {tuple(values.shape)}")
    return values.detach()


@dataclass(frozen=True)
class _MemoryShard:
    name: str
    values: Tensor

    @property
    def num_rows(self) -> int:
        return self.values.shape[0]

    @property
    def dim(self) -> int:
        return self.values.shape[1]

    def read_into(self, out: Tensor, start: int) -> None:
        out.copy_(self.values[start : start + out.shape[0]])


class StoredFeatures:
    """Concatenated matrices in memory or in files."""

    def __init__(self, shards: Sequence[FileShard | _MemoryShard]):
        if not shards:
            raise QuantizerError("there are no features")
        self.dim = shards[0].dim
        for shard in shards:
            if shard.dim != self.dim:
                raise QuantizerError(
                    f"{shard.name} has {shard.dim} dimensions, but {shards[0].name} has {self.dim}"
                )
        self._shards = shards
        self._starts = [0, *accumulate(shard.num_rows for shard in shards)]
        self.num_rows: int | None = self._starts[-1]

    def blocks(self, batch_size: int, start: int = 0) -> Iterator[Tensor]:
        buffer: Tensor | None = None
        for first in range(start, self._starts[-1], batch_size):
            last = min(first + batch_size, self._starts[-1])
            block = self._view(first, last)
            if block is None:
                if buffer is None:
                    buffer = torch.empty(batch_size, self.dim)
                block = buffer[: last - first]
                self._read(block, first)
            yield block

    def _view(self, first: int, last: int) -> Tensor | None:
        """Return rows as a view of memory, if possible."""
        number = bisect_right(self._starts, first) - 1
        shard = self._shards[number]
        if isinstance(shard, _MemoryShard) and last <= self._starts[number + 1]:
            rows = shard.values[first - self._starts[number] : last - self._starts[number]]
            if rows.dtype == torch.float32 and rows.is_contiguous():
                return rows
        return None

    def _read(self, out: Tensor, first: int) -> None:
        done = 0
        while done < out.shape[0]:
            number = bisect_right(self._starts, first + done) - 1
            count = min(out.shape[0] - done, self._starts[number + 1] - first - done)
            offset = first + done - self._starts[number]
            self._shards[number].read_into(out[done : done + count], offset)
            done += count

    def where(self, row: int) -> str:
        number = bisect_right(self._starts, row) - 1
        return f"{self._shards[number].name}, row {row - self._starts[number]},"


class StreamedFeatures:
    """Matrices from a function that is called for each pass, such as an encoder's outputs.

    It must give the same rows in the same order each time.
    """

    def __init__(self, read: Callable[[], Iterable[Array]]):
        self._read = read
        self._starts: list[int] = []
        first = next(iter(read()), None)
        if first is None:
            raise QuantizerError("there are no features: the iterable gave no array")
        self.dim = as_matrix(first, "array 0").shape[1]
        self.num_rows: int | None = None

    def blocks(self, batch_size: int, start: int = 0) -> Iterator[Tensor]:
        buffer = torch.empty(batch_size, self.dim)
        filled = row = 0
        self._starts = []
        for number, item in enumerate(self._read()):
            values = as_matrix(item, f"array {number}")
            if values.shape[1] != self.dim:
                raise QuantizerError(
                    f"array {number} has {values.shape[1]} dimensions, but array 0 has {self.dim}"
                )
            self._starts.append(row)
            done = min(max(0, start - row), values.shape[0])
            row += values.shape[0]
            while done < values.shape[0]:
                count = min(batch_size - filled, values.shape[0] - done)
                buffer[filled : filled + count] = values[done : done + count]
                filled += count
                done += count
                if filled == batch_size:
                    yield buffer
                    filled = 0
        if filled:
            yield buffer[:filled]
        if self.num_rows not in (None, row):
            raise QuantizerError(f"the features had {self.num_rows} rows, and now {row}")
        self.num_rows = row

    def where(self, row: int) -> str:
        number = bisect_right(self._starts, row) - 1
        return f"array {number}, row {row - self._starts[number]},"
