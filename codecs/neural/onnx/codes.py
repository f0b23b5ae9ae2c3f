"""Quantizers as ONNX graphs that give the same codes for the same latents."""

import math
from typing import Any

import numpy as np
import torch
from torch import nn

from ....errors import ExportError
from ....quantizers.finite_scalar_levels import fsq_thresholds
from ....quantizers.modules.finite_scalar import ResidualFiniteScalarQuantizer
from ....quantizers.modules.residual import ResidualVectorQuantizer
from ....quantizers.modules.vector import VectorQuantizer
from .graph import Graph, Value

# Number of nearest codes between which float64 distances decide.
_CANDIDATES = 16


def check(quantizer: nn.Module) -> None:
    """Check that a quantizer can be exported.

    Raises:
        ExportError: it can't.
    """
    if isinstance(quantizer, ResidualFiniteScalarQuantizer):
        if len(quantizer.codebook_sizes) > 1:
            raise ExportError("residual finite scalar quantization has no ONNX form")
    elif not isinstance(quantizer, VectorQuantizer | ResidualVectorQuantizer):
        raise ExportError(f"{type(quantizer).__name__} has no ONNX form")
    elif any(stage.config.metric != "l2" for stage in _stages(quantizer)):
        raise ExportError("only codebooks looked up by Euclidean distance have an ONNX form")


def codes_of(g: Graph, quantizer: nn.Module, latents: Value) -> Value:
    """Quantize latents (1, frames, dim) float32 to codes (1, frames, codebooks) int64."""
    if isinstance(quantizer, ResidualFiniteScalarQuantizer):
        levels = quantizer.config.levels
        z = _projected(g, latents, quantizer.project_in).unsqueezed(3)
        reached = z.op("GreaterOrEqual", fsq_thresholds(levels).numpy(), dtype=bool)
        level = reached.cast(np.int64).over("ReduceSum", 3, keep=False)
        return (level * _basis(levels)).over("ReduceSum", 2)
    codes: list[Value] = []
    stages = _stages(quantizer)
    for stage in stages:
        found = nearest(g, stage.codebook.detach(), _projected(g, latents, stage.project_in))
        codes.append(found.shaped(1, -1, 1))
        if len(codes) < len(stages):
            table = g.constant(_decoded(stage))
            latents = latents - g.op("Gather", table, found, dtype=np.float32)
    return g.concat(codes, 2)


def latents_of(g: Graph, quantizer: nn.Module, codes: Value) -> Value:
    """Map codes (1, frames, codebooks) to latents (1, frames, dim) float32; -1 adds nothing."""
    if isinstance(quantizer, ResidualVectorQuantizer):
        parts = []
        for index, stage in enumerate(_stages(quantizer)):
            # A row of zeros first, for "no code".
            table = g.constant(np.pad(_decoded(stage), ((1, 0), (0, 0))))
            rows = codes.part(index, index + 1, 2).shaped(1, -1) + 1
            parts.append(g.op("Gather", table, rows, dtype=np.float32))
        return sum(parts[1:], parts[0])
    known = codes.op("Max", 0)
    if isinstance(quantizer, ResidualFiniteScalarQuantizer):
        levels = np.array(quantizer.config.levels)
        half = (levels // 2).astype(np.float32)
        level = (known / _basis(quantizer.config.levels)).op("Mod", levels)
        latents = _projected(g, (level.cast(np.float32) - half) / half, quantizer.project_out)
    else:
        assert isinstance(quantizer, VectorQuantizer)
        book = g.constant(quantizer.codebook.detach().float())
        chosen = g.op("Gather", book, known.shaped(1, -1), dtype=np.float32)
        latents = _projected(g, chosen, quantizer.project_out)
    none = codes.op("Less", 0, dtype=bool)
    return g.op("Where", none, g.value(0.0, np.float32), latents, dtype=np.float32)


def nearest(g: Graph, codebook: torch.Tensor, x: Value) -> Value:
    """Find nearest codes as `NearestCode` does: x (1, frames, dim) to codes (1, frames).

    Float32 distances select the nearest few; among those, the same float64 sum as in `NearestCode`
    decides, and the lowest code wins ties. Of equal codes, only the first is searched. So the
    result differs only if more than `_CANDIDATES` different codes are equally near in float32.
    """
    book = codebook.float().numpy()
    _, first = np.unique(book, axis=0, return_index=True)
    first = np.sort(first)
    size, dim = len(first), book.shape[1]
    codes = g.constant(book[first])
    halves = (np.square(book[first].astype(np.float64)).sum(1) / 2).astype(np.float32)
    scores = g.op(
        "Gemm", x.shaped(-1, dim), codes, g.constant(halves), dtype=np.float32, alpha=-1.0, transB=1
    )
    count = g.constant(np.array([min(_CANDIDATES, size)]))
    _, near = g.ops(
        "TopK", scores, count, dtypes=[np.float32, np.int64], axis=1, largest=0, sorted=0
    )
    candidates = g.op("Gather", codes, near, dtype=np.float32).cast(np.float64)
    apart = x.cast(np.float64).shaped(-1, 1, dim) - candidates
    exact = _folded_sum(g, apart * apart, dim)
    best = exact.op("Equal", exact.over("ReduceMin", 1), dtype=bool)
    chosen = g.op("Where", best, near, g.value(size, np.int64), dtype=np.int64)
    found = chosen.over("ReduceMin", 1, keep=False).shaped(1, -1)
    return g.op("Gather", g.constant(first), found, dtype=np.int64)


def _folded_sum(g: Graph, terms: Value, width: int) -> Value:
    """`quantizers.search.scores.folded_sum` of `width` terms, over the last of three axes."""
    padded = 1 << (width - 1).bit_length()
    terms = g.pad(terms, [0, 0, 0], [0, 0, padded - width], 0.0)
    while padded > 1:
        padded //= 2
        terms = terms.part(0, padded, 2) + terms.part(padded, 0, 2)
    axis = g.constant(np.array([2]))
    return g.op("Squeeze", terms, axis, dtype=terms.dtype)


def _projected(g: Graph, x: Value, layer: Any) -> Value:
    """`quantizers.modules.projection.Projection`: sums in float64, rounded to float32."""
    return (
        g.linear(x.cast(np.float64), layer).cast(np.float32) if isinstance(layer, nn.Linear) else x
    )


def _stages(quantizer: nn.Module) -> list[VectorQuantizer]:
    if isinstance(quantizer, ResidualVectorQuantizer):
        return [quantizer.stage(index) for index in range(len(quantizer.codebook_sizes))]
    assert isinstance(quantizer, VectorQuantizer)
    return [quantizer]


def _basis(levels: tuple[int, ...]) -> np.ndarray:
    """Return the place value of each channel's level in the code."""
    return np.array([math.prod(levels[:channel]) for channel in range(len(levels))])


@torch.no_grad()
def _decoded(stage: VectorQuantizer) -> np.ndarray:
    """Return the decoded vectors (codebook_size, dim) float32 of all codes."""
    codes = torch.arange(stage.config.codebook_size)[None, None]
    return stage.decode(codes)[0].numpy()
