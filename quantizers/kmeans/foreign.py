"""Load centroids from files of other programs: scikit-learn, fairseq, faiss, NumPy, PyTorch."""

import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ...errors import QuantizerError
from ...filesystem import printable
from .inert_pickle import Inert, read_pickle

#: Names of a matrix of centroids, for files with several matrices.
NAMES = ("centroids", "cluster_centers_", "cluster_centers", "centers", "codebook", "C")
_FLAT_INDEXES = (b"IxFI", b"IxF2", b"IxFl")


def load_centroids(path: str | Path) -> Tensor:
    """Load centroids (K, D) float32 from a file, whose format is detected by its first bytes.

    Supported are `.npy`, `.npz`, safetensors (also from this package), tensors from `torch.save`,
    flat indexes of faiss (`faiss.write_index(kmeans.index, path)`), and scikit-learn estimators
    from `pickle` or `joblib`, as in fairseq's and S3PRL's recipes. Code in a pickle is never run or
    imported. Of several matrices, the one with a name in `NAMES` is used.

    Raises:
        QuantizerError: the file is missing, damaged or of another format, or has no matrix of
            finite floats, or several.
    """
    source = Path(path)
    name = printable(source)
    try:
        with source.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise QuantizerError(f"{name} can't be read: {error.strerror}") from error
    try:
        found = _read(source, head)
    except QuantizerError:
        raise
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, SafetensorError) as error:
        raise QuantizerError(f"{name} can't be read: {error}") from error
    except Exception as error:
        if type(error).__name__ not in ("UnpicklingError", "BadZipFile"):
            raise
        raise QuantizerError(f"{name} is damaged, or has more in it than tensors") from error
    return _checked(found, name)


def _read(path: Path, head: bytes) -> Any:
    if head.startswith(b"\x93NUMPY"):
        return np.load(path, allow_pickle=False)
    if head.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(path) as archive:
            saved_by_torch = any(entry.endswith("/data.pkl") for entry in archive.namelist())
        if saved_by_torch:
            return torch.load(path, map_location="cpu", weights_only=True)
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    if head[:4] in _FLAT_INDEXES:
        return _flat_index(path.read_bytes(), printable(path))
    if head[:4] in (b"IxPT", b"IxMp", b"IwFl", b"IvFl", b"IxPq"):
        raise QuantizerError(f"{printable(path)} is an index of faiss, but not a flat one")
    if head[8:9] == b"{" and head[4:8] == bytes(4):
        with safe_open(path, "pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    return read_pickle(path)


def _flat_index(content: bytes, name: str) -> np.ndarray:
    """Read the vectors of faiss's IndexFlat, in the format of its `write_index`."""
    layout = struct.Struct("<4siqqqBi")
    if len(content) < layout.size + 12:
        raise QuantizerError(f"{name} is cut short")
    _, dim, count, _, _, _, metric = layout.unpack_from(content)
    # Metrics other than inner product and L2 have an argument.
    start = layout.size + (4 if metric > 1 else 0)
    (size,) = struct.unpack_from("<Q", content, start)
    if dim <= 0 or count < 0 or size != dim * count:
        raise QuantizerError(f"{name} is damaged: {size} values for ({count}, {dim})")
    if len(content) < start + 8 + 4 * size:
        raise QuantizerError(f"{name} is cut short")
    return np.frombuffer(content, "<f4", size, start + 8).reshape(count, dim)


def _checked(found: Any, name: str) -> Tensor:
    matrices = dict(_matrices("", found, set()))
    if not matrices:
        raise QuantizerError(f"{name} has no matrix of floats")
    named = [key for known in NAMES for key in matrices if key.split(".")[-1] == known]
    if len(matrices) > 1 and not named:
        raise QuantizerError(f"{name} has several matrices: {', '.join(sorted(matrices))}")
    values = matrices[named[0] if named else next(iter(matrices))]
    if not values.size:
        raise QuantizerError(f"{name} has no centroids: their shape is {values.shape}")
    centroids = torch.from_numpy(values.astype(np.float32))
    if not bool(centroids.isfinite().all()):
        raise QuantizerError(f"{name} has centroids that are NaN or infinite")
    return centroids


def _matrices(key: str, value: Any, seen: set[int]) -> list[tuple[str, np.ndarray]]:
    """Return all float matrices in a value, each once, with dotted names."""
    if id(value) in seen:
        return []
    seen.add(id(value))
    if isinstance(value, Tensor):
        value = value.detach().float().numpy() if value.is_floating_point() else value.numpy()
    if isinstance(value, np.ndarray):
        return [(key, value)] if value.ndim == 2 and value.dtype.kind == "f" else []
    if isinstance(value, Inert):
        value = value.state
    if isinstance(value, dict):
        within = ((f"{key}.{name}" if key else str(name), item) for name, item in value.items())
    elif isinstance(value, list | tuple):
        within = ((f"{key}.{index}", item) for index, item in enumerate(value))
    else:
        return []
    return [matrix for name, item in within for matrix in _matrices(name, item, seen)]
