# mypy: allow-untyped-calls
# numba reads the types of a kernel's arguments from its calls.
"""Compiled transformer layers: the same sums in the same order, for any number of frames per call.

As in `kernels.linear`, SIMD lanes hold different outputs: attention computes scores with one lane
per distance, and sums values with one lane per channel, so that no sum depends on the number of
frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from torch import Tensor

from ....errors import StateError
from ....kernels import vector_ir as v
from ....kernels.cache import kernel
from ....kernels.linear import (
    DOUBLE,
    DOUBLES,
    at_address,
    exponential,
    fused,
    linear,
    most_frames,
    normalize,
    spread_constant,
)
from ..layers.causal import CausalStack
from ..layers.transformer import CausalTransformer, TransformerConfig, TransformerLayer
from .int8 import linear_int8, pack_int8
from .packing import (
    Array,
    PackedStack,
    addresses,
    array,
    on_cache_lines,
    pack,
    row_addresses,
    rows_of_zeros,
)

_SPAN = 2 * v.LANES  # distances per iteration

# Frames for which a row's past has room beyond the window: only when they are used up is the past
# moved back to the start. With a window of 32, rows of keys are then whole cache lines.
_SLACK = 9


@dataclass
class AttentionPast:
    """Keys and values of a row's last frames, and room for the next ones.

    Attributes:
        memory: (size,) keys (layers, width, columns), the layout that attention reads, and then
            values (layers, window - 1 + `_SLACK`, width); see `_columns`.
        at: column of the first of the last `window - 1` frames.
    """

    memory: Array
    at: int = 0

    def check(self) -> None:
        """Raise StateError if the place is outside."""
        if not 0 <= self.at <= _SLACK:
            raise StateError(f"keys from column {self.at} on, expected 0 to {_SLACK}")


class AttentionPasts:
    """`AttentionPast` of all rows of a stream.

    Args:
        rows: number of rows.
        size: of the memory of each.
        dtype: of the computation.
    """

    def __init__(self, rows: int, size: int, dtype: type[np.floating[Any]]) -> None:
        self.memory = rows_of_zeros(rows, size, dtype)
        self.addresses = row_addresses(self.memory)
        self.at = np.zeros(rows, np.int64)

    def row(self, row: int) -> AttentionPast:
        """Return the past of a row, whose memory is a view."""
        return AttentionPast(self.memory[row], int(self.at[row]))

    def put(self, row: int, past: AttentionPast | None) -> None:
        """Set the past of a row; None: the initial one."""
        self.memory[row], self.at[row] = (0, 0) if past is None else (past.memory, past.at)


class PackedTransformer:
    """The layers and the last norm of a `CausalTransformer`, without its first linear layer.

    Args:
        stack: its weights are copied.
        dtype: of the computation, float32 or float64.
    """

    def __init__(self, stack: CausalTransformer, dtype: type[np.floating[Any]]) -> None:
        config = stack.config
        self.config, self.width, self.dtype = config, config.width, dtype
        layers = [layer for layer in stack.layers if isinstance(layer, TransformerLayer)]
        attentions = [layer.attention for layer in layers]

        def packed(weights: Sequence[Array], biases: Sequence[Tensor | None]) -> tuple[Array, ...]:
            parts = [
                _pack(weight, bias, config, dtype)
                for weight, bias in zip(weights, biases, strict=True)
            ]
            return tuple(on_cache_lines(np.stack(part)) for part in zip(*parts, strict=True))

        def stacked(parts: Sequence[Sequence[Tensor]]) -> Array:
            return np.stack([np.stack([array(t) for t in part]) for part in parts]).astype(dtype)

        none = [None] * len(layers)
        norms = [(layer.attention_norm, layer.norm) for layer in layers]
        distances = np.zeros((len(layers), config.head_dim, _in_spans(config.window)), dtype)
        distances[:, :, : config.window] = stacked([[a.distances.T] for a in attentions])[:, 0]
        self.weights = (
            stacked([[n.weight for n in pair] + [n.bias for n in pair] for pair in norms]),
            stack.norm.eps,
            packed(
                [
                    np.concatenate([array(part.weight) for part in (a.query, a.key, a.value)])
                    for a in attentions
                ],
                none,
            ),
            on_cache_lines(distances),
            dtype(config.head_dim**-0.5),
            packed([array(a.outward.weight) for a in attentions], none),
            packed(
                [array(layer.widen.weight) for layer in layers],
                [layer.widen.bias for layer in layers],
            ),
            packed(
                [array(layer.narrow.weight) for layer in layers],
                [layer.narrow.bias for layer in layers],
            ),
            array(stack.norm.weight).astype(dtype),
            array(stack.norm.bias).astype(dtype),
        )

    def init_state(self) -> AttentionPast:
        """Create the initial state of a row."""
        return AttentionPast(np.zeros(self._size, self.dtype))

    def init_states(self, rows: int) -> AttentionPasts:
        """Create the initial states of `rows` rows."""
        return AttentionPasts(rows, self._size, self.dtype)

    @property
    def _size(self) -> int:
        """Numbers in a row's memory."""
        config = self.config
        frames = config.window - 1 + _SLACK
        per_channel = _columns(_in_spans(config.window)) + frames
        # Vectors are read whole, also at the end of a row.
        return int(config.layers * config.width * per_channel + v.LANES)

    def __call__(self, x: Array, edges: Array, pasts: Sequence[Any]) -> None:
        """Apply the layers to x (frames, width) in place, and update each row's past.

        Args:
            x: concatenated frames of all rows.
            edges: (rows + 1,) boundaries of the rows in x.
            pasts: of each row, from `init_state`.
        """
        places = np.array([past.at for past in pasts])
        memories, rows = addresses([past.memory for past in pasts]), np.arange(len(pasts))
        _run_layers(x, edges, rows, memories, places, self.config.window, *self.weights)
        for past, place in zip(pasts, places.tolist(), strict=True):
            past.at = place

    def run(self, x: Array, edges: Array, rows: Array, pasts: AttentionPasts) -> None:
        """Apply the layers to frames of some rows of a stream; see `__call__`.

        Args:
            x, edges: see `__call__`; there are as many rows as in `rows`.
            rows: (busy,) int64 which rows of `pasts` they are.
            pasts: of all rows; updated.
        """
        window = self.config.window
        _run_layers(x, edges, rows, pasts.addresses, pasts.at, window, *self.weights)


