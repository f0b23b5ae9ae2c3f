"""The exact scores of `scores.py`, compiled: bit-identical, for one row and one code."""

import numpy as np

from ...kernels.cache import kernel

L2, COSINE, IP = 0, 1, 2
# Stands for a code that a screening could not decide: it would overflow, or has too many
# candidates.
UNDECIDED = -1


@kernel
def exact_score(row, code, metric, norm, work):  # type: ignore[no-untyped-def]
    """Compute the float64 score of row (D,) and code (D,); `work` has space for D float64."""
    dim = row.shape[0]
    if metric == L2:
        for d in range(dim):
            difference = np.float64(row[d]) - np.float64(code[d])
            work[d] = difference * difference
    else:
        for d in range(dim):
            work[d] = np.float64(row[d]) * np.float64(code[d])
    width = 1
    while width < dim:
        width *= 2
    if width > 1:  # the first fold, where terms beyond D are zero
        width //= 2
        for d in range(dim - width):
            work[d] += work[d + width]
    while width > 1:
        width //= 2
        for d in range(width):
            work[d] += work[d + width]
    if metric == L2:
        return work[0]
    if metric == IP:
        return -work[0]
    return -work[0] / norm


@kernel
def settle(row, codebook, norms, metric, candidates, count, work):  # type: ignore[no-untyped-def]
    """Return the best of candidates[:count] (code indices, in any order) and its score."""
    code = candidates[0]
    best = exact_score(row, codebook[code], metric, norms[code], work)
    for i in range(1, count):
        other = candidates[i]
        score = exact_score(row, codebook[other], metric, norms[other], work)
        if score < best or (score == best and other < code):
            best, code = score, other
    return code, best
