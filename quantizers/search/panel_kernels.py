# mypy: allow-untyped-calls
# numba reads the types of a kernel's arguments from its calls.
"""Compiled searches for short vectors: codes in panels of 64, and boxes around panels.

Layout: a panel has *negated* codes side by side, so that a code's screening score, |c|²/2 - x·c, is
its offset plus multiply-adds: (D, 64) float32, or (D / 2, 64, 2) int16 on a grid (`panels.py`),
which VNNI multiplies twice as fast. A step is 256 bytes of a panel and 4 bytes of the row. 16 boxes
are (D, 2, 16) float32: lower corners, then upper.
"""

from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from ...kernels import vector_ir as v
from ...kernels.cache import kernel
from .exact_kernels import UNDECIDED, settle

PANEL = 64
BOXES = 16
_ROWS = 4  # rows that share each load of a panel
TILE = 64  # rows whose panel minima are held at once
_MOST = 128  # limit of candidates; rows with more are left undecided
_HUGE = np.float32(1e30)  # initial minimum of a search
_LARGEST_SQUARE = np.float32(1e28)  # limit that keeps scores and squared distances below _HUGE
_LARGE = np.float32(2.0**28)  # the same for int16 grids
_UNIT = np.float32(2.0**-24)
_SUBNORMAL = np.float32(2.0**-126)


def _screen(builder, whole, row, stride, panel, offsets, steps, rows):  # type: ignore[no-untyped-def]
    """Compute scores [row][4 vectors] of `rows` rows against one panel, from addresses."""
    kind, scalar = (v.INTS, v.INT32) if whole else (v.FLOATS, v.FLOAT)
    add = v.multiply_add_pairs if whole else v.multiply_add
    start = [v.load(builder, v.at(builder, offsets, 64 * j), kind) for j in range(4)] * rows
    sums: list[Any] = []
    with v.counted_loop(builder, steps, start) as (step, carried, following):
        codes = v.at(builder, panel, v.times(builder, step, 4 * PANEL))
        lanes = [v.load(builder, v.at(builder, codes, 64 * j), kind) for j in range(4)]
        column = v.at(builder, row, v.times(builder, step, 4))
        for r in range(rows):
            address = v.at(builder, column, v.times(builder, stride, r))
            value = v.spread(builder, v.load(builder, address, scalar))
            for j in range(4):
                sums.append(add(builder, value, lanes[j], carried[4 * r + j]))
        following(sums)
    return [sums[4 * r : 4 * r + 4] for r in range(rows)]


def _screens(whole):  # type: ignore[no-untyped-def]
    """Create the intrinsics for one kind of panel: on the grid, or in float32."""
    number = types.int32 if whole else types.float32

    @intrinsic
    def least_of_rows(context, row, stride, panel, offsets, steps, out):  # type: ignore[no-untyped-def]
        """Store the lowest score in a panel for each of four rows."""

        def code(target, builder, signature, values):  # type: ignore[no-untyped-def]
            row, stride, panel, offsets, steps, out = values
            rows = _screen(builder, whole, row, stride, panel, offsets, steps, _ROWS)
            halves = [(v.smaller(builder, a, b), v.smaller(builder, c, d)) for a, b, c, d in rows]
            least = v.smallest_of_four(builder, [v.smaller(builder, a, b) for a, b in halves])
            v.store(builder, least, out)
            return target.get_dummy_value()

        return types.void(*[types.int64] * 6), code

    @intrinsic
    def least_of_row(context, row, panel, offsets, steps):  # type: ignore[no-untyped-def]
        """Return the lowest score in a panel for one row."""

        def code(_, builder, signature, values):  # type: ignore[no-untyped-def]
            row, panel, offsets, steps = values
            scores = _screen(builder, whole, row, steps, panel, offsets, steps, 1)[0]
            return v.smallest(builder, scores)

        return number(*[types.int64] * 4), code

    @intrinsic
    def codes_within(context, row, panel, offsets, steps, limit):  # type: ignore[no-untyped-def]
        """Return a 64-bit mask of a panel's codes with scores within the limit."""

        def code(_, builder, signature, values):  # type: ignore[no-untyped-def]
            row, panel, offsets, steps, limit = values
            scores = _screen(builder, whole, row, steps, panel, offsets, steps, 1)[0]
            limits = v.spread(builder, limit)
            return v.mask_of(builder, [v.within(builder, x, limits) for x in scores])

        return types.int64(*[types.int64] * 4, number), code

    @intrinsic
    def lanes_within(context, scores, limits):  # type: ignore[no-untyped-def]
        """Return a mask of 16 stored scores within 16 stored limits."""

        def code(_, builder, signature, values):  # type: ignore[no-untyped-def]
            kind = v.INTS if whole else v.FLOATS
            scores, limits = (v.load(builder, value, kind) for value in values)
            return v.mask_of(builder, [v.within(builder, scores, limits)])

        return types.int64(types.int64, types.int64), code

    return least_of_rows, least_of_row, codes_within, lanes_within


