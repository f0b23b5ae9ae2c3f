"""Convert stream states (trees of tensors) to named tensors and back.

A tree has dataclasses, lists, tuples and None as branches; its leaves are tensors, NumPy arrays and
scalars, ints, floats and bools. It is rebuilt with a freshly initialized state as template, which
alone determines structure, shapes and dtypes: serialized bytes never do.
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

#: Upper limit for counters; a count of samples would reach it after ten thousand years.
MOST_COUNT = 2**53


def flatten(state: Any, name: str = "state") -> dict[str, Tensor]:
    """Return a tree's leaves by path, on the CPU; numbers become tensors without dimensions.

    Raises:
        StateError: a leaf is of a type that a state can't have.
    """
    return {path: _tensor(leaf, path).cpu() for path, leaf in _leaves(state, name)}


def rebuild(like: T, tensors: Mapping[str, Tensor], name: str = "state") -> T:
    """Rebuild a tree from the leaves that `flatten` returned.

    Args:
        like: the template for structure, shapes, dtypes and devices.
        tensors: leaves by path; others are ignored.
        name: path of the tree.

    Raises:
        StateError: a leaf is missing, has another shape or dtype, is not finite, or is a count
            above the limit.
    """
    branches = _branches(like)
    if branches is None:
        leaf: T = _leaf_like(like, tensors, name)
        return leaf
    parts = [rebuild(part, tensors, f"{name}.{key}") for key, part in branches]
    if dataclasses.is_dataclass(like):
        # Works for frozen dataclasses too, and without calling their constructors.
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
    """Bytes of all leaves; numbers count as 8."""
    return sum(
        leaf.nbytes if isinstance(leaf, Tensor | np.ndarray) else 8
        for _, leaf in _leaves(state, "state")
    )


def _branches(state: Any) -> list[tuple[str, Any]] | None:
    """Return a tree's named parts, or None for a leaf."""
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
        if leaf.dtype == torch.complex128:  # not supported by safetensors
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
        # Copied, since loaded tensors may lie in read-only memory.
        return torch.empty_like(like).copy_(tensor)
    if isinstance(like, np.ndarray):
        return tensor.numpy().copy()
    if isinstance(like, np.generic):
        return tensor.numpy()[()]
    value = tensor.item()
    if isinstance(value, int) and abs(value) > MOST_COUNT:
        raise StateError(f"{path} is {value}, beyond anything that counts")
    return value
