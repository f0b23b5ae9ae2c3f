"""Nearest codes of short vectors: search all codes, or the cells that can contain the nearest.

`PanelSearch` keeps a panel of 64 codes in registers while it processes rows, and stores only the
lowest score of each panel. On processors that multiply int16 pairs (VNNI), rows and codes are
rounded to a grid of 2^15 steps, at twice the speed of float32.

`CellSearch` sorts the codes into panels by a k-d tree and searches a panel only if the box around
it is near enough, first by groups of 16 panels, then by panel: 46 of 1,024 panels for 65,536 random
codes of 8 dimensions, and 54 of 2,048 for 131,072. Boxes help in few dimensions and with many
codes; if a search needs most panels anyway, it switches to all of them.

Screening scores differ from the true ones by less than the bound in `panel_kernels._prepare`, and
box distances are widened by four times float32's error; codes within the bound are decided exactly.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...kernels.threads import scratch
from .reference import LastResort
from .scores import METRICS, Metric, code_norms

_FAR = np.float32(1e18)  # box coordinate that is far from everything
# Rows that are sorted by their nearest group at once.
_SORTED = 1 << 15
_NO_SCORES = np.empty(0)
_IN_ORDER = np.arange(64)
# Cost of searching a panel by its box, in panels of a search of all.
_BOX_COST = 2.5


class PanelSearch:
    """Screen all codes, on the grid or in float32, then decide exactly."""

    def __init__(self, codebook: Tensor, metric: Metric, *, on_grid: bool = True):
        from .panel_kernels import PANEL, TILE, search_panels

        self._search_panels, self._tile = search_panels, TILE
        self._last = LastResort(codebook, metric)
        self._finer: PanelSearch | None = None
        self._on_grid = on_grid
        self._codebook = codebook.numpy()
        self.metric: Metric = metric
        self._metric = METRICS.index(metric)
        norms = code_norms(codebook)
        self._norms = norms.numpy()
        codes = codebook.double()
        center = torch.zeros_like(codebook[0])
        self._unit = metric == "cosine"
        if self._unit:
            codes = codes / norms[:, None]
        elif metric == "l2":
            center = codes.mean(0).float()
            codes = codes - center.double()
        self._center = center.numpy()
        squares = codes.square().sum(1)
        # Slightly larger, so that the error bound holds.
        self._longest = np.float32(min(float(squares.max().sqrt()) * 1.0001, 3e38))
        places = self._places(codes.float().numpy())
        self._numbers = np.zeros(-(-places.size // PANEL) * PANEL, np.int64)
        self._numbers[: places.size] = places
        filled = np.zeros((self._numbers.size, codebook.shape[1]))
        filled[: places.size] = -codes.numpy()[places]
        offsets = np.full(self._numbers.size, np.inf)
        # By direction, all codes have equal lengths, except zero codes, whose cosine is 0.
        offsets[: places.size] = squares.numpy()[places] / 2 if metric == "l2" else 0
        self._fill(filled, offsets)

    def _fill(self, codes: np.ndarray, offsets: np.ndarray) -> None:
        """Create panels from negated codes (P * 64, D) and offsets (P * 64,), float64."""
        from ...kernels.vector_ir import has_pair_products
        from .panel_kernels import PANEL

        self._grid = np.ones(3, np.float32)
        lengths = np.sqrt(np.square(codes).sum(1))
        # With a single far longer code, the other codes would use only few steps of the grid.
        ordinary = float(np.quantile(lengths[np.isfinite(offsets)], 0.5))
        fits = bool(1e-12 < self._longest < 8 * ordinary < 1e12)
        self._on_grid = self._on_grid and has_pair_products() and fits
        if not self._on_grid:
            offsets = np.minimum(offsets, 3e38)
            panels = codes.astype(np.float32).reshape(-1, PANEL, codes.shape[1])
            self._panels = np.ascontiguousarray(panels.transpose(0, 2, 1))
            self._offsets = offsets.astype(np.float32).reshape(-1, PANEL)
            return
        # |x|, |c| of at most 2^15 steps, for rows up to four times the longest code, so that a
        # score stays under 2^31: |x||c| <= 2^30, and |c|²/2 is 2^27 in units of both grids.
        per_row, per_code = 2.0**13 / self._longest, 2.0**15 / self._longest
        width = -(-codes.shape[1] // 2)
        rounded = np.zeros((codes.shape[0], 2 * width), np.int16)
        rounded[:, : codes.shape[1]] = np.rint(codes * per_code).clip(-32767, 32767)
        off = codes - rounded[:, : codes.shape[1]] / per_code
        self._grid[:] = per_row, per_row * per_code, np.sqrt(np.square(off).sum(1).max()) * 1.0001
        pairs = rounded.reshape(-1, PANEL, width, 2)
        self._panels = np.ascontiguousarray(pairs.transpose(0, 2, 1, 3))
        scaled = np.minimum(np.rint(offsets * per_row * per_code), 2.0**31 - 1)
        self._offsets = scaled.astype(np.int32).reshape(-1, PANEL)

    def _scales(self) -> tuple[Any, ...]:
        """Return what both searches take after the panels: the grid, and what decides exactly."""
        return self._longest, self._grid, self._codebook, self._norms, self._metric

    def _scratch(self, dim: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return buffers: moved rows, rows in the panels' dtype, and scratch for rounding."""
        steps = self._panels.shape[1]
        width = 2 * steps if self._on_grid else steps
        moved = scratch("moved rows", (self._tile, width), np.float32)
        if width > dim:
            moved[:, dim:] = 0
        if not self._on_grid:
            return moved, moved, moved
        return (
            moved,
            scratch("rows on the grid", (self._tile, width), np.int16),
            scratch("roundings", (self._tile, width), np.float32),
        )

    def _places(self, codes: np.ndarray) -> np.ndarray:
        """Return the order of the codes in the panels."""
        return np.arange(codes.shape[0])

    def search(self, rows: np.ndarray, codes: np.ndarray, scores: np.ndarray) -> None:
        """Find codes (N,) int64 for rows (N, D), and float64 scores (N,) unless that is empty.

        Raises:
            NotFiniteError: NaN or infinite values.
        """
        if len(rows) <= self._tile and not scores.size:
            self._screen_few(rows, codes)
        else:
            self._screen_all(rows, codes, scores)
        self._search_undecided(rows, codes, scores)

    def _screen_few(self, rows: np.ndarray, codes: np.ndarray) -> None:
        """`_screen_all` for a single tile of rows, in fewer steps: a stream has one row a call."""
        least = np.empty((self._panels.shape[0], self._tile), self._offsets.dtype)
        self._search_panels(
            rows, self._center, self._unit, self._panels, self._offsets, self._numbers,
            *self._scales(), codes, _NO_SCORES, *self._small_scratch(), least,
        )  # fmt: skip

    def _small_scratch(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`_scratch` of a call's own: its 10 kB take less time than to find a thread's."""
        steps = self._panels.shape[1]
        if not self._on_grid:
            moved = np.zeros((self._tile, steps), np.float32)
            return moved, moved, moved
        moved = np.zeros((self._tile, 2 * steps), np.float32)
        return moved, np.empty(moved.shape, np.int16), np.empty(moved.shape, np.float32)

    def _screen_all(self, rows: np.ndarray, codes: np.ndarray, scores: np.ndarray) -> None:
        moved, screened, rounding = self._scratch(rows.shape[1])
        self._search_panels(
            rows,
            self._center,
            self._unit,
            self._panels,
            self._offsets,
            self._numbers,
            *self._scales(),
            codes,
            scores,
            moved,
            screened,
            rounding,
            scratch(
                "least of panels", (self._panels.shape[0], self._tile), self._offsets.dtype.type
            ),
        )

    def _search_undecided(self, rows: np.ndarray, codes: np.ndarray, scores: np.ndarray) -> None:
        """Search rows that the grid can't hold or decide, in float32 and then in float64."""
        if len(codes) <= self._tile and min(codes.tolist(), default=0) >= 0:
            return
        if not self._on_grid:
            self._last.search_undecided(rows, codes, scores)
            return
        undecided = np.flatnonzero(codes < 0)
        if not undecided.size:
            return
        if self._finer is None:
            codebook = torch.from_numpy(self._codebook)
            self._finer = PanelSearch(codebook, self.metric, on_grid=False)
        some = np.empty(undecided.size, np.int64)
        rated = np.empty(undecided.size if scores.size else 0)
        self._finer.search(rows[undecided], some, rated)
        codes[undecided] = some
        if scores.size:
            scores[undecided] = rated


class CellSearch(PanelSearch):
    """Screen the panels whose boxes can contain the nearest code, then decide exactly."""

    def _places(self, codes: np.ndarray) -> np.ndarray:
        from .panel_kernels import BOXES, PANEL, order_by_home, search_cells

        self._order_by_home, self._search_cells = order_by_home, search_cells
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

    def search(self, rows: np.ndarray, codes: np.ndarray, scores: np.ndarray) -> None:
        """Find codes and scores; see `PanelSearch.search`."""
        if len(rows) <= self._tile and not scores.size:
            self._screen_few(rows, codes)
        elif rows.shape[0] <= _SORTED:
            self._screen_sorted(rows, codes, scores)
        else:
            for start in range(0, rows.shape[0], _SORTED):
                part = slice(start, start + _SORTED)
                self._screen_sorted(rows[part], codes[part], scores[part])
        self._search_undecided(rows, codes, scores)

    def _screen_few(self, rows: np.ndarray, codes: np.ndarray) -> None:
        # So few rows are never given up.
        self._search_cells(
            rows, _IN_ORDER[: len(rows)], self._center, self._unit, self._panels, self._offsets,
            self._numbers, self._boxes, self._group_boxes, *self._scales(), codes, _NO_SCORES,
            *self._small_scratch(), self._panels.shape[0] / _BOX_COST,
        )  # fmt: skip

    def _screen_sorted(self, rows: np.ndarray, codes: np.ndarray, scores: np.ndarray) -> None:
        moved, screened, rounding = self._scratch(rows.shape[1])
        order = np.arange(rows.shape[0])
        if rows.shape[0] >= 256:
            self._order_by_home(
                rows,
                order,
                self._center,
                self._unit,
                self._group_boxes,
                moved,
                rounding,
                np.empty(rows.shape[0], np.int64),
            )
        done = self._search_cells(
            rows,
            order,
            self._center,
            self._unit,
            self._panels,
            self._offsets,
            self._numbers,
            self._boxes,
            self._group_boxes,
            *self._scales(),
            codes,
            scores,
            moved,
            screened,
            rounding,
            self._panels.shape[0] / _BOX_COST,
        )
        if done < rows.shape[0]:
            self._screen_all(rows, codes, scores)


def cell_order(codes: np.ndarray, cell: int) -> np.ndarray:
    """Sort codes (K, D) by the leaves of a k-d tree, of `cell` codes each; the last may have fewer.

    Each node is split at the median of its dimension of largest variance.
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
        column = values[:, values.var(0, dtype=np.float64).argmax()]
        # A power of two of cells goes left, so that groups of 16 cells are nodes of the tree.
        left = (1 << ((cells - 1).bit_length() - 1)) * cell
        order[start:stop] = part[np.argpartition(column, left - 1)]
        pending += [(start, start + left), (start + left, stop)]
    return order


def _packed(lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """Pack corners (n, D) each, n a multiple of 16, to (n / 16, D, 2, 16)."""
    corners = np.stack([lower, upper], 1).reshape(-1, 16, 2, lower.shape[1])
    return np.ascontiguousarray(corners.transpose(0, 3, 2, 1))
