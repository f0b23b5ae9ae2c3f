"""Nearest codes of short vectors: all codes in float32, or those cells that can hold the nearest.

`PanelSearch` keeps a panel of 64 codes in registers while rows pass by, and only the least score of
each panel. `CellSearch` sorts the codes into panels by a k-d tree and looks at a panel only if the
box around it is near enough, first by groups of 16 panels, then by panel: 46 of 1,024 panels for
65,536 random codes of 8 dimensions, and 54 of 2,048 for 131,072. Boxes pay in few dimensions and
with many codes; where a search finds that it looks at most panels anyway it goes back to all of them.

The bound: scores in float32 differ from true ones by less than `panel_kernels._error`, and box
distances are widened by four times that; what lies within the bound is decided exactly.
"""

import numpy as np
import torch
from torch import Tensor

from .scores import METRICS, Metric, code_norms
from .threads import scratch

_FAR = np.float32(1e18)  # a box coordinate that nothing is near to
_HUGE = np.float32(3e38)
# Rows that are sorted by place at once.
_SORTED = 1 << 15
# Looking at a panel by its box costs so many panels of a search of all.
_BOX_COST = 2.5


class PanelSearch:
    """All codes, in float32 panels, then exact decision."""

    name = "panels"

    def __init__(self, codebook: Tensor, metric: Metric):
        from .panel_kernels import PANEL

        self._codebook = codebook.numpy()
        self._metric = METRICS.index(metric)
        norms = code_norms(codebook)
        self._norms = norms.numpy()
        codes = codebook.double()
        center = torch.zeros(codebook.shape[1])
        self._unit = metric == "cosine"
        if self._unit:
            codes = codes / norms[:, None]
        elif metric == "l2":
            center = codes.mean(0).float()
            codes = codes - center.double()
        self._center = center.numpy()
        squares = codes.square().sum(1)
        # Just above, so that the error bound holds.
        self._longest = np.float32(min(float(squares.max().sqrt()) * 1.0001, 3e38))
        places = self._places(codes.float().numpy())
        self._numbers = np.zeros(-(-places.size // PANEL) * PANEL, np.int64)
        self._numbers[: places.size] = places
        used = places >= 0
        self._numbers[: places.size][~used] = 0
        filled = np.zeros((self._numbers.size, codebook.shape[1]), np.float32)
        filled[: places.size][used] = -codes.numpy()[places[used]]
        self._panels = np.ascontiguousarray(
            filled.reshape(-1, PANEL, codebook.shape[1]).transpose(0, 2, 1)
        )
        offsets = np.full(self._numbers.size, _HUGE, np.float32)
        halves = np.zeros_like(squares.numpy()) if metric == "ip" else squares.numpy() / 2
        offsets[: places.size][used] = halves[places[used]]
        self._offsets = offsets.reshape(-1, PANEL)

    def _places(self, codes: np.ndarray) -> np.ndarray:
        """Which code goes where, -1 for nowhere."""
        return np.arange(codes.shape[0])

    def search(self, rows: np.ndarray, codes: np.ndarray, scores: np.ndarray) -> int:
        """Fill codes (N,) int64, and float64 scores (N,) unless it is empty, for rows (N, D).

        Returns:
            The first row that is not finite, or -1.
        """
        from .panel_kernels import TILE, search_panels

        return search_panels(
            rows,
            self._center,
            self._unit,
            self._panels,
            self._offsets,
            self._numbers,
            self._longest,
            self._codebook,
            self._norms,
            self._metric,
            codes,
            scores,
            scratch("moved rows", (TILE, rows.shape[1]), np.float32),
            scratch("least", (TILE, self._panels.shape[0]), np.float32),
        )


class CellSearch(PanelSearch):
    """The panels whose boxes can hold the nearest code, then exact decision."""

    name = "cells"

    def _places(self, codes: np.ndarray) -> np.ndarray:
        from .panel_kernels import BOXES, PANEL

        if self._metric == METRICS.index("ip"):
            raise ValueError("boxes bound distances, not inner products")
        order = cell_order(codes, PANEL)
        count = -(-order.size // PANEL)
        dim = codes.shape[1]
        groups = -(-count // BOXES)
        blocks = -(-groups // BOXES)
        lower = np.full((blocks * BOXES * BOXES, dim), _FAR, np.float32)
        upper = np.full_like(lower, _FAR)
        ordered = codes[order]
        starts = np.arange(0, order.size, PANEL)
        lower[:count] = np.minimum.reduceat(ordered, starts)
        upper[:count] = np.maximum.reduceat(ordered, starts)
        self._boxes = _packed(lower[: groups * BOXES], upper[: groups * BOXES])
        starts = np.arange(0, count, BOXES)
        outer_lower = np.full((blocks * BOXES, dim), _FAR, np.float32)
        outer_upper = np.full_like(outer_lower, _FAR)
        outer_lower[:groups] = np.minimum.reduceat(lower[:count], starts)
        outer_upper[:groups] = np.maximum.reduceat(upper[:count], starts)
        self._group_boxes = _packed(outer_lower, outer_upper)
        return order

    def search(self, rows: np.ndarray, codes: np.ndarray, scores: np.ndarray) -> int:
        """See `PanelSearch.search`."""
        for start in range(0, rows.shape[0], _SORTED):
            part = slice(start, start + _SORTED)
            bad = self._search_sorted(rows[part], codes[part], scores[part])
            if bad >= 0:
                return start + bad
        return -1

    def _search_sorted(self, rows: np.ndarray, codes: np.ndarray, scores: np.ndarray) -> int:
        from .panel_kernels import home_groups, search_cells

        moved = scratch("moved row", (1, rows.shape[1]), np.float32)
        order = np.arange(rows.shape[0])
        if rows.shape[0] >= 256:
            homes = np.empty(rows.shape[0], np.int64)
            home_groups(
                rows, order, self._center, self._unit, self._group_boxes, moved, homes
            )
        bad, done = search_cells(
            rows,
            order,
            self._center,
            self._unit,
            self._panels,
            self._offsets,
            self._numbers,
            self._boxes,
            self._group_boxes,
            self._longest,
            self._codebook,
            self._norms,
            self._metric,
            codes,
            scores,
            moved,
            self._panels.shape[0] / _BOX_COST,
        )
        if bad < 0 and done < rows.shape[0]:
            return super().search(rows, codes, scores)
        return bad


def cell_order(codes: np.ndarray, cell: int) -> np.ndarray:
    """Codes (K, D) in the order of a k-d tree's leaves of `cell` codes, the last one's rest fewer.

    Each node is cut at the middle of its widest dimension, by variance.
    """
    order = np.arange(codes.shape[0])
    pending = [(0, codes.shape[0])]
    while pending:
        start, stop = pending.pop()
        cells = -(-(stop - start) // cell)
        if cells <= 1:
            continue
        part = order[start:stop]
        values = codes[part]
        column = values[:, values.var(0).argmax()]
        # A power of two goes left, so that groups of 16 cells are nodes of the tree.
        left = (1 << ((cells - 1).bit_length() - 1)) * cell
        order[start:stop] = part[np.argpartition(column, left - 1)]
        pending += [(start, start + left), (start + left, stop)]
    return order


def _packed(lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """Corners (n, D) each, n a multiple of 16, as (n / 16, D, 2, 16)."""
    corners = np.stack([lower, upper], 1).reshape(-1, 16, 2, lower.shape[1])
    return np.ascontiguousarray(corners.transpose(0, 3, 2, 1))
