"""The weights of trained layers, laid out for the compiled kernels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from ....kernels.linear import PANEL, normalize, run_blocks
from ..layers.causal import CausalBlock, CausalStack

Array = np.ndarray[Any, Any]

_LINE = 64  # bytes


def array(tensor: Tensor) -> Array:
    """A float32 copy of a tensor, contiguous, whatever becomes of the tensor's memory."""
    return np.array(tensor.detach().cpu().float().numpy(), order="C")


def addresses(arrays: Sequence[Array]) -> Array:
    """Where contiguous arrays lie, (arrays,) int64; whoever uses them must keep the arrays."""
    return np.array([each.__array_interface__["data"][0] for each in arrays], np.int64)


def on_cache_lines(values: Array) -> Array:
    """A contiguous copy that begins on a cache line, off which vectors take two reads each."""
    room = np.empty(values.nbytes + _LINE, np.uint8)
    start = -room.ctypes.data % _LINE
    copy: Array = room[start : start + values.nbytes].view(values.dtype).reshape(values.shape)
    copy[...] = values
    return copy


def pack(
    weight: Tensor | Array, bias: Tensor | None, dtype: type[np.floating[Any]]
) -> tuple[Array, Array]:
    """Weights (outputs, inputs) and bias (outputs,) as `kernels.linear` takes them.

    Returns:
        Panels (count, inputs, PANEL) and a bias (count × PANEL,), both float32. Outputs that there
        aren't are zero.
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


def pack_linear(layer: nn.Linear, dtype: type[np.floating[Any]]) -> tuple[Array, Array]:
    """`pack` of a layer."""
    return pack(layer.weight, layer.bias, dtype)


class PackedStack:
    """The blocks and the last norm of a `CausalStack`, without its first linear layer.

    Args:
        stack: its weights are copied.
        dtype: of the sums, float32 or float64.
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
        """The pasts (blocks, kernel - 1, width) of a row that has seen nothing."""
        return np.zeros(self.shape, self.dtype)

    def __call__(self, x: Array, edges: Array, pasts: Sequence[Array]) -> None:
        """Replace x (frames, width) by what the blocks make of it, and each row's pasts.

        Args:
            x: frames of all rows, end to end.
            edges: (rows + 1,) where each row's frames begin and end.
            pasts: of each row, from `init_state`.
        """
        run_blocks(x, edges, addresses(pasts), *self.weights)
        normalize(x, *self.norm, self.epsilon, x)
