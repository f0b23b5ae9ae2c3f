"""Dynamic time warping, compiled: distances between segments of frames."""

import math
from typing import Literal

import numpy as np

from ...kernels.cache import kernel

#: Distance of two frames: the angle between them over π, 1 − cosine, or 0 and 1 for equal and
#: different (first values).
Distance = Literal["angular", "cosine", "equal"]

_KINDS = {"angular": 0, "cosine": 1, "equal": 2}


def warped_distances(
    frames: np.ndarray, spans: np.ndarray, pairs: np.ndarray, distance: Distance
) -> np.ndarray:
    """Mean distance along the best path, for many pairs of segments.

    A path connects both first frames to both last ones by steps of one frame in either segment or
    in both. The best path has the smallest sum of distances; ties prefer steps in both, then in the
    first segment alone. The sum is divided by the number of pairs of frames on it.

    Args:
        frames: (frames, dim). A vector of zeros is at a right angle to everything.
        spans: (segments, 2) int64, first frame and the one after the last, at least one.
        pairs: (pairs, 2) int64, indices of segments.
        distance: of frames.

    Returns:
        (pairs,) float64.
    """
    frames = np.asarray(frames, np.float64)
    if distance != "equal":
        norms = np.linalg.norm(frames, axis=1, keepdims=True)
        frames = frames / np.where(norms > 0, norms, 1)
    longest = int((spans[:, 1] - spans[:, 0]).max(initial=1))
    return _all_pairs(
        np.ascontiguousarray(frames),
        spans.astype(np.int64),
        pairs.astype(np.int64),
        _KINDS[distance],
        longest,
    )


@kernel
def _all_pairs(frames, spans, pairs, kind, longest):  # type: ignore[no-untyped-def]
    out = np.empty(len(pairs))
    sums = np.empty((longest, longest))
    steps = np.empty((longest, longest), np.int64)
    for n in range(len(pairs)):
        first = frames[spans[pairs[n, 0], 0] : spans[pairs[n, 0], 1]]
        second = frames[spans[pairs[n, 1], 0] : spans[pairs[n, 1], 1]]
        rows, columns = len(first), len(second)
        for i in range(rows):
            for j in range(columns):
                if kind == 2:
                    cost = 0.0 if first[i, 0] == second[j, 0] else 1.0
                else:
                    cosine = 0.0
                    same = True
                    for k in range(frames.shape[1]):
                        cosine += first[i, k] * second[j, k]
                        same &= first[i, k] == second[j, k]
                    cosine = min(1.0, max(-1.0, cosine))
                    if same and cosine > 0.5:
                        cosine = 1.0  # rounding would give equal frames a distance of 1e-8
                    cost = 1.0 - cosine if kind == 1 else math.acos(cosine) / math.pi
                best, length = 0.0, 0
                if i > 0 and j > 0:
                    best, length = sums[i - 1, j - 1], steps[i - 1, j - 1]
                    if sums[i - 1, j] < best:
                        best, length = sums[i - 1, j], steps[i - 1, j]
                    if sums[i, j - 1] < best:
                        best, length = sums[i, j - 1], steps[i, j - 1]
                elif i > 0:
                    best, length = sums[i - 1, j], steps[i - 1, j]
                elif j > 0:
                    best, length = sums[i, j - 1], steps[i, j - 1]
                sums[i, j] = best + cost
                steps[i, j] = length + 1
        out[n] = sums[rows - 1, columns - 1] / steps[rows - 1, columns - 1]
    return out
