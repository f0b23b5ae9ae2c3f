"""Build LLVM code on vectors of 16 float32, for numba intrinsics.

LLVM may or may not vectorize numba's loops; for example, it does not vectorize a minimum over
bfloat16 scores, which costs a factor of eight. An intrinsic states its vectors explicitly, and LLVM
maps them to the available instructions.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .processors import compiles_for

LANES = 16
FLOAT = ir.FloatType()
INT16 = ir.IntType(16)
INT32 = ir.IntType(32)
INT64 = ir.IntType(64)
FLOATS = ir.VectorType(FLOAT, LANES)
INTS = ir.VectorType(INT32, LANES)
SHORTS = ir.VectorType(INT16, LANES)

# NaN never reaches these comparisons: rows that could give one are decided exactly.
_ORDERED = ("nnan", "nsz")


def at(builder: Any, address: Any, offset: Any) -> Any:
    """Return the address plus `offset` bytes (an int or an IR value)."""
    if isinstance(offset, int):
        offset = ir.Constant(INT64, offset)
    return builder.add(address, offset)


def times(builder: Any, value: Any, factor: int) -> Any:
    return builder.mul(value, ir.Constant(INT64, factor))


def pointer(builder: Any, address: Any, kind: Any) -> Any:
    return builder.inttoptr(address, kind.as_pointer())


def load(builder: Any, address: Any, kind: Any = FLOATS) -> Any:
    return builder.load(pointer(builder, address, kind), align=2 if kind is SHORTS else 4)


def store(builder: Any, value: Any, address: Any) -> None:
    builder.store(value, pointer(builder, address, value.type), align=4)


def spread(builder: Any, scalar: Any) -> Any:
    """Return a vector with the scalar in all lanes."""
    kind = ir.VectorType(scalar.type, LANES)
    blank = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(blank, scalar, ir.Constant(INT32, 0))
    return builder.shuffle_vector(first, blank, ir.Constant(INTS, [0] * LANES))


def zeros() -> Any:
    return ir.Constant(FLOATS, [0.0] * LANES)


def spread_from(builder: Any, address: Any) -> Any:
    return spread(builder, load(builder, address, FLOAT))


def smaller(builder: Any, a: Any, b: Any) -> Any:
    if a.type.element is INT32:
        return builder.select(builder.icmp_signed("<", a, b), a, b)
    return builder.select(builder.fcmp_ordered("<", a, b, flags=_ORDERED), a, b)


def within(builder: Any, a: Any, limit: Any) -> Any:
    """Compare a <= limit, per lane."""
    if a.type.element is INT32:
        return builder.icmp_signed("<=", a, limit)
    return builder.fcmp_ordered("<=", a, limit)


def larger(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", a, b, flags=_ORDERED), a, b)


def smallest(builder: Any, vectors: list[Any]) -> Any:
    """Return the minimum of all lanes of all vectors, a scalar."""
    while len(vectors) > 1:
        pairs = zip(vectors[::2], vectors[1::2], strict=False)
        odd = vectors[len(vectors) - len(vectors) % 2 :]
        vectors = [smaller(builder, a, b) for a, b in pairs] + odd
    vector, width = vectors[0], LANES
    while width > 1:
        width //= 2
        lanes = [i + width if i < width else 0 for i in range(LANES)]
        moved = builder.shuffle_vector(vector, vector, ir.Constant(INTS, lanes))
        vector = smaller(builder, vector, moved)
    return builder.extract_element(vector, ir.Constant(INT32, 0))


def smallest_of_four(builder: Any, vectors: list[Any]) -> Any:
    """Return the minimum lane of each of four vectors, as a vector of four."""

    def halve(a: Any, b: Any, low: list[int], high: list[int]) -> Any:
        lower = builder.shuffle_vector(a, b, ir.Constant(INTS, low))
        return smaller(builder, lower, builder.shuffle_vector(a, b, ir.Constant(INTS, high)))

    low, high = [*range(8), *range(16, 24)], [*range(8, 16), *range(24, 32)]
    first, second, third, fourth = vectors
    a, b = halve(first, second, low, high), halve(third, fourth, low, high)
    low = [8 * (i // 4) + i % 4 for i in range(LANES)]
    joined = halve(a, b, low, [i + 4 for i in low])
    for swap in (2, 1):
        joined = halve(joined, joined, [*range(LANES)], [i ^ swap for i in range(LANES)])
    lanes = ir.Constant(ir.VectorType(INT32, 4), [0, 4, 8, 12])
    return builder.shuffle_vector(joined, joined, lanes)


def multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    return call(builder, "llvm.fma.v16f32", a, b, c)


def multiply_add_pairs(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """Return c + a·b for 16 int32 whose halves are pairs of int16: one instruction with VNNI."""
    if has_pair_products():
        return call(builder, "llvm.x86.avx512.vpdpwssd.512", c, a, b)
    pairs = ir.VectorType(INT16, 2 * LANES)
    a, b = builder.bitcast(a, pairs), builder.bitcast(b, pairs)
    for first in (0, 1):
        lanes = ir.Constant(INTS, [2 * i + first for i in range(LANES)])
        left, right = (builder.sext(builder.shuffle_vector(x, x, lanes), INTS) for x in (a, b))
        c = builder.add(c, builder.mul(left, right))
    return c


def has_pair_products() -> bool:
    """Whether int16 pairs can be multiplied into int32 in one instruction of 16 lanes."""
    return compiles_for("avx512f", "avx512vnni")


def magnitude(builder: Any, a: Any) -> Any:
    return call(builder, "llvm.fabs.v16f32", a)


def widen_bfloat16(builder: Any, shorts: Any) -> Any:
    """Convert 16 bfloat16 values to float32."""
    bits = builder.zext(shorts, INTS)
    return builder.bitcast(builder.shl(bits, ir.Constant(INTS, [16] * LANES)), FLOATS)


def mask_of(builder: Any, conditions: list[Any]) -> Any:
    """Return the lanes of up to four comparisons as bits of one int64, the first one's lowest."""
    mask = ir.Constant(INT64, 0)
    for i, condition in enumerate(conditions):
        bits = builder.zext(builder.bitcast(condition, INT16), INT64)
        mask = builder.or_(mask, builder.shl(bits, ir.Constant(INT64, LANES * i)))
    return mask