_least_of_rows, _least_of_row, _codes_within, _lanes_within = _screens(whole=False)
_grid_least_of_rows, _grid_least_of_row, _grid_codes_within, _grid_lanes_within = _screens(
    whole=True
)


@intrinsic
def _box_distances(context, row, boxes, dim, out):  # type: ignore[no-untyped-def]
    """Store a row's squared distances to 16 boxes."""

    def code(target, builder, signature, values):  # type: ignore[no-untyped-def]
        row, boxes, dim, out = values
        zero = v.zeros()
        sums: list[Any] = []
        with v.counted_loop(builder, dim, [zero]) as (d, carried, following):
            corners = v.at(builder, boxes, v.times(builder, d, 2 * 4 * BOXES))
            value = v.spread_from(builder, v.at(builder, row, v.times(builder, d, 4)))
            below = builder.fsub(v.load(builder, corners), value)
            above = builder.fsub(value, v.load(builder, v.at(builder, corners, 4 * BOXES)))
            outside = v.larger(builder, v.larger(builder, below, above), zero)
            sums.append(v.multiply_add(builder, outside, outside, carried[0]))
            following(sums)
        v.store(builder, sums[0], out)
        return target.get_dummy_value()

    return types.void(*[types.int64] * 4), code


@intrinsic
def _near(context, distances, limit):  # type: ignore[no-untyped-def]
    """Return a mask of 16 stored distances within the limit."""

    def code(_, builder, signature, values):  # type: ignore[no-untyped-def]
        near = builder.fcmp_ordered("<=", v.load(builder, values[0]), v.spread(builder, values[1]))
        return v.mask_of(builder, [near])

    return types.int64(types.int64, types.float32), code


