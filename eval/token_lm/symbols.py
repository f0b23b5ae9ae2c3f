"""Frames of codes as frames of symbols of small alphabets, one to one.

A softmax over 65,536 codes costs more than the rest of a small model, and most of the codes never
occur in minutes of speech. So a code of a large codebook is written as base-512 digits, the most
significant one first, and the model predicts digit by digit. The product of the conditionals is an
exact distribution over all codes. (Digits of an FSQ code are groups of its levels; those of a
learned codebook are arbitrary, and the model has to learn every pair.)
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..metrics.interface import MetricError

#: Codebooks of at most so many codes are not split.
LARGEST = 1024
#: Base of the digits of the others.
BASE = 512


@dataclass(frozen=True)
class FrameSymbols:
    """How the codes of a frame are written as symbols.

    Attributes:
        codebook_sizes: number of codes of each codebook, in the order in which they are predicted.
    """

    codebook_sizes: tuple[int, ...]

    @cached_property
    def digits(self) -> tuple[tuple[int, ...], ...]:
        """Alphabet sizes of each codebook's symbols."""
        return tuple(map(_digits, self.codebook_sizes))

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Alphabet sizes of all symbols of a frame."""
        return tuple(size for digits in self.digits for size in digits)

    def split(self, codes: np.ndarray) -> np.ndarray:
        """Convert codes (codebooks, frames) to symbols (frames, symbols) int64.

        Raises:
            MetricError: another number of codebooks, or a code is out of range.
        """
        sizes = np.array(self.codebook_sizes)[:, None]
        if codes.ndim != 2 or len(codes) != len(sizes):
            raise MetricError(f"codes of shape {codes.shape}; expected ({len(sizes)}, frames)")
        if codes.size and ((codes < 0) | (codes >= sizes)).any():
            raise MetricError("a code is out of its codebook's range")
        columns = []
        for row, digits in zip(codes.astype(np.int64), self.digits, strict=True):
            for place in reversed(range(len(digits))):
                columns.append(row // BASE**place % BASE if len(digits) > 1 else row)
        return np.stack(columns, axis=1)


def _digits(size: int) -> tuple[int, ...]:
    if size <= LARGEST:
        return (size,)
    low: list[int] = []
    while size > BASE:
        low.append(BASE)
        size = -(-size // BASE)
    return (size, *low)
