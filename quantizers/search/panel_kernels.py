"""Compiled searches of short vectors: codes in panels of 64, and boxes around panels.

Layout: a panel is (D, 64) float32, the *negated* codes side by side, so that the screen of a code,
|c|²/2 - x·c, is its offset plus multiply-adds. 16 boxes are (D, 2, 16): lower corners, then upper.
"""

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

from . import vector_ir as v
from .exact_kernels import settle, settle_all

PANEL = 64
BOXES = 16
_ROWS = 4  # rows that share each load of a panel
TILE = 64  # rows whose panel minima are held at once
_MOST = 256  # candidates that are listed before all codes count as candidates
_HUGE = np.float32(1e30)  # beyond this the screen could overflow
_UNIT = np.float32(2.0**-24)
_SUBNORMAL = np.float32(2.0**-126)


def _screen(builder, row, stride, panel, offsets, dim, rows):  # type: ignore[no-untyped-def]
    """Vectors of scores [row][4] of `rows` rows against one panel, from addresses."""
    start = [v.load(builder, v.at(builder, offsets, 64 * j)) for j in range(4)] * rows
    sums: list = []
    with v.counted_loop(builder, dim, start) as (d, carried, following):
        codes = v.at(builder, panel, v.times(builder, d, 4 * PANEL))
        lanes = [v.load(builder, v.at(builder, codes, 64 * j)) for j in range(4)]
        column = v.at(builder, row, v.times(builder, d, 4))
        for r in range(rows):
            value = v.spread_from(builder, v.at(builder, column, v.times(builder, stride, r)))
            for j in range(4):
                sums.append(v.multiply_add(builder, value, lanes[j], carried[4 * r + j]))
        following(sums)
    return [sums[4 * r : 4 * r + 4] for r in range(rows)]


@intrinsic
def _least_of_rows(context, row, stride, panel, offsets, dim, out, out_stride):  # type: ignore[no-untyped-def]
    """The least score of each of four rows in a panel, stored `out_stride` bytes apart."""

    def code(target, builder, signature, values):  # type: ignore[no-untyped-def]
        out, out_stride = values[5:]
        for r, scores in enumerate(_screen(builder, *values[:5], _ROWS)):
            least = v.smallest(builder, scores)
            v.store(builder, least, v.at(builder, out, v.times(builder, out_stride, r)))
        return target.get_dummy_value()

    return types.void(*[types.int64] * 7), code


@intrinsic
def _within(context, row, panel, offsets, dim, limit):  # type: ignore[no-untyped-def]
    """Which of a panel's codes have scores within the limit: 64 bits."""

    def code(_, builder, signature, values):  # type: ignore[no-untyped-def]
        row, panel, offsets, dim, limit = values
        scores = _screen(builder, row, dim, panel, offsets, dim, 1)[0]
        limits = v.spread(builder, limit)
        return v.mask_of(builder, [builder.fcmp_ordered("<=", x, limits) for x in scores])

    return types.int64(*[types.int64] * 4, types.float32), code


@intrinsic
def _least(context, row, panel, offsets, dim):  # type: ignore[no-untyped-def]
    """The least score of one row in a panel."""

    def code(_, builder, signature, values):  # type: ignore[no-untyped-def]
        row, panel, offsets, dim = values
        return v.smallest(builder, _screen(builder, row, dim, panel, offsets, dim, 1)[0])

    return types.float32(*[types.int64] * 4), code


@intrinsic
def _box_distances(context, row, boxes, dim, out):  # type: ignore[no-untyped-def]
    """Store the squared distances of a row to 16 boxes."""

    def code(target, builder, signature, values):  # type: ignore[no-untyped-def]
        row, boxes, dim, out = values
        zero = v.ir.Constant(v.FLOATS, [0.0] * v.LANES)
        sums: list = []
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
    """Which of 16 stored distances are within the limit."""

    def code(_, builder, signature, values):  # type: ignore[no-untyped-def]
        near = builder.fcmp_ordered(
            "<=", v.load(builder, values[0]), v.spread(builder, values[1])
        )
        return v.mask_of(builder, [near])

    return types.int64(types.int64, types.float32), code