@kernel
def _prepare(  # type: ignore[no-untyped-def]
    rows, order, start, count, center, unit, longest, grid, moved, screened, rounding, state
):
    """Centre and scale a tile of rows, and round it to the grid if there is one.

    Args:
        rows: (n, D) float32; row r of the tile is `order[start + r]`, or start + r if `order` is
            empty.
        center: (D,) float32. unit: whether rows are scaled to length 1.
        grid: (3,) float32: steps per unit of rows, then per unit of scores, then the largest
            rounding error of a code (a vector length).
        moved: (TILE, W) float32, output, W >= D; zero beyond D.
        screened: moved itself, or (TILE, W) int16, output.
        rounding: (TILE, W) float32, scratch.
        state: (3, TILE) float32, output: squared lengths of the moved rows; error bound of float32
            scores; and the largest difference of screening scores between two equally near codes,
            -1 if screening could overflow.

    The float32 error: at most D + 1 roundings of sums whose terms add up to less than (|x| + |c|)²,
    the rounding of centre, scale and offset, and flushed subnormals. The grid adds |x - X| |c| +
    |x| |c - C| (Cauchy and Schwarz), two of its steps for rounded offsets, and 128 for float32's
    error of scores beyond 2^24.
    """
    dim = rows.shape[1]
    for r in range(count):
        row = start + r if order.shape[0] == 0 else order[start + r]
        squared = np.float32(0)
        for d in range(dim):
            value = rows[row, d] - center[d]
            moved[r, d] = value
            squared += value * value
        if unit and squared != 0:
            if np.float32(1e-30) < squared < _HUGE:
                scale = np.float32(1) / np.sqrt(squared)
                squared = np.float32(0)
                for d in range(dim):
                    moved[r, d] *= scale
                    squared += moved[r, d] * moved[r, d]
            else:
                squared = np.float32(np.inf)
        state[0, r] = squared
    for r in range(TILE):
        size = np.sqrt(state[0, r]) + longest
        error = np.float32(dim + 16) * _UNIT * size * size
        error += np.float32(4 * dim + 16) * _SUBNORMAL
        state[1, r] = error
        state[2, r] = 2 * error if size * size < _LARGEST_SQUARE else np.float32(-1)
    if screened.itemsize == 4:
        return
    flat, whole_flat, off_flat = moved.reshape(-1), screened.reshape(-1), rounding.reshape(-1)
    for i in range(flat.shape[0]):
        scaled = flat[i] * grid[0]
        whole = np.rint(scaled)
        off = scaled - whole
        off_flat[i] = off * off
        # A row that does not fit is marked below; its values do not matter.
        whole_flat[i] = np.int16(min(max(whole, np.float32(-32767)), np.float32(32767)))
    for r in range(count):
        off = np.float32(0)
        for d in range(dim):
            off += rounding[r, d]
        rounding[r, 0] = off
    for r in range(TILE):
        length = np.sqrt(state[0, r])
        off = np.sqrt(rounding[r, 0]) / grid[0]
        error = state[1, r] + off * longest + length * grid[2]
        margin = np.float32(2.02) * (error * grid[1] + np.float32(130))
        fits = length <= np.float32(3.98) * longest and margin < _LARGE
        state[2, r] = margin if fits else np.float32(-1)


@kernel
def search_panels(  # type: ignore[no-untyped-def]
    rows,
    center,
    unit,
    panels,
    offsets,
    numbers,
    longest,
    grid,
    codebook,
    norms,
    metric,
    codes,
    scores,
    moved,
    screened,
    rounding,
    least,
):
    """Find nearest codes of rows by searching all panels.

    Args:
        rows: (n, D) float32.
        center: (D,) float32, subtracted from rows and codes.
        unit: whether rows are compared by direction.
        panels: (P, D, 64) float32 or (P, D / 2, 64, 2) int16; offsets: (P, 64) float32 or int32,
            huge for padding.
        numbers: (P * 64,) index of the code at each place of a panel.
        longest: length of the longest code in the panels.
        grid: see `_prepare`.
        codebook: (K, D) float32 as given, norms: (K,) float64, metric: of `exact_kernels`.
        codes: (n,) int64, output. scores: (n,) float64 or empty, output.
        moved, screened, rounding: see `_prepare`; and least: (P, TILE) of the offsets' dtype,
            scratch.

    Rows that screening can't decide, including rows with NaN, get UNDECIDED.
    """
    dim = rows.shape[1]
    number, steps = panels.shape[:2]
    on_grid = panels.itemsize == 2
    panel_bytes = steps * PANEL * 4
    work = np.empty(dim, np.float64)
    wanted = scores.shape[0] > 0
    candidates = np.empty((TILE, _MOST), np.int64)
    found = np.zeros(TILE, np.int64)
    state = np.zeros((3, TILE), np.float32)
    margins = state[2]
    limits = np.zeros_like(least[0])
    in_order = np.empty(0, np.int64)
    for start in range(0, rows.shape[0], TILE):
        count = min(TILE, rows.shape[0] - start)
        _prepare(
            rows,
            in_order,
            start,
            count,
            center,
            unit,
            longest,
            grid,
            moved,
            screened,
            rounding,
            state,
        )
        found[:] = 0
        for p in range(number):
            panel = panels.ctypes.data + p * panel_bytes
            offset = offsets.ctypes.data + p * PANEL * 4
            for r in range(0, count, _ROWS):
                row = screened.ctypes.data + r * steps * 4
                out = least.ctypes.data + (p * TILE + r) * 4
                if on_grid:
                    _grid_least_of_rows(row, steps * 4, panel, offset, steps, out)
                else:
                    _least_of_rows(row, steps * 4, panel, offset, steps, out)
        for r in range(TILE):
            limits[r] = least[0, r]
        for p in range(1, number):
            for r in range(TILE):
                limits[r] = least[p, r] if least[p, r] < limits[r] else limits[r]
        for r in range(TILE):
            if on_grid:
                limits[r] += np.int32(margins[r])
            else:
                limits[r] += margins[r]
        for p in range(number):
            for first in range(0, count, v.LANES):
                lanes = least.ctypes.data + (p * TILE + first) * 4
                if on_grid:
                    near = _grid_lanes_within(lanes, limits.ctypes.data + first * 4)
                else:
                    near = _lanes_within(lanes, limits.ctypes.data + first * 4)
                while near != 0:
                    r = first + v.lowest_bit(near)
                    near &= near - 1
                    row = screened.ctypes.data + r * steps * 4
                    panel = panels.ctypes.data + p * panel_bytes
                    offset = offsets.ctypes.data + p * PANEL * 4
                    if on_grid:
                        mask = _grid_codes_within(row, panel, offset, steps, np.int32(limits[r]))
                    else:
                        mask = _codes_within(row, panel, offset, steps, np.float32(limits[r]))
                    while mask != 0 and found[r] < _MOST:
                        candidates[r, found[r]] = numbers[p * PANEL + v.lowest_bit(mask)]
                        mask &= mask - 1
                        found[r] += 1
        for r in range(count):
            row = start + r
            if margins[r] < 0 or found[r] == 0 or found[r] == _MOST:
                codes[row] = UNDECIDED
            elif found[r] == 1 and not wanted:
                codes[row] = candidates[r, 0]
            else:
                code, score = settle(
                    rows[row], codebook, norms, metric, candidates[r], found[r], work
                )
                codes[row] = code
                if wanted:
                    scores[row] = score


