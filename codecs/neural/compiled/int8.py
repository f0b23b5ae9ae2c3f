# mypy: allow-untyped-calls
# numba reads the types of a kernel's arguments from its calls.
"""Linear layers with 8-bit weights and activations: a quarter of the memory traffic, exact sums.

Weights have one scale per output, inputs one per frame (Dettmers et al., "LLM.int8()", arXiv
2208.07339, without outliers). Sums of integers are exact in any order, so a result depends neither
on the processor nor on the number of frames.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ....kernels import vector_ir as v
from ....kernels.cache import kernel
from ....kernels.linear import DOUBLE, DOUBLES, ROUNDER, gelu, spread_constant
from ....kernels.processors import compiles_for
from .packing import on_cache_lines

#: Adjacent outputs in a panel of weights.
PANEL = 64
# Adjacent inputs in a lane, and per iteration over them.
_GROUP = 4
_STEP = 8
_VECTORS = PANEL // v.LANES
_MOST = 127
_BYTES = ir.VectorType(ir.IntType(8), v.LANES)
_PAIRS = ir.VectorType(v.INT16, 2 * v.LANES)

_FAST = compiles_for("avx512f", "avx512vnni")
_MIDDLE = not _FAST and compiles_for("avx2")
# Makes weights unsigned, as one factor of AVX-512's instruction must be.
_OFFSET = 128 if _FAST else 0
# Frames that share each load of a panel, and the parts in which they take it: as many frames, of as
# large parts, as registers can hold the sums of.
_ROWS, _PARTS = (4, 1) if _FAST else (2, 2) if _MIDDLE else (1, 1)


def pack_int8(
    weight: np.ndarray[Any, Any], bias: np.ndarray[Any, Any] | None
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Pack weights (outputs, inputs) and bias (outputs,) float32 for `linear_int8`.

    Returns:
        Panels (count, inputs / 4, PANEL, 4) uint8, of integers from -127 to 127, plus 128 where
        the processor's instruction takes unsigned ones; scales and bias (count × PANEL,) float32.
        Padding outputs are zero.
    """
    outputs, inputs = weight.shape
    count, steps = -(-outputs // PANEL), -(-inputs // _STEP)
    exact = weight.astype(np.float32).astype(np.float64)
    scales = (np.abs(exact).max(1) / _MOST).astype(np.float32)
    scales[scales == 0] = 1
    whole = np.zeros((count * PANEL, steps * _STEP), np.int16)
    whole[:outputs, :inputs] = np.rint(exact / scales.astype(np.float64)[:, None])
    panels = (whole + _OFFSET).astype(np.uint8)
    panels = panels.reshape(count, PANEL, -1, _GROUP).transpose(0, 2, 1, 3)
    padded = np.zeros((2, count * PANEL), np.float32)
    padded[0, :outputs] = scales
    if bias is not None:
        padded[1, :outputs] = bias
    return on_cache_lines(panels), padded[0].copy(), padded[1].copy()


def _quads(builder, x, weights, sums):  # type: ignore[no-untyped-def]
    """Return sums + products of 16 lanes of 4 signed and 4 unsigned bytes."""
    if _FAST:
        return v.call(builder, "llvm.x86.avx512.vpdpbusd.512", sums, weights, x)
    if _MIDDLE:
        halves = [_quads_of_8(builder, x, weights, half) for half in (0, 1)]
        lanes = ir.Constant(v.INTS, list(range(v.LANES)))
        return builder.add(sums, builder.shuffle_vector(*halves, lanes))
    # Even and odd bytes as pairs of int16.
    eight = ir.Constant(_PAIRS, [8] * 2 * v.LANES)
    x, weights = builder.bitcast(x, _PAIRS), builder.bitcast(weights, _PAIRS)
    for ours, theirs in (
        (builder.ashr(builder.shl(y, eight), eight) for y in (x, weights)),
        (builder.ashr(y, eight) for y in (x, weights)),
    ):
        for first in (0, 1):
            lanes = ir.Constant(v.INTS, [2 * i + first for i in range(v.LANES)])
            a, b = (
                builder.sext(builder.shuffle_vector(part, part, lanes), v.INTS)
                for part in (ours, theirs)
            )
            sums = builder.add(sums, builder.mul(a, b))
    return sums


def _quads_of_8(builder, x, weights, half):  # type: ignore[no-untyped-def]
    """Return the products of 8 of 16 lanes of 4 signed bytes each, added to an int32, by AVX2.

    Its product of bytes takes one factor as unsigned, and clips sums of two products to int16. So
    it gets the magnitudes of x, and the weights with the signs of x: up to 127, two products fit.
    """
    eight, sixteen = v.LANES // 2, v.LANES
    bytes_, pairs, ints = (
        ir.VectorType(kind, count)
        for kind, count in ((ir.IntType(8), 32), (v.INT16, sixteen), (v.INT32, eight))
    )
    lanes = ir.Constant(ints, [half * eight + i for i in range(eight)])
    x, weights = (
        builder.bitcast(builder.shuffle_vector(y, y, lanes), bytes_) for y in (x, weights)
    )
    zero = ir.Constant(bytes_, [0] * 32)
    magnitude = builder.select(builder.icmp_signed("<", x, zero), builder.sub(zero, x), x)
    signed = v.call(builder, "llvm.x86.avx2.psign.b", weights, x)
    sums = v.call(builder, "llvm.x86.avx2.pmadd.ub.sw", magnitude, signed, result=pairs)
    ones = ir.Constant(pairs, [1] * sixteen)
    return v.call(builder, "llvm.x86.avx2.pmadd.wd", sums, ones, result=ints)


def _product_of(rows, activated):  # type: ignore[no-untyped-def]
    """Create the intrinsic that multiplies `rows` frames with a panel; GELU if `activated`.

    Several rows are multiplied with one of the panel's `_PARTS`.
    """
    vectors = _VECTORS // (1 if rows == 1 else _PARTS)

    @intrinsic
    def product(  # type: ignore[no-untyped-def]
        context, like, x, x_stride, steps, panel, scales, bias, factors, starts, out, out_stride
    ):
        """Store the layer's outputs; addresses and strides are in bytes, `like` gives the dtype.

        Args:
            x: integers. steps: number of iterations, of 8 inputs each.
            factors, starts: per frame: the scale of `x`, and minus 128 times the sum of `x`.
        """
        wide = like == types.float64
        scalar, kind, size = (DOUBLE, DOUBLES, 8) if wide else (v.FLOAT, v.FLOATS, 4)

        def code(target, builder, signature, values):  # type: ignore[no-untyped-def]
            _, x, x_stride, steps, panel, scales, bias, factors, starts, out, out_stride = values

            def numbers(address, j):  # type: ignore[no-untyped-def]
                lanes = v.load(builder, v.at(builder, address, 4 * v.LANES * j), v.FLOATS)
                return builder.fpext(lanes, kind) if wide else lanes

            zero = ir.Constant(v.INTS, [0] * v.LANES)
            begin: list[Any] = []
            for r in range(rows):
                start = v.load(builder, v.at(builder, starts, 4 * r), v.INT32)
                begin += [v.spread(builder, start)] * vectors
            # The sums of a single frame are too few to keep slow multipliers busy.
            halves = 2 if rows == 1 and _FAST else 1
            begin += [zero] * (len(begin) * (halves - 1))
            sums: list[Any] = []
            with v.counted_loop(builder, steps, begin) as (step, carried, following):
                sums += carried
                line = v.at(builder, panel, v.times(builder, step, _STEP * PANEL))
                column = v.at(builder, x, v.times(builder, step, _STEP))
                for group in range(_STEP // _GROUP):
                    at = v.at(builder, line, group * _GROUP * PANEL)
                    weights = [
                        v.load(builder, v.at(builder, at, 4 * v.LANES * j), v.INTS)
                        for j in range(vectors)
                    ]
                    quads = v.at(builder, column, group * _GROUP)
                    for r in range(rows):
                        address = v.at(builder, quads, v.times(builder, x_stride, r))
                        quad = v.spread(builder, v.load(builder, address, v.INT32))
                        first = vectors * (r + group % halves)
                        for j in range(vectors):
                            sums[first + j] = _quads(builder, quad, weights[j], sums[first + j])
                following(sums)
            if halves == 2:
                sums = [builder.add(sums[j], sums[vectors + j]) for j in range(vectors)]
            for r in range(rows):
                factor = v.load(builder, v.at(builder, factors, size * r), scalar)
                for j in range(vectors):
                    scale = builder.fmul(v.spread(builder, factor), numbers(scales, j))
                    result = builder.fmul(builder.sitofp(sums[vectors * r + j], kind), scale)
                    result = builder.fadd(result, numbers(bias, j))
                    if activated:
                        result = gelu(builder, result)
                    address = v.at(builder, out, v.times(builder, out_stride, r))
                    v.store(builder, result, v.at(builder, address, size * v.LANES * j))
            return target.get_dummy_value()

        return types.void(like, *[types.int64] * 10), code

    return product


_product_of_rows, _product_of_row = _product_of(_ROWS, False), _product_of(1, False)
_gelu_of_rows, _gelu_of_row = _product_of(_ROWS, True), _product_of(1, True)


@intrinsic
def _largest(context, like, address, vectors):  # type: ignore[no-untyped-def]
    """Return the largest magnitude of 16 × `vectors` values of the type of `like`."""
    wide = like == types.float64
    kind, size = (DOUBLES, 8) if wide else (v.FLOATS, 4)

    def code(target, builder, signature, values):  # type: ignore[no-untyped-def]
        most = ir.Constant(kind, [0.0] * v.LANES)
        with v.counted_loop(builder, values[2], [most]) as (step, carried, following):
            at = v.at(builder, values[1], v.times(builder, step, size * v.LANES))
            x = v.load(builder, at, kind)
            negative = builder.fsub(ir.Constant(kind, [-0.0] * v.LANES), x)
            most = v.larger(builder, v.larger(builder, x, negative), carried[0])
            following([most])
        for half in (8, 4, 2, 1):
            lanes = ir.Constant(v.INTS, [(i + half) % v.LANES for i in range(v.LANES)])
            most = v.larger(builder, most, builder.shuffle_vector(most, most, lanes))
        return builder.extract_element(most, ir.Constant(v.INT32, 0))

    return like(like, types.int64, types.int64), code


@intrinsic
def _round(context, like, address, vectors, inverse, out):  # type: ignore[no-untyped-def]
    """Store 16 × `vectors` values times `inverse`, rounded to int8; return their sum."""
    wide = like == types.float64
    kind, size = (DOUBLES, 8) if wide else (v.FLOATS, 4)
    bits = ir.VectorType(v.INT64, v.LANES) if wide else v.INTS

    def code(target, builder, signature, values):  # type: ignore[no-untyped-def]
        _, address, vectors, inverse, out = values
        rounder = spread_constant(kind, ROUNDER["f64" if wide else "f32"])
        inverse = v.spread(builder, inverse)
        total = ir.Constant(v.INTS, [0] * v.LANES)
        with v.counted_loop(builder, vectors, [total]) as (step, carried, following):
            at = v.at(builder, address, v.times(builder, step, size * v.LANES))
            x = builder.fmul(v.load(builder, at, kind), inverse)
            # The lowest bits of the sum are the integer.
            shifted = builder.bitcast(builder.fadd(x, rounder), bits)
            whole = builder.trunc(shifted, _BYTES)
            at = v.at(builder, out, v.times(builder, step, v.LANES))
            builder.store(whole, v.pointer(builder, at, _BYTES), align=1)
            total = builder.add(carried[0], builder.sext(whole, v.INTS))
            following([total])
        for half in (8, 4, 2, 1):
            lanes = ir.Constant(v.INTS, [(i + half) % v.LANES for i in range(v.LANES)])
            total = builder.add(total, builder.shuffle_vector(total, total, lanes))
        return builder.extract_element(total, ir.Constant(v.INT32, 0))

    return types.int32(like, types.int64, types.int64, like, types.int64), code


@kernel
def _quantize(x, inputs, whole, factors, starts):  # type: ignore[no-untyped-def]
    """Quantize the first `inputs` columns of x; store their scale, and -128 × their sum.

    Frames of zeros, or of values so small that 127 divided by them is infinite, become zeros.
    """
    like = x.dtype.type(0)
    most_whole = x.dtype.type(_MOST)
    vectors = inputs // v.LANES
    for t in range(x.shape[0]):
        address = x.ctypes.data + t * x.strides[0]
        most = _largest(like, address, vectors) if vectors else like
        for c in range(vectors * v.LANES, inputs):
            most = max(most, abs(x[t, c]))
        inverse = like if most == 0 else most_whole / most
        if not np.isfinite(inverse):
            inverse = like
        whole[t, vectors * v.LANES :] = 0
        to = whole.ctypes.data + t * whole.strides[0]
        total = np.int64(_round(like, address, vectors, inverse, to)) if vectors else 0
        for c in range(vectors * v.LANES, inputs):
            value = np.int64(np.rint(x[t, c] * inverse))
            whole[t, c] = value
            total += value
        factors[t] = most / most_whole
        starts[t] = -_OFFSET * total


@kernel
def linear_int8(x, panels, scales, bias, activated, out):  # type: ignore[no-untyped-def]
    """Compute out = x·weights + bias, with GELU if `activated`, like `kernels.linear`.

    Args:
        x: (frames, at least inputs) float32 or float64, rows contiguous; zeros after the inputs.
        panels, scales, bias: of `pack_int8`.
        out: (frames, at least count × PANEL), of x's type, contiguous.
    """
    size, like = x.itemsize, x.dtype.type(0)
    count, groups, width, _ = panels.shape
    # An array padded for a layer's outputs has zeros in the padding.
    frames, inputs = x.shape[0], min(x.shape[1], groups * _GROUP)
    steps = groups * _GROUP // _STEP
    whole = np.empty((frames, groups * _GROUP), np.int8)
    factors, starts = np.empty(frames, x.dtype), np.empty(frames, np.int32)
    _quantize(x, inputs, whole, factors, starts)
    stride, apart = whole.strides[0], out.strides[0]
    for p in range(count):
        panel = panels.ctypes.data + p * groups * width * _GROUP
        scale = scales.ctypes.data + p * width * 4
        offset = bias.ctypes.data + p * width * 4
        done = 0
        while done < frames:
            row = whole.ctypes.data + done * stride
            factor = factors.ctypes.data + done * size
            start = starts.ctypes.data + done * 4
            to = out.ctypes.data + done * apart + p * width * size
            if frames - done >= _ROWS:
                for part in range(_PARTS):
                    some = part * (width // _PARTS)
                    lines, place = panel + some * _GROUP, to + some * size
                    sizes, offsets = scale + some * 4, offset + some * 4
                    if activated:
                        _gelu_of_rows(
                            like, row, stride, steps, lines, sizes, offsets, factor, start, place,
                            apart,
                        )  # fmt: skip
                    else:
                        _product_of_rows(
                            like, row, stride, steps, lines, sizes, offsets, factor, start, place,
                            apart,
                        )  # fmt: skip
                done += _ROWS
            else:
                if activated:
                    _gelu_of_row(
                        like, row, stride, steps, panel, scale, offset, factor, start, to, apart
                    )
                else:
                    _product_of_row(
                        like, row, stride, steps, panel, scale, offset, factor, start, to, apart
                    )
                done += 1