@njit(nogil=True, cache=True)
def _move(row, center, unit, out):  # type: ignore[no-untyped-def]
    """Row less the centre, scaled to length 1 if `unit`; returns its squared length."""
    length = np.float32(0)
    for d in range(row.shape[0]):
        value = row[d] - center[d]
        out[d] = value
        length += value * value
    if unit and np.float32(1e-30) < length < _HUGE:
        scale = np.float32(1) / np.sqrt(length)
        length = np.float32(0)
        for d in range(row.shape[0]):
            out[d] *= scale
            length += out[d] * out[d]
    elif unit and length != 0:
        return np.float32(np.inf)
    return length


@njit(nogil=True, cache=True)
def _error(squared_length, longest, dim):  # type: ignore[no-untyped-def]
    """How far a score in float32 can be from the true one.

    At most D + 1 roundings of sums whose terms add up to less than (|x| + |c|)², the rounding of
    centre, scale and offset, and subnormals that are flushed.
    """
    size = np.sqrt(squared_length) + longest
    return np.float32(dim + 16) * _UNIT * size * size + np.float32(4 * dim + 16) * _SUBNORMAL


@njit(nogil=True, cache=True)
def search_panels(  # type: ignore[no-untyped-def]
    rows,
    center,
    unit,
    panels,
    offsets,
    numbers,
    longest,
    codebook,
    norms,
    metric,
    codes,
    scores,
    moved,
    least,
):
    """Nearest codes of rows by looking at all panels.

    Args:
        rows: (n, D) float32.
        center: (D,) float32, subtracted from rows and codes alike.
        unit: whether rows are compared by direction.
        panels: (P, D, 64), offsets: (P, 64) float32; huge offsets for padding.
        numbers: (P * 64,) the code that each place of a panel holds.
        longest: the length of the longest code in the panels.
        codebook: (K, D) float32 as given, norms: (K,) float64, metric: of `exact_kernels`.
        codes: (n,) int64, out. scores: (n,) float64 or empty, out.
        moved: (TILE, D) and least: (TILE, P) float32, scratch.

    Returns:
        The first row that is not finite, or -1.
    """
    dim = rows.shape[1]
    number = panels.shape[0]
    work = np.empty(dim, np.float64)
    candidates = np.empty(_MOST, np.int64)
    lengths = np.zeros(TILE, np.float32)
    panel_bytes = dim * PANEL * 4
    for start in range(0, rows.shape[0], TILE):
        count = min(TILE, rows.shape[0] - start)
        for r in range(count):
            lengths[r] = _move(rows[start + r], center, unit, moved[r])
        for p in range(number):
            panel = panels.ctypes.data + p * panel_bytes
            offset = offsets.ctypes.data + p * PANEL * 4
            for r in range(0, count, _ROWS):
                _least_of_rows(
                    moved.ctypes.data + r * dim * 4,
                    dim * 4,
                    panel,
                    offset,
                    dim,
                    least.ctypes.data + (r * number + p) * 4,
                    number * 4,
                )
        for r in range(count):
            error = _error(lengths[r], longest, dim)
            found = 0
            if error < _HUGE:
                smallest = least[r, 0]
                for p in range(1, number):
                    smallest = least[r, p] if least[r, p] < smallest else smallest
                limit = smallest + 2 * error
                for p in range(number):
                    if least[r, p] <= limit:
                        mask = _within(
                            moved.ctypes.data + r * dim * 4,
                            panels.ctypes.data + p * panel_bytes,
                            offsets.ctypes.data + p * PANEL * 4,
                            dim,
                            limit,
                        )
                        while mask != 0 and found < _MOST:
                            candidates[found] = numbers[p * PANEL + v.lowest_bit(mask)]
                            mask &= mask - 1
                            found += 1
            row = rows[start + r]
            if found == 0 or found == _MOST:
                code, score = settle_all(row, codebook, norms, metric, work)
                if code < 0:
                    return start + r
            elif found == 1 and scores.shape[0] == 0:
                code, score = candidates[0], 0.0
            else:
                code, score = settle(row, codebook, norms, metric, candidates, found, work)
            codes[start + r] = code
            if scores.shape[0]:
                scores[start + r] = score
    return -1


@njit(nogil=True, cache=True)
def home_groups(rows, order, center, unit, group_boxes, moved, homes):  # type: ignore[no-untyped-def]
    """The group of panels whose box is nearest to each row: homes (n,) int64, out."""
    dim = rows.shape[1]
    distances = np.empty(BOXES, np.float32)
    for r in range(rows.shape[0]):
        _move(rows[r], center, unit, moved[0])
        best = np.float32(np.inf)
        homes[r] = 0
        for g in range(group_boxes.shape[0]):
            boxes = group_boxes.ctypes.data + g * dim * 2 * BOXES * 4
            _box_distances(moved.ctypes.data, boxes, dim, distances.ctypes.data)
            for i in range(BOXES):
                if distances[i] < best:
                    best, homes[r] = distances[i], g * BOXES + i
    order[:] = np.argsort(homes, kind="mergesort")