@kernel
def order_by_home(  # type: ignore[no-untyped-def]
    rows, order, center, unit, group_boxes, moved, rounding, homes
):
    """Sort rows by the panel group of the nearest box: order (n,), output; homes (n,), scratch."""
    dim = rows.shape[1]
    state = np.zeros((3, TILE), np.float32)
    grid = np.ones(3, np.float32)
    in_order = np.empty(0, np.int64)
    zero = np.float32(0)
    distances = np.empty(BOXES, np.float32)
    for r in range(rows.shape[0]):
        if r % TILE == 0:
            count = min(TILE, rows.shape[0] - r)
            _prepare(
                rows, in_order, r, count, center, unit, zero, grid, moved, moved, rounding, state
            )
        point = moved.ctypes.data + r % TILE * moved.shape[1] * 4
        best = np.float32(np.inf)
        homes[r] = 0
        for g in range(group_boxes.shape[0]):
            boxes = group_boxes.ctypes.data + g * dim * 2 * BOXES * 4
            _box_distances(point, boxes, dim, distances.ctypes.data)
            for i in range(BOXES):
                if distances[i] < best:
                    best, homes[r] = distances[i], g * BOXES + i
    order[:] = np.argsort(homes, kind="mergesort")


@kernel
def search_cells(  # type: ignore[no-untyped-def]
    rows,
    order,
    center,
    unit,
    panels,
    offsets,
    numbers,
    boxes,
    group_boxes,
    longest,
    grid,
    codebook,
    norms,
    metric,
    codes,
    scores,
    moved,
    screened,
    rounding,
    patience,
):
    """Find nearest codes of rows by searching only panels whose boxes can contain them.

    Args:
        order: (n,) order in which rows are processed: adjacent rows share panels in the cache.
        boxes: (G, D, 2, 16) around the panels of each group of 16, group_boxes: (G', D, 2, 16)
            around the groups; far away for padding.
        patience: the search stops if the first rows need more panels than this on average, since
            searching all panels is then cheaper.
        others: see `search_panels`.

    Returns:
        Number of rows of `order` that were processed.
    """
    dim = rows.shape[1]
    steps = panels.shape[1]
    on_grid = panels.itemsize == 2
    work = np.empty(dim, np.float64)
    wanted = scores.shape[0] > 0
    candidates = np.empty(_MOST, np.int64)
    lower = np.empty(_MOST, np.float32)
    panel_bytes = steps * PANEL * 4
    boxes_bytes = dim * 2 * BOXES * 4
    groups = np.empty(group_boxes.shape[0] * BOXES, np.float32)
    cells = np.empty(BOXES, np.float32)
    state = np.zeros((3, TILE), np.float32)
    to_scores = np.float32(1) / grid[1] if on_grid else np.float32(1)
    looked = 0
    for i in range(rows.shape[0]):
        if i == 64 and looked > 64 * patience:
            return i
        if i % TILE == 0:
            count = min(TILE, rows.shape[0] - i)
            _prepare(
                rows, order, i, count, center, unit, longest, grid, moved, screened, rounding, state
            )
        point = moved.ctypes.data + i % TILE * moved.shape[1] * 4
        row_address = screened.ctypes.data + i % TILE * steps * 4
        margin = state[2, i % TILE]
        found = 0
        if margin >= 0:
            # Error bounds: of a box's distance, and of a screening score.
            slack = 8 * state[1, i % TILE] + state[0, i % TILE]
            if unit:
                slack += 1  # the codes' squared lengths, which the offsets leave out
            best = _HUGE
            home = 0
            for g in range(group_boxes.shape[0]):
                near = groups.ctypes.data + g * BOXES * 4
                _box_distances(point, group_boxes.ctypes.data + g * boxes_bytes, dim, near)
            for g in range(groups.shape[0]):
                home = g if groups[g] < groups[home] else home
            limit = _HUGE  # on squared distances to boxes; padding is farther
            # The nearest group first, then all that may have a nearer code.
            block = -1
            mask = np.int64(1)
            while True:
                while mask != 0:
                    g = home
                    if block >= 0:
                        g = block * BOXES + v.lowest_bit(mask)
                    mask &= mask - 1
                    if (block >= 0 and g == home) or groups[g] > limit:
                        continue
                    _box_distances(
                        point, boxes.ctypes.data + g * boxes_bytes, dim, cells.ctypes.data
                    )
                    visit = _near(cells.ctypes.data, limit)
                    first = -1
                    if block < 0:  # the nearest panel before the others
                        first = 0
                        for c in range(BOXES):
                            first = c if cells[c] < cells[first] else first
                        visit |= np.int64(1) << first
                    while visit != 0:
                        c = v.lowest_bit(visit) if first < 0 else first
                        visit &= ~(np.int64(1) << c)
                        first = -1
                        if cells[c] > limit:
                            continue
                        looked += 1
                        p = g * BOXES + c
                        panel = panels.ctypes.data + p * panel_bytes
                        offset = offsets.ctypes.data + p * PANEL * 4
                        if on_grid:
                            least = np.float32(
                                _grid_least_of_row(row_address, panel, offset, steps)
                            )
                        else:
                            least = np.float32(_least_of_row(row_address, panel, offset, steps))
                        if least > best + margin:
                            continue
                        if least < best:
                            best = least
                            kept = 0
                            for k in range(found):
                                if lower[k] <= best + margin:
                                    lower[kept], candidates[kept] = lower[k], candidates[k]
                                    kept += 1
                            found = kept
                            limit = 2 * (best + margin) * to_scores + slack
                        if on_grid:
                            near_codes = _grid_codes_within(
                                row_address, panel, offset, steps, np.int32(best + margin)
                            )
                        else:
                            near_codes = _codes_within(
                                row_address, panel, offset, steps, np.float32(best + margin)
                            )
                        while near_codes != 0 and found < _MOST:
                            lower[found] = least
                            candidates[found] = numbers[p * PANEL + v.lowest_bit(near_codes)]
                            near_codes &= near_codes - 1
                            found += 1
                block += 1
                if block == group_boxes.shape[0]:
                    break
                mask = _near(groups.ctypes.data + block * BOXES * 4, limit)
        row = order[i]
        if found == 0 or found == _MOST:
            codes[row] = UNDECIDED
        elif found == 1 and not wanted:
            codes[row] = candidates[0]
        else:
            code, score = settle(rows[row], codebook, norms, metric, candidates, found, work)
            codes[row] = code
            if wanted:
                scores[row] = score
    return rows.shape[0]
