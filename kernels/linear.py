# mypy: allow-untyped-calls
# numba reads the types of a kernel's arguments from its calls.
"""Compiled layers whose results for a frame do not depend on the number of frames per call.

Libraries choose the order of a sum by the shape of their input. Here it is fixed: each output is
its bias plus one fused multiply-add per input, in the order of the inputs, with outputs in SIMD
lanes. So frames may be processed one by one or by the thousand, on any processor, and nothing is
computed twice. Weights are float32, in panels that are read once for a block of frames; sums are
float32 or float64, like the arrays.
"""

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.extending import intrinsic

from . import vector_ir as v
from .cache import kernel
from .processors import compiles_for

#: Adjacent outputs in a panel of weights, for sums in float32 and in float64.
PANEL = {np.dtype(np.float32): 64, np.dtype(np.float64): 32}
# Frames that share each load of a panel, and the parts in which they take it: as many frames, of as
# large parts, as registers can hold the sums of.
_ROWS, _PARTS = (4, 1) if compiles_for("avx512f") else (2, 2)
# Number of frames from which a float64 copy of a panel pays off.
_MANY = 32
DOUBLE = ir.DoubleType()
DOUBLES = ir.VectorType(DOUBLE, v.LANES)
_LONGS = ir.VectorType(v.INT64, v.LANES)
# ln 2 as an exactly multiplying part and the rest, for float32 and float64.
_LN2 = {
    "f32": (0.693359375, -2.12194440e-4),
    "f64": (6.93147180369123816490e-01, 1.90821492927058770002e-10),
}
ROUNDER = {"f32": 1.5 * 2.0**23, "f64": 1.5 * 2.0**52}  # adding it rounds to an integer
_MOST = {"f32": 87.0, "f64": 700.0}  # largest argument of exp without overflow
_TERMS = {"f32": 8, "f64": 14}
# GELU, tanh form: x times the logistic function of 2 √(2/π) (x + 0.044715 x³).
_GELU = 2 * math.sqrt(2 / math.pi)
_GELU_CUBE = 0.044715
_TURN_ROUNDER = 1.5 * 2.0**52
_SINE = tuple((-1) ** n / math.factorial(2 * n + 1) for n in range(10))


def spread_constant(kind, value):  # type: ignore[no-untyped-def]
    return ir.Constant(kind, [value] * v.LANES)


def fused(builder, a, b, c):  # type: ignore[no-untyped-def]
    """Return a·b + c, rounded once."""
    name = "llvm.fma.v16f64" if c.type.element is DOUBLE else "llvm.fma.v16f32"
    return v.call(builder, name, a, b, c)


def exponential(builder, x):  # type: ignore[no-untyped-def]
    """Return e^x for 16 values, clipped to finite results; within 2 units in the last place."""
    wide = x.type.element is DOUBLE
    name = "f64" if wide else "f32"

    def constant(value):  # type: ignore[no-untyped-def]
        return spread_constant(x.type, value)

    most, least = constant(_MOST[name]), constant(-_MOST[name])
    x = builder.select(builder.fcmp_ordered("<", x, most), x, most)
    x = builder.select(builder.fcmp_ordered(">", x, least), x, least)
    rounder = constant(ROUNDER[name])
    shifted = fused(builder, x, constant(1 / math.log(2)), rounder)
    whole = builder.fsub(shifted, rounder)
    for part in _LN2[name]:
        x = fused(builder, whole, constant(-part), x)
    terms = [1 / math.factorial(n) for n in range(_TERMS[name])]
    result = constant(terms[-1])
    for term in reversed(terms[:-1]):
        result = fused(builder, result, x, constant(term))
    bits, shift = (_LONGS, 52) if wide else (v.INTS, 23)
    power = builder.shl(builder.bitcast(shifted, bits), spread_constant(bits, shift))
    return builder.bitcast(builder.add(builder.bitcast(result, bits), power), x.type)


def gelu(builder, x):  # type: ignore[no-untyped-def]
    def constant(value):  # type: ignore[no-untyped-def]
        return spread_constant(x.type, value)

    cubic = fused(builder, builder.fmul(x, x), constant(_GELU_CUBE), constant(1.0))
    inner = builder.fmul(builder.fmul(x, constant(-_GELU)), cubic)
    return builder.fdiv(x, builder.fadd(constant(1.0), exponential(builder, inner)))


