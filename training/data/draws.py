"""Stateless random numbers, as functions of a purpose and a path of integers."""

import hashlib
import struct
from collections.abc import Sequence

import numpy as np

from ...errors import TrainingError


def draws(purpose: str, path: Sequence[int], count: int) -> np.ndarray:
    """Uniform random numbers that depend only on the arguments.

    They come from a hash, not a generator: there is no state to save, any number can be computed
    without the ones before, and library versions do not change them.

    Args:
        purpose: two purposes with the same path have independent numbers, so that
            disabling one augmentation does not change the others.
        path: such as (seed, batch, row); each from 0 to 2^64 - 1.
        count: how many. The first ones do not depend on it.

    Returns:
        (count,) float64 in [0, 1), multiples of 2^-53.

    Raises:
        TrainingError: a number of the path is negative or too large.
    """
    try:
        numbers = struct.pack(f"<{len(path)}Q", *path)
    except struct.error:
        raise TrainingError(
            f"seeds and batch numbers must be integers from 0 to 2^64 - 1, got {tuple(path)}"
        ) from None
    # The length separates the path from the purpose: no two pairs have the same bytes.
    message = numbers + purpose.encode() + struct.pack("<Q", len(path))
    raw = np.frombuffer(hashlib.shake_256(message).digest(8 * count), "<u8")
    return (raw >> np.uint64(11)) * 2.0**-53