@intrinsic
def lowest_bit(context, mask):  # type: ignore[no-untyped-def]
    """Return the index of the lowest set bit of a mask that is not 0."""

    def code(_, builder, signature, values):  # type: ignore[no-untyped-def]
        return builder.cttz(values[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), code


@contextmanager
def counted_loop(
    builder: Any, count: Any, start: list[Any]
) -> Iterator[tuple[Any, list[Any], Callable[[list[Any]], None]]]:
    """Create a loop over 0..count - 1, count >= 1, that carries values.

    Yields the counter, the carried values, and a function to set their next values. After the loop,
    the values set last are the results.
    """
    before = builder.block
    body = builder.function.append_basic_block("loop")
    after = builder.function.append_basic_block("after")
    builder.branch(body)
    builder.position_at_end(body)
    counter = builder.phi(INT64)
    counter.add_incoming(ir.Constant(INT64, 0), before)
    carried = [builder.phi(value.type) for value in start]
    for phi, value in zip(carried, start, strict=True):
        phi.add_incoming(value, before)
    following: list[Any] = []
    yield counter, carried, following.extend
    step = builder.add(counter, ir.Constant(INT64, 1))
    counter.add_incoming(step, builder.block)
    for phi, value in zip(carried, following, strict=True):
        phi.add_incoming(value, builder.block)
    builder.cbranch(builder.icmp_signed("<", step, count), body, after)
    builder.position_at_end(after)


def call(builder: Any, name: str, *values: Any, result: Any = None) -> Any:
    """Call one of LLVM's intrinsics, whose result has the type of the first value by default."""
    function = builder.module.globals.get(name)
    if function is None:
        kind = ir.FunctionType(result or values[0].type, [value.type for value in values])
        function = ir.Function(builder.module, kind, name)
    return builder.call(function, values)