@njit(nogil=True, cache=True)
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
    codebook,
    norms,
    metric,
    codes,
    scores,
    moved,
    patience,
):
    """Nearest codes of rows by looking at the panels whose boxes can hold them.

    Args:
        order: (n,) the order in which to take the rows: neighbours share panels in cache.
        boxes: (G, D, 2, 16) around the panels of each group of 16, group_boxes: (G', D, 2, 16)
            around the groups; far away for padding.
        patience: panels for each row, on average over the first rows, beyond which looking at all
            panels is cheaper, so that the search stops.
        others: see `search_panels`.

    Returns:
        The first row that is not finite, or -1; and how many rows of `order` were done.
    """
    dim = rows.shape[1]
    work = np.empty(dim, np.float64)
    candidates = np.empty(_MOST, np.int64)
    lower = np.empty(_MOST, np.float32)
    panel_bytes = dim * PANEL * 4
    boxes_bytes = dim * 2 * BOXES * 4
    groups = np.empty(group_boxes.shape[0] * BOXES, np.float32)
    cells = np.empty(BOXES, np.float32)
    point = moved.ctypes.data
    looked = 0
    for i in range(rows.shape[0]):
        if i == 64 and looked > 64 * patience:
            return -1, i
        row = rows[order[i]]
        squared = _move(row, center, unit, moved[0])
        error = _error(squared, longest, dim)
        found = 0
        best = np.float32(np.inf)
        if error < _HUGE:
            home = 0
            for g in range(group_boxes.shape[0]):
                near = groups.ctypes.data + g * BOXES * 4
                _box_distances(point, group_boxes.ctypes.data + g * boxes_bytes, dim, near)
            for g in range(groups.shape[0]):
                home = g if groups[g] < groups[home] else home
            limit = _HUGE  # on squared distances to boxes; padding lies beyond it
            # The home group first, then all that may hold something nearer.
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
                    _box_distances(point, boxes.ctypes.data + g * boxes_bytes, dim, cells.ctypes.data)
                    first = 0
                    for c in range(BOXES):
                        first = c if cells[c] < cells[first] else first
                    visit = _near(cells.ctypes.data, limit)
                    if block < 0:
                        visit |= np.int64(1) << BOXES  # the nearest panel once more, at the front
                    while visit != 0:
                        c = v.lowest_bit(visit)
                        if visit >> BOXES:
                            c = first
                            visit &= (np.int64(1) << BOXES) - 1
                            visit &= ~(np.int64(1) << c)
                        else:
                            visit &= visit - 1
                        if cells[c] > limit:
                            continue
                        looked += 1
                        p = g * BOXES + c
                        panel = panels.ctypes.data + p * panel_bytes
                        offset = offsets.ctypes.data + p * PANEL * 4
                        least = _least(point, panel, offset, dim)
                        if least > best + 2 * error:
                            continue
                        if least < best:
                            best = least
                            kept = 0
                            for k in range(found):
                                if lower[k] <= best + 2 * error:
                                    lower[kept], candidates[kept] = lower[k], candidates[k]
                                    kept += 1
                            found = kept
                            limit = 2 * best + squared + 8 * error
                        near_codes = _within(point, panel, offset, dim, best + 2 * error)
                        while near_codes != 0 and found < _MOST:
                            lower[found] = least
                            candidates[found] = numbers[p * PANEL + v.lowest_bit(near_codes)]
                            near_codes &= near_codes - 1
                            found += 1
                block += 1
                if block == group_boxes.shape[0]:
                    break
                mask = _near(groups.ctypes.data + block * BOXES * 4, limit)
        if found == 0 or found == _MOST:
            code, score = settle_all(row, codebook, norms, metric, work)
            if code < 0:
                return order[i], i
        elif found == 1 and scores.shape[0] == 0:
            code, score = candidates[0], 0.0
        else:
            code, score = settle(row, codebook, norms, metric, candidates, found, work)
        codes[order[i]] = code
        if scores.shape[0]:
            scores[order[i]] = score
    return -1, rows.shape[0]
