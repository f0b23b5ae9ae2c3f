"""Exact scores: float64, summed in one fixed order on every device.

A sum of D terms is padded with zeros to a power of two and folded in halves. Each step is
elementwise, so that batch shapes, vector units and devices change no bit of it.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

Metric = Literal["l2", "cosine", "ip"]
METRICS: tuple[str, ...] = get_args(Metric)


def folded_sum(terms: Tensor) -> Tensor:
    """Sum over the last axis of (…, D), in the order that the module's docstring gives."""
    width = 1 << max(0, (terms.shape[-1] - 1).bit_length())
    terms = torch.nn.functional.pad(terms, (0, width - terms.shape[-1]))
    while width > 1:
        width //= 2
        terms = terms[..., :width] + terms[..., width:]
    return terms[..., 0]


def code_norms(codebook: Tensor) -> Tensor:
    """Return float64 lengths (K,) of codes (K, D); 1 for a zero code, whose cosine is always 0."""
    squares = codebook.double().square()
    norms = folded_sum(squares).sqrt()
    return torch.where(norms == 0, 1.0, norms)


def exact_scores(rows: Tensor, codes: Tensor, metric: Metric, norms: Tensor | None) -> Tensor:
    """Compute float64 scores; lower is nearer.

    Args:
        rows: (…, D) queries.
        codes: (…, D) codes, one for each query.
        metric: squared Euclidean distance, minus the inner product, or minus the inner product over
            the code's length.
        norms: (…,) lengths of the codes, for "cosine".
    """
    rows, codes = rows.double(), codes.double()
    if metric == "l2":
        difference = rows - codes
        return folded_sum(difference * difference)
    products = -folded_sum(rows * codes)
    if metric == "ip":
        return products
    assert norms is not None
    return products / norms


def distances_of(scores: Tensor, rows: Tensor, metric: Metric) -> Tensor:
    """Convert scores of the nearest codes of rows (N, D) to float32 distances (N,)."""
    if metric == "cosine":
        # In blocks, since float64 copies of all rows would take more memory than the search.
        squares = [folded_sum(block.double().square()) for block in rows.split(1024)]
        lengths = torch.cat(squares).sqrt()
        scores = 1 + scores / torch.where(lengths == 0, 1.0, lengths)
    return scores.float()
