"""Levels of finite scalar quantization: the constants of the paper's bound, and rounding steps.

Mentzer et al., "Finite Scalar Quantization: VQ-VAE Made Simple" (arXiv 2309.15505).
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..errors import QuantizerError

# From the paper: keeps tanh from reaching the outermost rounding edge.
_EPSILON = 1e-3


def check_fsq_levels(levels: Sequence[int]) -> None:
    """Check the numbers of levels (D,) of a quantizer's channels.

    Raises:
        QuantizerError: there are none, one is below 2, or there are more codes than 63 bits number.
    """
    if not len(levels) or any(size < 2 for size in levels):
        raise QuantizerError(f"levels must be 2 or more in each channel, got {tuple(levels)}")
    if math.prod(levels) >= 1 << 63:
        raise QuantizerError(f"{tuple(levels)} levels give more codes than 63 bits can number")


def bound_constants(levels: Sequence[int]) -> tuple[list[float], list[float], list[float]]:
    """Return half widths, offsets and shifts (D,) of the paper's bound."""
    half = [(size - 1) * (1 + _EPSILON) / 2 for size in levels]
    offset = [0.0 if size % 2 else 0.5 for size in levels]
    shift = [math.atanh(o / h) for o, h in zip(offset, half, strict=True)]
    return half, offset, shift


def fsq_thresholds(levels: Sequence[int]) -> Tensor:
    """Return each channel's rounding steps: (D, max(levels) - 1) float32, padded with infinity.

    The level of a float32 z is the number of thresholds at or below it: they are computed in
    float64 and rounded up.
    """
    thresholds = np.full((len(levels), max(levels) - 1), np.inf, np.float32)
    for channel, constants in enumerate(zip(levels, *bound_constants(levels), strict=True)):
        size, half, offset, shift = constants
        for step in range(size - 1):
            exact = math.atanh((step - size // 2 + 0.5 + offset) / half) - shift
            rounded = np.float32(exact)
            if float(rounded) < exact:
                rounded = np.nextafter(rounded, np.float32(np.inf))
            thresholds[channel, step] = rounded
    return torch.from_numpy(thresholds)
