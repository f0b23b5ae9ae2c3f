"""Build an ONNX graph from expressions: values with operators, and a few layers.

Not with torch.onnx, which takes 15 seconds for a graph of this size, uses convolutions and Fourier
transforms that ONNX Runtime lacks in float64, and turns 8-bit products into float64 ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from torch import Tensor, nn

# The oldest version with all operations, so that old runtimes work.
_OPSET = 18
_IR_VERSION = 9
_END = np.iinfo(np.int64).max
Shape = Sequence[int | str]


class Value:
    """A tensor in a graph. Numbers combined with it take its dtype."""

    def __init__(self, graph: Graph, name: str, dtype: Any) -> None:
        self.graph, self.name, self.dtype = graph, name, np.dtype(dtype)

    def __add__(self, other: Operand) -> Value:
        return self.op("Add", other)

    def __sub__(self, other: Operand) -> Value:
        return self.op("Sub", other)

    def __mul__(self, other: Operand) -> Value:
        return self.op("Mul", other)

    def __truediv__(self, other: Operand) -> Value:
        return self.op("Div", other)

    def __matmul__(self, other: Operand) -> Value:
        return self.op("MatMul", other)

    def op(self, kind: str, *others: Operand, dtype: Any = None, **attributes: Any) -> Value:
        """Apply an operation to this value and others; `dtype` is the result's, if it differs."""
        operands = [self.graph.value(other, self.dtype) for other in others]
        return self.graph.op(kind, self, *operands, dtype=dtype or self.dtype, **attributes)

    def cast(self, dtype: Any) -> Value:
        """Convert to another dtype."""
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.graph.op("Cast", self, dtype=dtype, to=kind)

    def part(self, start: int, stop: int, axis: int) -> Value:
        """Slice an axis from `start` to `stop`, as in Python; a stop of 0 means the end."""
        where = [np.array([n]) for n in (start, stop or _END, axis)]
        return self.graph.op("Slice", self, *map(self.graph.constant, where), dtype=self.dtype)

    def last(self, count: int, axis: int) -> Value:
        """Take the last `count` positions of an axis; may be 0."""
        return self.part(-count, 0, axis) if count else self.part(_END, 0, axis)

    def shaped(self, *shape: int) -> Value:
        """Reshape; one number may be -1."""
        return self.graph.op(
            "Reshape", self, self.graph.constant(np.array(shape)), dtype=self.dtype
        )

    def unsqueezed(self, axis: int) -> Value:
        """Insert an axis."""
        where = self.graph.constant(np.array([axis]))
        return self.graph.op("Unsqueeze", self, where, dtype=self.dtype)

    def over(self, kind: str, axis: int, keep: bool = True) -> Value:
        """Reduce over an axis."""
        where = self.graph.constant(np.array([axis]))
        return self.graph.op(kind, self, where, dtype=self.dtype, keepdims=int(keep))

    def length(self, axis: int) -> Value:
        """Return the length of an axis: (1,) int64."""
        return self.graph.op("Shape", self, dtype=np.int64, start=axis, end=axis + 1)


Operand = Value | float | np.ndarray


class Graph:
    """Nodes and constants of an ONNX graph."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, array: np.ndarray[Any, Any] | Tensor) -> Value:
        """Add a constant tensor."""
        array = np.ascontiguousarray(array.detach().numpy() if isinstance(array, Tensor) else array)
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return Value(self, name, array.dtype)

    def value(self, operand: Operand, dtype: Any) -> Value:
        """Convert an operand to a value; numbers get the dtype."""
        if isinstance(operand, Value):
            return operand
        # 0-dimensional arrays become 1-dimensional otherwise.
        return (
            self.constant(np.asarray(operand, dtype))
            if np.ndim(operand)
            else self._number(operand, dtype)
        )

    def _number(self, number: Any, dtype: Any) -> Value:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(number, dtype), name))
        return Value(self, name, dtype)

    def op(self, kind: str, *inputs: Value | None, dtype: Any, **attributes: Any) -> Value:
        """Add a node and return its first output."""
        return self.ops(kind, *inputs, dtypes=[dtype], **attributes)[0]

    def ops(
        self, kind: str, *inputs: Value | None, dtypes: Sequence[Any], **attributes: Any
    ) -> list[Value]:
        """Add a node and return its outputs."""
        outs = [f"value_{len(self.nodes)}_{i}" for i in range(len(dtypes))]
        names = [each.name if each else "" for each in inputs]
        self.nodes.append(helper.make_node(kind, names, outs, **attributes))
        return [Value(self, *each) for each in zip(outs, dtypes, strict=True)]

    def concat(self, parts: Sequence[Value], axis: int) -> Value:
        """Concatenate along an axis."""
        return self.op("Concat", *parts, dtype=parts[0].dtype, axis=axis)

    def pad(
        self, x: Value, before: Sequence[int], after: Sequence[int | Value], fill: float
    ) -> Value:
        """Pad with `fill`; one number per axis, of which those after may be values (1,)."""
        counts: list[Value] = [self.constant(np.array(before))]
        for count in after:
            counts.append(count if isinstance(count, Value) else self.constant(np.array([count])))
        return self.op("Pad", x, self.concat(counts, 0), self._number(fill, x.dtype), dtype=x.dtype)

    def linear(self, x: Value, layer: nn.Linear) -> Value:
        """Apply a linear layer in x's dtype."""
        y = x @ np.ascontiguousarray(_array(layer.weight).T.astype(x.dtype))
        return y if layer.bias is None else y + _array(layer.bias).astype(x.dtype)

    def norm(self, x: Value, norm: nn.LayerNorm) -> Value:
        """Apply LayerNorm over the last axis."""
        weight, bias = (_array(each).astype(x.dtype) for each in (norm.weight, norm.bias))
        return x.op("LayerNormalization", weight, bias, axis=-1, epsilon=norm.eps)

    def gelu(self, x: Value) -> Value:
        """Apply GELU in its tanh form."""
        inner = (x + x * x * x * 0.044715) * math.sqrt(2 / math.pi)
        return x * 0.5 * (inner.op("Tanh") + 1.0)

    def input(self, name: str, dtype: Any) -> Value:
        """Add an input."""
        return Value(self, name, dtype)

    def save(
        self,
        path: Path,
        inputs: Sequence[tuple[Value, Shape]],
        outputs: Sequence[tuple[str, Value, Shape]],
    ) -> None:
        """Write the graph to a file.

        Args:
            path: of the file.
            inputs: with their shapes, in which a name stands for a variable size.
            outputs: with their names and shapes.
        """
        for name, value, _ in outputs:
            self.nodes.append(helper.make_node("Identity", [value.name], [name]))
        graph = helper.make_graph(
            self.nodes,
            "step",
            [_info(value.name, value.dtype, shape) for value, shape in inputs],
            [_info(name, value.dtype, shape) for name, value, shape in outputs],
            self.constants,
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION
        )
        onnx.save(model, path)


def _array(tensor: Tensor) -> np.ndarray[Any, Any]:
    return tensor.detach().cpu().float().numpy()


def _info(name: str, dtype: Any, shape: Shape) -> Any:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return helper.make_tensor_value_info(name, kind, shape)