def _product_of(rows, activated, widened=False):  # type: ignore[no-untyped-def]
    """Create the intrinsic that multiplies `rows` frames with a panel; with GELU if `activated`.

    Several rows are multiplied with one of the panel's `_PARTS`. With `widened`, that part is
    float64 like x, and its lines follow each other.
    """
    parts = 1 if rows == 1 else _PARTS

    @intrinsic
    def product(context, like, x, x_stride, panel, bias, steps, out, out_stride):  # type: ignore[no-untyped-def]
        """Store bias + x·panel; addresses and strides are in bytes, `like` gives the dtype."""
        wide = like == types.float64
        scalar, size = (DOUBLE, 8) if wide else (v.FLOAT, 4)
        whole = 2 if wide else 4  # vectors of a panel's line
        count = whole // parts
        as_it_is = widened and wide
        each, apart = (8, count) if as_it_is else (4, whole)

        def code(target, builder, signature, values):  # type: ignore[no-untyped-def]
            _, x, x_stride, panel, bias, steps, out, out_stride = values

            def narrow(address, j):  # type: ignore[no-untyped-def]
                lanes = v.load(builder, v.at(builder, address, 4 * v.LANES * j), v.FLOATS)
                return builder.fpext(lanes, DOUBLES) if wide else lanes

            def weights(address, j):  # type: ignore[no-untyped-def]
                if as_it_is:
                    return v.load(builder, v.at(builder, address, 8 * v.LANES * j), DOUBLES)
                return narrow(address, j)

            start = [narrow(bias, j) for j in range(count)] * rows
            sums: list[Any] = []
            with v.counted_loop(builder, steps, start) as (step, carried, following):
                line = v.at(builder, panel, v.times(builder, step, each * v.LANES * apart))
                lanes = [weights(line, j) for j in range(count)]
                column = v.at(builder, x, v.times(builder, step, size))
                for r in range(rows):
                    address = v.at(builder, column, v.times(builder, x_stride, r))
                    value = v.spread(builder, v.load(builder, address, scalar))
                    for j in range(count):
                        sums.append(fused(builder, value, lanes[j], carried[count * r + j]))
                following(sums)
            for r in range(rows):
                for j in range(count):
                    result = sums[count * r + j]
                    if activated:
                        result = gelu(builder, result)
                    address = v.at(builder, out, v.times(builder, out_stride, r))
                    v.store(builder, result, v.at(builder, address, size * v.LANES * j))
            return target.get_dummy_value()

        return types.void(like, *[types.int64] * 7), code

    return product


_product_of_rows, _product_of_row = _product_of(_ROWS, False), _product_of(1, False)
_gelu_of_rows, _gelu_of_row = _product_of(_ROWS, True), _product_of(1, True)
_widened_product_of_rows = _product_of(_ROWS, False, widened=True)
_widened_gelu_of_rows = _product_of(_ROWS, True, widened=True)


@intrinsic
def _exponential_of(context, like, address):  # type: ignore[no-untyped-def]
    """Replace 16 values of the type of `like` by their exponentials."""
    kind = DOUBLES if like == types.float64 else v.FLOATS

    def code(target, builder, signature, values):  # type: ignore[no-untyped-def]
        result = exponential(builder, v.load(builder, values[1], kind))
        v.store(builder, result, values[1])
        return target.get_dummy_value()

    return types.void(like, types.int64), code


