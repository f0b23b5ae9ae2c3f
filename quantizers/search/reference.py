"""Nearest codes in plain torch, for any device: float64 matrix products over tiles of rows."""

import numpy as np
import torch
from torch import Tensor

from .scores import Metric, code_norms, exact_scores

# Scores held at once: 32 MB of float64.
_TILE_SCORES = 1 << 22
_UNIT = 2.0**-53
_BLOCK = 4096  # rows


class ReferenceSearch:
    """Screen with float64 products, then decide by `exact_scores` what rounding can't separate."""

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
        """Find codes (N,) int64 of rows (N, D) and their float64 scores (N,)."""
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
        if len(row) * rows.shape[1] > _TILE_SCORES and len(rows) > 1:
            # Many equally near codes: process the rows in two halves.
            halves = [self._search_tile(half) for half in rows.chunk(2)]
            return torch.cat([c for c, _ in halves]), torch.cat([s for _, s in halves])
        return decide(rows, self.codebook, row, code, self.metric, self._norms)


class NotFiniteError(Exception):
    """Some row has NaN or infinite values; the caller, who has all rows, finds out which."""


class LastResort:
    """A `ReferenceSearch` for rows left undecided by screening, created when needed (CPU).

    Of repeated codes, only the first is searched.
    """

    def __init__(self, codebook: Tensor, metric: Metric):
        self._codebook = codebook
        self._metric: Metric = metric
        self._search: ReferenceSearch | None = None
        self._first = torch.empty(0, dtype=torch.int64, device="cpu")

    def search_undecided(self, rows: np.ndarray, codes: np.ndarray, scores: np.ndarray) -> None:
        """Fill in codes, and scores unless empty, of rows whose code is negative.

        Raises:
            NotFiniteError: such a row has NaN or infinite values.
        """
        undecided = np.flatnonzero(codes < 0)
        if not undecided.size:
            return
        # In blocks, so that copies of many rows do not exist at once.
        for part in np.array_split(undecided, -(-undecided.size // _BLOCK)):
            left = torch.from_numpy(rows[part])
            if not bool(left.isfinite().all()):
                raise NotFiniteError
            if self._search is None:
                self._search = self._distinct()
            found, rated = self._search.search(left)
            codes[part] = self._first[found].numpy()
            if scores.size:
                scores[part] = rated.numpy()

    def _distinct(self) -> ReferenceSearch:
        codes, which = self._codebook.unique(dim=0, return_inverse=True)
        numbers = torch.arange(len(which), device="cpu")
        first = torch.full((len(codes),), len(which), device="cpu")
        first = first.scatter_reduce(0, which, numbers, "amin")
        # In codebook order, so that ties go to the lowest code.
        self._first = first.sort().values
        return ReferenceSearch(self._codebook[self._first], self._metric)


def decide(
    rows: Tensor, codebook: Tensor, row: Tensor, code: Tensor, metric: Metric, norms: Tensor
) -> tuple[Tensor, Tensor]:
    """Choose the best candidate of each row by exact score; the lowest index wins ties.

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