def packed_layers(
    stack: CausalStack | CausalTransformer, dtype: type[np.floating[Any]]
) -> PackedStack | PackedTransformer:
    """Compile layers at the frame rate; see `PackedTransformer`."""
    if isinstance(stack, CausalTransformer):
        return PackedTransformer(stack, dtype)
    return PackedStack(stack, dtype)


def _pack(
    weight: Array, bias: Tensor | None, config: TransformerConfig, dtype: type[np.floating[Any]]
) -> tuple[Array, ...]:
    """Return the arguments of `_linear`: panels, scales (for int8 weights), bias."""
    if config.int8:
        return pack_int8(weight, None if bias is None else array(bias))
    panels, offsets = pack(weight, bias, dtype)
    return panels, np.empty(0, np.float32), offsets


def _in_spans(window: int) -> int:
    return -(-window // _SPAN) * _SPAN


@kernel
def _columns(room):  # type: ignore[no-untyped-def]
    """Return the columns of a row's keys, of whose last frame a window in whole spans is read."""
    return _SLACK - 1 + room


@intrinsic
def _scores(context, like, query, channels, across, stride, apart, apart_stride, valid, out):  # type: ignore[no-untyped-def]
    """Store the products of a query with the keys at 32 distances.

    Args:
        query: address of the `channels` values of a head.
        across: address of the keys of the first channel, from the farthest distance on.
        apart: address of the distance vectors, likewise.
        stride, apart_stride: bytes from one channel to the next.
        valid: number of valid distances; the others become minus infinity.
        out: address.
    """
    wide = like == types.float64
    scalar, kind, size = (DOUBLE, DOUBLES, 8) if wide else (v.FLOAT, v.FLOATS, 4)

    def code(target, builder, signature, values):  # type: ignore[no-untyped-def]
        _, query, channels, across, stride, apart, apart_stride, valid, out = values
        sums: list[Any] = []
        with v.counted_loop(builder, channels, [spread_constant(kind, 0.0)] * 2) as loop:
            channel, carried, following = loop
            at = v.at(builder, query, v.times(builder, channel, size))
            q = v.spread(builder, v.load(builder, at, scalar))
            keys = v.at(builder, across, builder.mul(channel, stride))
            shifts = v.at(builder, apart, builder.mul(channel, apart_stride))
            for j in range(2):
                key = v.load(builder, v.at(builder, keys, size * v.LANES * j), kind)
                shift = v.load(builder, v.at(builder, shifts, size * v.LANES * j), kind)
                sums.append(fused(builder, q, builder.fadd(key, shift), carried[j]))
            following(sums)
        limit = v.spread(builder, builder.trunc(valid, v.INT32))
        for j in range(2):
            lanes = ir.Constant(v.INTS, [v.LANES * j + i for i in range(v.LANES)])
            inside = builder.icmp_signed("<", lanes, limit)
            result = builder.select(inside, sums[j], spread_constant(kind, float("-inf")))
            v.store(builder, result, v.at(builder, out, size * v.LANES * j))
        return target.get_dummy_value()

    return types.void(like, *[types.int64] * 8), code


def _folded(builder, x, combine):  # type: ignore[no-untyped-def]
    """Reduce a vector with `combine` and return the result in all lanes."""
    for half in (8, 4, 2, 1):
        lanes = ir.Constant(v.INTS, [i ^ half for i in range(v.LANES)])
        x = combine(builder, x, builder.shuffle_vector(x, x, lanes))
    return x


@intrinsic
def _soften(context, like, address, vectors):  # type: ignore[no-untyped-def]
    """Replace 16 × `vectors` values by their softmax."""
    kind, size = (DOUBLES, 8) if like == types.float64 else (v.FLOATS, 4)

    def code(target, builder, signature, values):  # type: ignore[no-untyped-def]
        _, address, vectors = values

        def place(step):  # type: ignore[no-untyped-def]
            return v.at(builder, address, v.times(builder, step, size * v.LANES))

        lowest = spread_constant(kind, float("-inf"))
        with v.counted_loop(builder, vectors, [lowest]) as (step, carried, following):
            x = v.load(builder, place(step), kind)
            most = builder.select(builder.fcmp_ordered(">", x, carried[0]), x, carried[0])
            following([most])
        most = _folded(builder, most, lambda b, x, y: b.select(b.fcmp_ordered(">", x, y), x, y))
        with v.counted_loop(builder, vectors, [spread_constant(kind, 0.0)]) as loop:
            step, carried, following = loop
            x = exponential(builder, builder.fsub(v.load(builder, place(step), kind), most))
            v.store(builder, x, place(step))
            total = builder.fadd(carried[0], x)
            following([total])
        total = _folded(builder, total, lambda b, x, y: b.fadd(x, y))
        inverse = builder.fdiv(spread_constant(kind, 1.0), total)
        with v.counted_loop(builder, vectors, []) as (step, _, following):
            x = v.load(builder, place(step), kind)
            v.store(builder, builder.fmul(x, inverse), place(step))
        return target.get_dummy_value()

    return types.void(like, types.int64, types.int64), code


def _mean_of(count):  # type: ignore[no-untyped-def]
    """Create the intrinsic that sums 16 × `count` channels of weighted values."""

    @intrinsic
    def mean(context, like, weights, frames, values, stride, out):  # type: ignore[no-untyped-def]
        """Store the weighted sum of `frames` rows of values, `stride` bytes apart."""
        wide = like == types.float64
        scalar, kind, size = (DOUBLE, DOUBLES, 8) if wide else (v.FLOAT, v.FLOATS, 4)

        def code(target, builder, signature, values):  # type: ignore[no-untyped-def]
            _, weights, frames, rows, stride, out = values
            sums: list[Any] = []
            with v.counted_loop(builder, frames, [spread_constant(kind, 0.0)] * count) as loop:
                frame, carried, following = loop
                at = v.at(builder, weights, v.times(builder, frame, size))
                weight = v.spread(builder, v.load(builder, at, scalar))
                row = v.at(builder, rows, builder.mul(frame, stride))
                for j in range(count):
                    value = v.load(builder, v.at(builder, row, size * v.LANES * j), kind)
                    sums.append(fused(builder, weight, value, carried[j]))
                following(sums)
            for j in range(count):
                v.store(builder, sums[j], v.at(builder, out, size * v.LANES * j))
            return target.get_dummy_value()

        return types.void(like, *[types.int64] * 5), code

    return mean


_mean_of_four, _mean_of_one = _mean_of(4), _mean_of(1)


@kernel
def _run_layers(  # type: ignore[no-untyped-def]
    x, edges, rows, pasts, places, window, norms, epsilon, together, distances, scale, outward,
    widen, narrow, norm, norm_bias,
):  # fmt: skip
    """Run layers and the last norm on x (frames, width) in place: concatenated frames of rows.

    Args:
        edges: (rows + 1,) row r has the frames from `edges[r]` to `edges[r + 1]`.
        rows: (rows,) where the past of each row is in `pasts` and `places`.
        pasts: addresses of the memory of `AttentionPast`s; updated.
        places: their `at`; updated.
        window: frames that a frame attends to, including itself.
        norms: (layers, 4, width): weights of both norms, then biases.
        together: joint projection to queries, keys and values. It, outward, widen and narrow have
            panels, scales and biases of each layer.
        distances: (layers, head_dim, window in whole spans).
        scale: of the queries.
        norm, norm_bias: of the last norm.
    """
    layers = distances.shape[0]
    frames, width = x.shape
    kept, like = window - 1, x.dtype.type(0)
    columns, size = _columns(distances.shape[2]), x.itemsize
    most = most_frames(edges)
    longest = kept + most if most > _SLACK else 0
    mixed = np.empty((frames, width), x.dtype)
    parts = np.empty((frames, together[2].shape[1]), x.dtype)
    # Vectors are read whole, also at the end of a row.
    across = np.empty((width, longest + _SPAN), x.dtype)  # only for many frames of a row
    values = np.empty((longest + v.LANES, width), x.dtype)
    attended = np.empty((frames, width), x.dtype)
    hidden = np.empty((frames, widen[2].shape[1]), x.dtype)
    back = np.empty((frames, max(outward[2].shape[1], narrow[2].shape[1])), x.dtype)
    for b in range(layers):
        normalize(x, norms[b, 0], norms[b, 2], epsilon, mixed)
        _linear(mixed, together[0][b], together[1][b], together[2][b], False, parts)
        for t in range(frames):
            for c in range(width):
                parts[t, c] *= scale
        for r in range(rows.shape[0]):
            start, count, at = edges[r], edges[r + 1] - edges[r], places[rows[r]]
            keys_at = pasts[rows[r]] + b * width * columns * size
            values_at = pasts[rows[r]] + (layers * columns + b * (kept + _SLACK)) * width * size
            keys = at_address(like, keys_at, (width, columns))
            past = at_address(like, values_at, (kept + _SLACK, width))
            new, out = parts[start : start + count], attended[start : start + count]
            if count <= _SLACK:
                if at + count > _SLACK:
                    for c in range(width):
                        for t in range(kept):
                            keys[c, t] = keys[c, at + t]
                    for t in range(kept):
                        for c in range(width):
                            past[t, c] = past[at + t, c]
                    at = 0
                for t in range(count):
                    for c in range(width):
                        keys[c, at + kept + t] = new[t, width + c]
                        past[at + kept + t, c] = new[t, 2 * width + c]
                _attend(
                    new, keys_at + at * size, columns * size, values_at + at * width * size,
                    distances[b], window, out,
                )  # fmt: skip
            else:
                for c in range(width):
                    for t in range(kept):
                        across[c, t] = keys[c, at + t]
                    for t in range(count):
                        across[c, kept + t] = new[t, width + c]
                for t in range(kept):
                    for c in range(width):
                        values[t, c] = past[at + t, c]
                for t in range(count):
                    for c in range(width):
                        values[kept + t, c] = new[t, 2 * width + c]
                _attend(
                    new, across.ctypes.data, across.strides[0], values.ctypes.data,
                    distances[b], window, out,
                )  # fmt: skip
                # After the call, which has addresses only: numba frees an array after its last use.
                for c in range(width):
                    for t in range(kept):
                        keys[c, t] = across[c, count + t]
                for t in range(kept):
                    for c in range(width):
                        past[t, c] = values[count + t, c]
        _linear(attended, outward[0][b], outward[1][b], outward[2][b], False, back)
        for t in range(frames):
            for c in range(width):
                x[t, c] += back[t, c]
        normalize(x, norms[b, 1], norms[b, 3], epsilon, mixed)
        _linear(mixed, widen[0][b], widen[1][b], widen[2][b], True, hidden)
        _linear(hidden, narrow[0][b], narrow[1][b], narrow[2][b], False, back)
        for t in range(frames):
            for c in range(width):
                x[t, c] += back[t, c]
    normalize(x, norm, norm_bias, epsilon, x)
    for r in range(rows.shape[0]):
        count, row = edges[r + 1] - edges[r], rows[r]
        if count > _SLACK:
            places[row] = 0
        elif places[row] + count > _SLACK:
            places[row] = count
        else:
            places[row] += count


@kernel
def _linear(x, panels, scales, bias, activated, out):  # type: ignore[no-untyped-def]
    """Call `linear`, or `linear_int8` for its panels; numba compiles only one of the two."""
    if panels.ndim == 3:
        linear(x, panels, bias, activated, out)
    else:
        linear_int8(x, panels, scales, bias, activated, out)


@kernel
def _attend(queries, across, stride, values, distances, window, out):  # type: ignore[no-untyped-def]
    """Compute attention: the mean of values, weighted by the softmax of scores.

    Args:
        queries: (frames, at least width), scaled.
        across: address of keys (width, at least frames - 1 and the window in whole spans).
        stride: bytes from the keys of one channel to the next's.
        values: address of values (at least window - 1 + frames, width), and a vector.
        distances: (head_dim, window in whole spans).
        out: (frames, width).
    """
    like, size = out.dtype.type(0), out.itemsize
    head_dim, room = distances.shape
    frames, width = out.shape
    scores, spare = np.empty(room, out.dtype), np.empty(v.LANES, out.dtype)
    for start in range(0, width, head_dim):
        for t in range(frames):
            # Inside the loop: numba frees an array after its last use.
            weights = scores.ctypes.data
            query = queries.ctypes.data + t * queries.strides[0] + start * size
            keys = across + start * stride + t * size
            for o in range(0, room, _SPAN):
                _scores(
                    like, query, head_dim, keys + o * size, stride,
                    distances.ctypes.data + o * size, distances.strides[0],
                    window - o, weights + o * size,
                )  # fmt: skip
            _soften(like, weights, room // v.LANES)
            place = values + (t * width + start) * size
            to = out.ctypes.data + t * out.strides[0] + start * size
            done = 0
            while done < head_dim:
                if head_dim - done >= 4 * v.LANES:
                    _mean_of_four(
                        like, weights, window, place + done * size, width * size,
                        to + done * size,
                    )  # fmt: skip
                    done += 4 * v.LANES
                else:
                    _mean_of_one(
                        like, weights, window, place + done * size, width * size,
                        spare.ctypes.data,
                    )  # fmt: skip
                    for c in range(min(v.LANES, head_dim - done)):
                        out[t, start + done + c] = spare[c]
                    done += v.LANES
