"""Values that users give: integers of any kind, indices of rows, codes in range."""

import operator
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..errors import TokenError

# So few codes are compared as numbers.
_FEW = 64


def integers(values: object, name: str) -> Tensor:
    """Return a tensor of integers, in any dtype, of a tensor, an array or lists.

    Raises:
        TokenError: they are none, or lists of different lengths.
    """
    if isinstance(values, np.ndarray) and values.dtype.kind in "iu":
        return torch.from_numpy(values.astype(np.int64))
    try:
        return torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TokenError(
            f"{name} must be a tensor, an array or lists of integers: {error}"
        ) from None


def row_slice(rows: int | slice, count: int) -> slice:
    """Return the slice of the chosen rows of a batch of `count`.

    Raises:
        IndexError: there is no such row.
    """
    if isinstance(rows, slice):
        return rows
    row = operator.index(rows)
    if not -count <= row < count:
        raise IndexError(f"row {row} of a batch of {count}")
    return slice(row, row + 1 or None)


def check_range(codes: Tensor, sizes: Sequence[int], what: str) -> None:
    """Raise `TokenError` if a code (batch, codebooks, positions) exceeds its codebook's size."""
    if not codes.numel():
        return
    if codes.shape[1] == 1 and codes.numel() <= _FEW:
        numbers = codes.flatten().tolist()  # quicker than two operations of torch
        lowest, highest = [min(numbers)], [max(numbers)]
    else:
        lowest, highest = codes.amin((0, 2)).tolist(), codes.amax((0, 2)).tolist()
    for codebook, (low, high, size) in enumerate(zip(lowest, highest, sizes, strict=True)):
        if low < 0 or high >= size:
            wrong = low if low < 0 else high
            row, position = (codes[:, codebook] == wrong).nonzero()[0].tolist()
            raise TokenError(
                f"{what} {wrong} is out of range: codebook {codebook} has {size} codes (row {row}, "
                f"position {position})"
            )