@kernel
def linear(x, panels, bias, activated, out):  # type: ignore[no-untyped-def]
    """Compute out = x·weights + bias, with GELU if `activated`.

    Args:
        x: (frames, inputs) float32 or float64, rows contiguous.
        panels: (count, inputs, PANEL) float32, from `pack`. bias: (count × PANEL,) float32.
        out: (frames, at least count × PANEL), of x's type, contiguous.
    """
    size, like = x.itemsize, x.dtype.type(0)
    count, steps, width = panels.shape
    frames = x.shape[0]
    # With many frames, a panel is converted to float64 once for all; sums are the same.
    many = size == 8 and frames >= _MANY
    share = width // _PARTS
    widened = np.empty((_PARTS, steps if many else 0, share))
    for p in range(count):
        panel = panels.ctypes.data + p * steps * width * 4
        offset = bias.ctypes.data + p * width * 4
        wide = widened.ctypes.data
        if many:
            for part in range(_PARTS):
                for n in range(steps):
                    for c in range(share):
                        widened[part, n, c] = panels[p, n, part * share + c]
        done = 0
        while done < frames:
            row = x.ctypes.data + done * x.strides[0]
            to = out.ctypes.data + done * out.strides[0] + p * width * size
            here, there = x.strides[0], out.strides[0]
            if frames - done < _ROWS:
                if activated:
                    _gelu_of_row(like, row, here, panel, offset, steps, to, there)
                else:
                    _product_of_row(like, row, here, panel, offset, steps, to, there)
                done += 1
                continue
            for part in range(_PARTS):
                some = part * share
                lines, copied = panel + some * 4, wide + some * steps * 8
                start, place = offset + some * 4, to + some * size
                if many and activated:
                    _widened_gelu_of_rows(like, row, here, copied, start, steps, place, there)
                elif many:
                    _widened_product_of_rows(like, row, here, copied, start, steps, place, there)
                elif activated:
                    _gelu_of_rows(like, row, here, lines, start, steps, place, there)
                else:
                    _product_of_rows(like, row, here, lines, start, steps, place, there)
            done += _ROWS


