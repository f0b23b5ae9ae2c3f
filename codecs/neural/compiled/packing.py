"""Lay out the weights of trained layers for the compiled kernels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from ....kernels.linear import PANEL, normalize, run_blocks
from ..layers.causal import CausalBlock, CausalStack

Array = np.ndarray[Any, Any]

_LINE = 64  # bytes


def array(tensor: Tensor) -> Array:
    """Return a contiguous float32 copy of a tensor that shares no memory with it."""
    return np.array(tensor.detach().cpu().float().numpy(), order="C")


def addresses(arrays: Sequence[Array]) -> Array:
    """Return addresses (arrays,) int64 of contiguous arrays; the caller must keep the arrays."""
    return np.array([each.__array_interface__["data"][0] for each in arrays], np.int64)


def on_cache_lines(values: Array) -> Array:
    """Return a contiguous copy aligned to a cache line, since unaligned vectors take two reads."""
    room = np.empty(values.nbytes + _LINE, np.uint8)
    start = -room.ctypes.data % _LINE
    copy: Array = room[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
    copy[...] = values
    return copy


def rows_of_zeros(rows: int, size: int, dtype: type[np.floating[Any]]) -> Array:
    """Return zeros (rows, size), each row on cache lines of its own; unused ones take no memory."""
    item = np.dtype(dtype).itemsize
    line = -(-size * item // _LINE) * _LINE
    room = np.zeros(rows * line + _LINE, np.uint8)  # the system gives pages when they are written
    start = -room.ctypes.data % _LINE
    whole = room[start : start + rows * line].view(dtype).reshape(rows, line // item)
    found: Array = whole[:, :size]
    return found


def row_addresses(values: Array) -> Array:
    """Return the address (rows,) int64 of each row of an array; the caller must keep the array."""
    first: int = values.__array_interface__["data"][0]
    return first + values.strides[0] * np.arange(len(values), dtype=np.int64)


def pack(
    weight: Tensor | Array, bias: Tensor | None, dtype: type[np.floating[Any]]
) -> tuple[Array, Array]:
    """Pack weights (outputs, inputs) and bias (outputs,) for `kernels.linear`.

    Returns:
        Panels (count, inputs, PANEL) and a bias (count × PANEL,), both float32. Padding outputs
        are zero.
    """
    values = array(weight) if isinstance(weight, Tensor) else weight.astype(np.float32)
    width = PANEL[np.dtype(dtype)]
    outputs, inputs = values.shape
    count = -(-outputs // width)
    rows = np.zeros((count * width, inputs), np.float32)
    rows[:outputs] = values
    offsets = np.zeros(count * width, np.float32)
    if bias is not None:
        offsets[:outputs] = array(bias)
    panels = rows.reshape(count, width, inputs).transpose(0, 2, 1)
    return on_cache_lines(panels), offsets


def pack_bands(weight: Tensor, dtype: type[np.floating[Any]]) -> tuple[Array, Array, Array]:
    """Pack sparse weights (outputs, inputs) for `kernels.banded_linear`: panels, bands and bias."""
    panels, bias = pack(weight, None, dtype)
    bands = np.zeros((len(panels), 2), np.int64)
    for band, panel in zip(bands, panels, strict=True):
        used = np.flatnonzero(panel.any(1))
        # A loop of compiled code has at least one turn.
        band[:] = (used[0], used[-1] + 1) if len(used) else (0, 1)
    return panels, bands, bias


def pack_linear(layer: nn.Linear, dtype: type[np.floating[Any]]) -> tuple[Array, Array]:
    """Pack a linear layer; see `pack`."""
    return pack(layer.weight, layer.bias, dtype)


class BlockPasts:
    """Pasts of a `PackedStack`, for all rows of a stream.

    Args:
        rows: number of rows.
        shape: of one row: (blocks, kernel - 1, width).
        dtype: of the computation.
    """

    def __init__(
        self, rows: int, shape: tuple[int, int, int], dtype: type[np.floating[Any]]
    ) -> None:
        self.values = np.zeros((rows, *shape), dtype)
        self.addresses = row_addresses(self.values)

    def row(self, row: int) -> Array:
        """Return the past (blocks, kernel - 1, width) of a row, a view."""
        past: Array = self.values[row]
        return past

    def put(self, row: int, past: Array | None) -> None:
        """Set the past of a row; None: the initial one."""
        self.values[row] = 0 if past is None else past


class PackedStack:
    """The blocks and the last norm of a `CausalStack`, without its first linear layer.

    Args:
        stack: its weights are copied.
        dtype: of the computation, float32 or float64.
    """

    def __init__(self, stack: CausalStack, dtype: type[np.floating[Any]]) -> None:
        blocks = [block for block in stack.blocks if isinstance(block, CausalBlock)]
        self.shape = (len(blocks), stack.config.kernel - 1, stack.config.width)
        self.width = stack.config.width
        self.dtype = dtype
        self.epsilon = stack.norm.eps
        widen = [pack_linear(block.widen, dtype) for block in blocks]
        narrow = [pack_linear(block.narrow, dtype) for block in blocks]
        self.weights = (
            np.stack([array(block.taps) for block in blocks]).astype(dtype),
            np.stack([array(block.taps_bias) for block in blocks]).astype(dtype),
            np.stack([np.stack([array(b.norm.weight), array(b.norm.bias)]) for b in blocks]).astype(
                dtype
            ),
            self.epsilon,
            *(np.stack(parts) for parts in zip(*widen, strict=True)),
            *(np.stack(parts) for parts in zip(*narrow, strict=True)),
            np.stack([array(block.scale) for block in blocks]).astype(dtype),
        )
        self.norm = array(stack.norm.weight).astype(dtype), array(stack.norm.bias).astype(dtype)

    def init_state(self) -> Array:
        """Create the initial pasts (blocks, kernel - 1, width) of a row."""
        return np.zeros(self.shape, self.dtype)

    def __call__(self, x: Array, edges: Array, pasts: Sequence[Any]) -> None:
        """Apply the blocks to x (frames, width) in place, and update each row's pasts.

        Args:
            x: concatenated frames of all rows.
            edges: (rows + 1,) boundaries of the rows in x.
            pasts: of each row, from `init_state`.
        """
        rows = np.arange(len(pasts))
        run_blocks(x, edges, rows, addresses(pasts), *self.weights)
        normalize(x, *self.norm, self.epsilon, x)

    def init_states(self, rows: int) -> BlockPasts:
        """Create the initial pasts of `rows` rows."""
        return BlockPasts(rows, self.shape, self.dtype)

    def run(self, x: Array, edges: Array, rows: Array, pasts: BlockPasts) -> None:
        """Apply the blocks to frames of some rows of a stream; see `__call__`.

        Args:
            x, edges: see `__call__`; there are as many rows as in `rows`.
            rows: (busy,) int64 which rows of `pasts` they are.
            pasts: of all rows; updated.
        """
        run_blocks(x, edges, rows, pasts.addresses, *self.weights)
        normalize(x, *self.norm, self.epsilon, x)
