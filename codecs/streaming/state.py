"""States as trees of tensors: taken apart into named tensors, and put together again.

A tree has dataclasses, lists, tuples and None for its branches, and tensors, NumPy arrays and
scalars, ints, floats and bools for its leaves. It is put together after the pattern of a fresh one,
which owns structure, shapes and dtypes: nothing in the bytes of a state says what to build.
"""

import copy
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from ...errors import StateError

T = TypeVar("T")

#: Counters of samples reach this in ten thousand years.
MOST_COUNT = 2**53


def flatten(state: Any, name: str = "state") -> dict[str, Tensor]:
    """The leaves of a tree by their paths, on the CPU; a number is a tensor without dimensions.

    Raises:
        StateError: a leaf is of a type that a state can't have.
    """
    return {path: _tensor(leaf, path).cpu() for path, leaf in _leaves(state, name)}


def rebuild(like: T, tensors: Mapping[str, Tensor], name: str = "state") -> T:
    """A tree like another one, with the leaves that `flatten` gave.

    Args:
        like: gives the structure, shapes, dtypes and devices.
        tensors: by path; each leaf's, and possibly others.
        name: path of the tree.

    Raises:
        StateError: a leaf is missing, of another shape or dtype, not finite, or beyond what counts.
    """
    branches = _branches(like)
    if branches is None:
        leaf: T = _leaf_like(like, tensors, name)
        return leaf
    parts = [rebuild(part, tensors, f"{name}.{key}") for key, part in branches]
    if dataclasses.is_dataclass(like):
        # Frozen ones too, and without what their constructors may do beside.
        same = copy.copy(like)
        for (key, _), part in zip(branches, parts, strict=True):
            object.__setattr__(same, key, part)
        return same
    if like is None:
        return like
    kind: Any = type(like)
    made: T = kind(*parts) if hasattr(like, "_fields") else kind(parts)
    return made


def size_in_bytes(state: Any) -> int:
    """Bytes of all leaves, numbers counted as 8."""
    return sum(
        leaf.nbytes if isinstance(leaf, Tensor | np.ndarray) else 8
        for _, leaf in _leaves(state, "state")
    )


def _branches(state: Any) -> list[tuple[str, Any]] | None:
    """The parts of a tree, or None for a leaf."""
    if state is None:
        return []
    if dataclasses.is_dataclass(state) and not isinstance(state, type):
        return [(field.name, getattr(state, field.name)) for field in dataclasses.fields(state)]
    if isinstance(state, list | tuple):
        return [(str(index), part) for index, part in enumerate(state)]
    return None


def _leaves(state: Any, name: str) -> Iterator[tuple[str, Any]]:
    branches = _branches(state)
    if branches is None:
        yield name, state
        return
    for key, part in branches:
        yield from _leaves(part, f"{name}.{key}")


def _tensor(leaf: Any, path: str) -> Tensor:
    if isinstance(leaf, Tensor):
        if leaf.dtype == torch.complex128:  # which safetensors lacks
            raise StateError(f"{path}: a state can't have {leaf.dtype}")
        return leaf.detach()
    if isinstance(leaf, np.ndarray | np.generic):
        return torch.from_numpy(np.array(leaf, order="C"))
    for kind, dtype in ((bool, torch.bool), (int, torch.int64), (float, torch.float64)):
        if isinstance(leaf, kind):
            return torch.tensor(leaf, dtype=dtype)
    raise StateError(f"{path}: a state can't have a {type(leaf).__name__}")


def _leaf_like(like: Any, tensors: Mapping[str, Tensor], path: str) -> Any:
    pattern = _tensor(like, path)
    tensor = tensors.get(path)
    if tensor is None:
        raise StateError(f"{path} is missing")
    if tensor.dtype != pattern.dtype or tensor.shape != pattern.shape:
        raise StateError(
            f"{path} is {tensor.dtype} {tuple(tensor.shape)}, expected {pattern.dtype} "
            f"{tuple(pattern.shape)}"
        )
    if not bool(tensor.isfinite().all()):
        raise StateError(f"{path} holds NaN or infinity")
    if isinstance(like, Tensor):
        # A copy: loaded tensors may lie in memory that can't be written.
        return torch.empty_like(like).copy_(tensor)
    if isinstance(like, np.ndarray):
        return tensor.numpy().copy()
    if isinstance(like, np.generic):
        return tensor.numpy()[()]
    value = tensor.item()
    if isinstance(value, int) and abs(value) > MOST_COUNT:
        raise StateError(f"{path} is {value}, beyond anything that counts")
    return value