@kernel
def banded_linear(x, panels, bands, bias, out):  # type: ignore[no-untyped-def]
    """Compute `linear` where each panel has weights of 0 for all but some adjacent inputs.

    The same sums, since a product of 0 adds nothing to them.

    Args:
        x, panels, bias, out: see `linear`; x is finite.
        bands: (count, 2) int64: each panel's first input with a weight, and the end.
    """
    size, like = x.itemsize, x.dtype.type(0)
    count, steps, width = panels.shape
    here, there = x.strides[0], out.strides[0]
    for p in range(count):
        first, inputs = bands[p, 0], bands[p, 1] - bands[p, 0]
        panel = panels.ctypes.data + (p * steps + first) * width * 4
        offset = bias.ctypes.data + p * width * 4
        done = 0
        while done < x.shape[0]:
            row = x.ctypes.data + done * here + first * size
            to = out.ctypes.data + done * there + p * width * size
            if x.shape[0] - done < _ROWS:
                _product_of_row(like, row, here, panel, offset, inputs, to, there)
                done += 1
            else:
                for part in range(_PARTS):
                    some = part * (width // _PARTS)
                    lines, start, place = panel + some * 4, offset + some * 4, to + some * size
                    _product_of_rows(like, row, here, lines, start, inputs, place, there)
                done += _ROWS


@kernel
def normalize(x, weight, bias, epsilon, out):  # type: ignore[no-untyped-def]
    """Apply LayerNorm to x (frames, channels), into out (frames, at least channels)."""
    zero = x.dtype.type(0)
    channels = x.shape[1]
    lanes = np.empty(v.LANES, x.dtype)
    whole = channels - channels % v.LANES
    for t in range(x.shape[0]):
        mean = zero
        for moment in range(2):
            lanes[:] = zero
            for start in range(0, whole, v.LANES):
                for j in range(v.LANES):
                    value = x[t, start + j] - mean
                    lanes[j] += value * value if moment else value
            for c in range(whole, channels):
                value = x[t, c] - mean
                lanes[c - whole] += value * value if moment else value
            total = zero
            for j in range(v.LANES):
                total += lanes[j]
            total /= x.dtype.type(channels)
            if moment == 0:
                mean = total
            else:
                scale = x.dtype.type(1) / np.sqrt(total + x.dtype.type(epsilon))
        for c in range(channels):
            out[t, c] = (x[t, c] - mean) * scale * weight[c] + bias[c]


@intrinsic
def _pointer(context, like, address):  # type: ignore[no-untyped-def]
    """Return a pointer to values of the type of `like`."""

    def code(target, builder, signature, values):  # type: ignore[no-untyped-def]
        return builder.inttoptr(values[1], target.get_value_type(signature.return_type))

    return types.CPointer(like)(like, types.int64), code


@njit(nogil=True, inline="always")
def at_address(like, address, shape):  # type: ignore[no-untyped-def]
    """Return the contiguous array at an address, of the type of `like`.

    numba copies sequences of arrays of variable length, but not addresses.
    """
    return carray(_pointer(like, address), shape)


@kernel
def most_frames(edges):  # type: ignore[no-untyped-def]
    """Return the largest number of frames of a row; see `run_blocks` for `edges`."""
    most = 0
    for r in range(edges.shape[0] - 1):
        most = max(most, edges[r + 1] - edges[r])
    return most


@kernel
def run_blocks(  # type: ignore[no-untyped-def]
    x, edges, rows, pasts, taps, taps_bias, norms, epsilon, widen, widen_bias, narrow, narrow_bias,
    scales,
):  # fmt: skip
    """Run causal blocks on x (frames, width) in place: concatenated frames of several rows.

    Args:
        edges: (rows + 1,) row r has the frames from `edges[r]` to `edges[r + 1]`.
        rows: (rows,) where the address of each row's past is in `pasts`.
        pasts: addresses of arrays (blocks, kernel - 1, width); updated.
        taps: (blocks, kernel, width). taps_bias, scales: (blocks, width).
        norms: (blocks, 2, width): weights and biases.
        widen, narrow: panels of each block; widen_bias, narrow_bias: their biases.
    """
    blocks, kernel, width = taps.shape
    frames, like = x.shape[0], x.dtype.type(0)
    kept = kernel - 1
    padded = np.empty((most_frames(edges) + kept, width), x.dtype)
    mixed = np.empty((frames, width), x.dtype)
    hidden = np.empty((frames, widen_bias.shape[1]), x.dtype)
    back = np.empty((frames, narrow_bias.shape[1]), x.dtype)
    for b in range(blocks):
        for r in range(rows.shape[0]):
            past = at_address(like, pasts[rows[r]], (blocks, kept, width))[b]
            start, count = edges[r], edges[r + 1] - edges[r]
            # Loops instead of slices: numba compiles the error of a slice assignment for 4 s.
            for t in range(kept):
                for c in range(width):
                    padded[t, c] = past[t, c]
            for t in range(count):
                for c in range(width):
                    padded[kept + t, c] = x[start + t, c]
            for t in range(count):
                for c in range(width):
                    mixed[start + t, c] = taps_bias[b, c]
                for k in range(kernel):
                    for c in range(width):
                        mixed[start + t, c] += padded[t + k, c] * taps[b, k, c]
            for t in range(kept):
                for c in range(width):
                    past[t, c] = padded[count + t, c]
        normalize(mixed, norms[b, 0], norms[b, 1], epsilon, mixed)
        linear(mixed, widen[b], widen_bias[b], True, hidden)
        linear(hidden, narrow[b], narrow_bias[b], False, back)
        for t in range(frames):
            for c in range(width):
                x[t, c] += scales[b, c] * back[t, c]


@kernel
def exponentials(values):  # type: ignore[no-untyped-def]
    """Replace contiguous values, a multiple of 16, by their exponentials."""
    for start in range(0, values.size, v.LANES):
        _exponential_of(values.dtype.type(0), values.ctypes.data + start * values.itemsize)


@njit(nogil=True, inline="always")
def sine_of_half_turns(x):  # type: ignore[no-untyped-def]
    """Return sin(π x) of a float64: exact range reduction, then a Taylor series."""
    whole = (x + _TURN_ROUNDER) - _TURN_ROUNDER
    r = (x - whole) * math.pi
    odd = whole - 2 * ((0.5 * whole + _TURN_ROUNDER) - _TURN_ROUNDER)
    s = r * r
    # Only multiplications: unlike divisions, a processor runs many at a time.
    series = _SINE[9]
    series = _SINE[8] + s * series
    series = _SINE[7] + s * series
    series = _SINE[6] + s * series
    series = _SINE[5] + s * series
    series = _SINE[4] + s * series
    series = _SINE[3] + s * series
    series = _SINE[2] + s * series
    series = _SINE[1] + s * series
    series = _SINE[0] + s * series
    return r * series * (1 - 2 * odd * odd)
