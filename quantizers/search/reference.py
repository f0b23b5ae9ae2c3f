"""Nearest codes in plain torch, for any device: float64 matrix products over tiles of rows."""

import torch
from torch import Tensor

from .scores import Metric, code_norms, exact_scores

# Scores that are held at once: 32 MB of float64.
_TILE_SCORES = 1 << 22
_UNIT = 2.0**-53


class ReferenceSearch:
    """Float64 products, then `exact_scores` for what rounding can't tell apart."""

    name = "torch"

    def __init__(self, codebook: Tensor, metric: Metric):
        self.codebook = codebook
        self.metric: Metric = metric
        self._norms = code_norms(codebook)
        codes = codebook.double()
        if metric == "cosine":
            codes = codes / self._norms[:, None]
        self._codes = codes.T.contiguous()
        squares = codes.square().sum(1)
        self._offsets = squares / 2 if metric == "l2" else torch.zeros_like(squares)
        self._longest = float(squares.max().sqrt())

    def search(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Codes (N,) int64 of rows (N, D) and their float64 scores (N,)."""
        tile = max(1, _TILE_SCORES // self.codebook.shape[0])
        codes = torch.empty(rows.shape[0], dtype=torch.int64, device=rows.device)
        scores = torch.empty(rows.shape[0], dtype=torch.float64, device=rows.device)
        for start in range(0, rows.shape[0], tile):
            part = slice(start, start + tile)
            codes[part], scores[part] = self._search_tile(rows[part])
        return codes, scores

    def _search_tile(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        products = torch.addmm(self._offsets, rows.double(), self._codes, alpha=-1)
        lengths = rows.double().square().sum(1).sqrt()
        terms = rows.shape[1] + 8
        margins = 4 * terms * _UNIT * (lengths + self._longest) * (self._longest + lengths)
        near = products <= (products.amin(1) + margins)[:, None]
        row, code = near.nonzero(as_tuple=True)
        return decide(rows, self.codebook, row, code, self.metric, self._norms)


def decide(
    rows: Tensor, codebook: Tensor, row: Tensor, code: Tensor, metric: Metric, norms: Tensor
) -> tuple[Tensor, Tensor]:
    """The best candidate of each row, by exact score, the lowest index among equals.

    Args:
        rows: (N, D) queries.
        codebook: (K, D).
        row, code: (M,) candidates, at least one for each row.
        metric: see `exact_scores`.
        norms: (K,) lengths of the codes.

    Returns:
        Codes (N,) int64 and float64 scores (N,).
    """
    scores = exact_scores(rows[row], codebook[code], metric, norms[code])
    best = torch.full((rows.shape[0],), torch.inf, dtype=torch.float64, device=rows.device)
    best = best.scatter_reduce(0, row, scores, "amin")
    winners = torch.where(scores == best[row], code, codebook.shape[0])
    codes = torch.full((rows.shape[0],), codebook.shape[0], device=rows.device)
    return codes.scatter_reduce(0, row, winners, "amin"), best
