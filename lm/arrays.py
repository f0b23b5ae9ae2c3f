"""The few array operations that `lm` needs, for NumPy arrays and for torch tensors alike.

What comes in as a tensor goes out as one, on its device. Tensors of the CPU are worked on as NumPy
arrays of the same memory, whose operations cost a fifth of torch's where arrays are small; those of
other devices stay there. torch is loaded by those who hold tensors already, and by nobody else.
"""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import TokenError

#: A NumPy array, or a torch tensor.
Array = Any


class Arrays:
    """Makes arrays of the kind of a given one.

    Args:
        like: a NumPy array, a torch tensor, or nested lists of integers (which count as NumPy's).
    """

    #: Devices whose tensors NumPy can see.
    numpy_devices: tuple[str, ...] = ("cpu",)

    def __init__(self, like: Array) -> None:
        torch = sys.modules.get("torch")
        self._tensors: Any = torch if torch and isinstance(like, torch.Tensor) else None
        self.device = like.device if self._tensors else None
        here = self.device is None or self.device.type in self.numpy_devices
        self.torch: Any = None if here else self._tensors

    def give(self, array: Array) -> Array:
        """What was worked out, as the kind that was given."""
        return self._tensors.from_numpy(array) if self._tensors and not self.torch else array

    def integers(self, values: Any, what: str) -> Array:
        """The values as an array of integers of this kind, in the dtype that they have.

        Raises:
            TokenError: they are no integers, or rows of different lengths.
        """
        if self.torch:
            array = self.torch.as_tensor(values, device=self.device)
            dtype = array.dtype
            good = not (dtype.is_floating_point or dtype.is_complex or dtype == self.torch.bool)
            # torch compares and adds its unsigned types only by way of int64.
            array = array.long() if good and dtype != self.torch.long else array
        else:
            try:
                array = np.asarray(values.cpu() if hasattr(values, "cpu") else values)
            except ValueError as error:
                raise TokenError(f"{what} must be one array of integers: {error}") from None
            dtype = array.dtype
            good = dtype.kind in "iu"
            if array.size == 0 and not good and not hasattr(values, "dtype"):
                array, good = array.astype(np.int64), True
        if not good:
            raise TokenError(f"{what} must be integers, got {dtype}")
        return array

    def full(self, shape: tuple[int, ...], value: int) -> Array:
        """int64, all of one value."""
        if self.torch:
            return self.torch.full(shape, value, dtype=self.torch.long, device=self.device)
        return np.full(shape, value, np.int64)

    def empty(self, shape: tuple[int, ...]) -> Array:
        """int64, to be filled."""
        if self.torch:
            return self.torch.empty(shape, dtype=self.torch.long, device=self.device)
        return np.empty(shape, np.int64)

    def false(self, shape: tuple[int, ...]) -> Array:
        if self.torch:
            return self.torch.zeros(shape, dtype=self.torch.bool, device=self.device)
        return np.zeros(shape, bool)

    def column(self, values: Sequence[int]) -> Array:
        """int64 (values, 1)."""
        if self.torch:
            return self.torch.tensor(values, dtype=self.torch.long, device=self.device)[:, None]
        return np.array(values, np.int64)[:, None]

    def arange(self, stop: int) -> Array:
        if self.torch:
            return self.torch.arange(stop, device=self.device)
        return np.arange(stop)

    def where(self, condition: Array, value: Array, other: Array) -> Array:
        return (self.torch or np).where(condition, value, other)

    def join(self, parts: list[Array]) -> Array:
        """Concatenated along the last axis."""
        if len(parts) == 1:
            return parts[0]
        return self.torch.cat(parts, -1) if self.torch else np.concatenate(parts, -1)

    def view(
        self, array: Array, start: tuple[int, int], shape: tuple[int, int, int], moves: Any
    ) -> Array:
        """A view (batch, n, m) of (batch, rows, columns): element [b, i, j] is at
        ``start + i × moves[0] + j × moves[1]``, of rows and columns.

        All of them must lie inside the array; moves are not negative.
        """
        steps = array.stride() if self.torch else array.strides
        offset = start[0] * steps[1] + start[1] * steps[2]
        strides = (steps[0], *(move[0] * steps[1] + move[1] * steps[2] for move in moves))
        if self.torch:
            return array.as_strided(shape, strides, array.storage_offset() + offset)
        if 0 in shape:
            return np.empty(shape, array.dtype)
        if array.flags.c_contiguous:  # a tenth of the time of what follows
            return np.ndarray(shape, array.dtype, array, offset, strides)
        whole = array[:, start[0] :, start[1] :]
        return np.lib.stride_tricks.as_strided(whole, shape, strides)

    def nonzero(self, mask: Array) -> tuple[Array, ...]:
        return mask.nonzero(as_tuple=True) if self.torch else mask.nonzero()

    def shifted(self, array: Array, by: "int | Array") -> Array:
        """int64, each value plus `by`, also where the given dtype could not hold the sum."""
        if self.torch:
            return array if isinstance(by, int) and not by else array + by
        return np.add(array, by, dtype=np.int64, casting="unsafe")

    def bounds(self, array: Array) -> tuple[int, int]:
        """Least and greatest value; of an empty array, none that is out of any range."""
        if 0 in array.shape:
            return 0, 0
        if self.torch:
            least, greatest = array.aminmax()
            return int(least), int(greatest)
        return int(array.min()), int(array.max())

    def within(self, array: Array, stop: int) -> bool:
        """Whether all values lie in 0..stop - 1."""
        if self.torch or array.dtype != np.int64 or not array.size:
            least, greatest = self.bounds(array)
            return least >= 0 and greatest < stop
        return bool(array.view(np.uint64).max() < stop)  # negative ones are the greatest of all

    def rows(self, parts: list[Array]) -> Array:
        """Arrays of the given kind as the rows of one: one more axis, before the last."""
        return self._tensors.stack(parts, -2) if self._tensors else np.stack(parts, -2)

    def below(self, *parts: Array) -> Array:
        """Arrays of the given kind, concatenated along the axis before the last."""
        return self._tensors.cat(parts, -2) if self._tensors else np.concatenate(parts, -2)
