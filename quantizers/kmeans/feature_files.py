"""Read feature files a few rows at a time: `.npy`, safetensors and raw floats.

Rows are read, not memory-mapped: mapped pages count as the process's memory once touched.
"""

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...errors import QuantizerError
from ...filesystem import printable

#: Suffixes of raw files, and their dtypes.
RAW_DTYPES = {".f16": torch.float16, ".f32": torch.float32}
SUFFIXES = (".npy", ".safetensors", *RAW_DTYPES)
_NPY_DTYPES = {"<f2": torch.float16, "<f4": torch.float32, "<f8": torch.float64}
_SAFETENSORS_DTYPES = {
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}
_LONGEST_HEADER = 100 << 20


@dataclass(frozen=True)
class FileShard:
    """A matrix of features (num_rows, dim) in a file, stored by rows from byte `offset` on."""

    name: str
    path: Path
    offset: int
    dtype: torch.dtype
    num_rows: int
    dim: int

    def read_into(self, out: Tensor, start: int) -> None:
        """Fill float32 `out` (n, dim) with rows, from row `start` on.

        Raises:
            QuantizerError: the file is too short, or can't be read.
        """
        rows = out if self.dtype == torch.float32 else torch.empty(out.shape, dtype=self.dtype)
        view = rows.view(torch.uint8).numpy().reshape(-1).data
        try:
            with self.path.open("rb", buffering=0) as file:
                file.seek(self.offset + start * self.dim * rows.element_size())
                done = 0
                while done < len(view):
                    count = file.readinto(view[done:])
                    if not count:
                        raise QuantizerError(f"{self.name} is cut short")
                    done += count
        except OSError as error:
            raise QuantizerError(f"{self.name} can't be read: {error.strerror}") from error
        if rows is not out:
            out.copy_(rows)


def shards_of_file(path: Path, dim: int | None) -> list[FileShard]:
    """List the matrices in a file, from its header.

    Args:
        path: `.npy`; `.safetensors`, with all its tensors in order of name; `.f32` or `.f16`, raw
            little-endian rows.
        dim: of raw rows.

    Raises:
        QuantizerError: a file that is missing, damaged, truncated, empty, or of another format.
    """
    name = printable(path)
    try:
        if path.suffix == ".npy":
            shards = [_npy(path, name)]
        elif path.suffix == ".safetensors":
            shards = _safetensors(path, name)
        elif path.suffix in RAW_DTYPES:
            shards = [_raw(path, name, dim)]
        else:
            raise QuantizerError(f"{name}: expected a file of {', '.join(SUFFIXES)}")
        size = path.stat().st_size
    except OSError as error:
        raise QuantizerError(f"{name} can't be read: {error.strerror}") from error
    for shard in shards:
        if not shard.num_rows or not shard.dim:
            raise QuantizerError(f"{shard.name} is empty: ({shard.num_rows}, {shard.dim})")
        if size < shard.offset + shard.num_rows * shard.dim * shard.dtype.itemsize:
            raise QuantizerError(f"{shard.name} is cut short")
    return shards


def _npy(path: Path, name: str) -> FileShard:
    with path.open("rb") as file:
        try:
            version = np.lib.format.read_magic(file)
            if version == (1, 0):
                shape, by_columns, dtype = np.lib.format.read_array_header_1_0(file)
            else:
                shape, by_columns, dtype = np.lib.format.read_array_header_2_0(file)
        except ValueError as error:
            raise QuantizerError(f"{name} is not a .npy file: {error}") from error
        offset = file.tell()
    _check_matrix(name, shape)
    if dtype.str not in _NPY_DTYPES:
        raise QuantizerError(f"{name} must hold float16, float32 or float64, got {dtype.str}")
    if by_columns and min(shape) > 1:
        raise QuantizerError(f"{name} is stored by columns; save np.ascontiguousarray of it")
    return FileShard(name, path, offset, _NPY_DTYPES[dtype.str], *shape)


def _safetensors(path: Path, name: str) -> list[FileShard]:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(_LONGEST_HEADER, os.fstat(file.fileno()).st_size):
            raise QuantizerError(f"{name} is not a safetensors file")
        text = file.read(length)
    shards = []
    try:
        header = json.loads(text)
        for key, entry in sorted(header.items()):
            if key == "__metadata__":
                continue
            within = f"{name}, tensor {key!r}"
            shape, (start, stop) = entry["shape"], entry["data_offsets"]
            _check_matrix(within, shape)
            if entry["dtype"] not in _SAFETENSORS_DTYPES:
                raise QuantizerError(f"{within} must hold floats, got {entry['dtype']}")
            dtype = _SAFETENSORS_DTYPES[entry["dtype"]]
            if min(*shape, start) < 0 or stop - start != math.prod(shape) * dtype.itemsize:
                raise QuantizerError(f"{within} has a shape unlike its bytes")
            shards.append(FileShard(within, path, 8 + length + start, dtype, *shape))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, QuantizerError):
            raise
        raise QuantizerError(f"{name} is not a safetensors file") from error
    if not shards:
        raise QuantizerError(f"{name} holds no tensor")
    return shards


def _raw(path: Path, name: str, dim: int | None) -> FileShard:
    if dim is None or dim < 1:
        raise QuantizerError(f"{name} holds raw rows: say their dim, 1 or more; got {dim}")
    dtype = RAW_DTYPES[path.suffix]
    num_rows, rest = divmod(path.stat().st_size, dim * dtype.itemsize)
    if rest:
        raise QuantizerError(f"{name} is no whole number of {dtype} rows of {dim} dimensions")
    return FileShard(name, path, 0, dtype, num_rows, dim)


def _check_matrix(name: str, shape: object) -> None:
    if not isinstance(shape, tuple | list) or len(shape) != 2:
        raise QuantizerError(f"{name} must have shape (rows, dim), got {shape}")
