"""Compiled quantization with fixed weights: vectors to codes, and codes to vectors.

`ResidualVectorQuantizer.encode` finds the same codes, but checks in every call whether a codebook
has changed, and projects in tiles, which takes most of the time for single frames.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ....kernels.cache import kernel
from ....kernels.linear import linear
from ....quantizers.modules.vector import VectorQuantizer
from ....quantizers.nearest import NearestCode
from .packing import Array, array, pack_linear


class CompiledStages:
    """Projections, nearest-code searches and decoded vectors of all stages.

    Args:
        quantizers: factorized; their weights are copied.
        tables: (codebook_size, dim) float32: decoded vectors of each stage's codes; the last
            stage needs none.
    """

    def __init__(self, quantizers: Sequence[VectorQuantizer], tables: Sequence[Tensor]) -> None:
        self.stages: list[tuple[Array, Array, NearestCode]] = []
        for stage in quantizers:
            assert isinstance(stage.project_in, torch.nn.Linear)
            panels, bias = pack_linear(stage.project_in, np.float64)
            self.stages.append((panels, bias, NearestCode(stage.codebook, stage.config.metric)))
        self.tables = [array(table) for table in tables]

    def encode(self, latents: Array, num_codebooks: int) -> Array:
        """Quantize latents (frames, dim) float32 to codes (frames, num_codebooks) int64.

        Raises:
            QuantizerError: NaN or infinite values.
        """
        residual = latents if num_codebooks == 1 else latents.copy()
        codes = np.empty((len(residual), num_codebooks), np.int64)
        for index, (panels, bias, search) in enumerate(self.stages[:num_codebooks]):
            projected = project(residual, panels, bias, search.codebook.shape[1])
            codes[:, index] = search.codes(projected)
            if index + 1 < num_codebooks:
                residual -= self.tables[index][codes[:, index]]
        return codes


class CompiledDecoding:
    """The vectors of a factorized codebook's codes, without a table of all of them.

    Args:
        quantizer: its weights are copied.
    """

    def __init__(self, quantizer: VectorQuantizer) -> None:
        assert isinstance(quantizer.project_out, torch.nn.Linear)
        self.weights = pack_linear(quantizer.project_out, np.float64)
        self.codebook = array(quantizer.codebook)
        self.dim = quantizer.project_out.out_features

    def vectors(self, codes: Array) -> Array:
        """Return vectors (frames, dim) float32 of codes (frames, 1); zeros for a code of -1."""
        column = codes[:, 0]
        vectors: Array = project(self.codebook[column], *self.weights, self.dim)
        if min(column.tolist(), default=0) < 0:
            vectors[column < 0] = 0
        return vectors


@kernel
def in_rows(x):  # type: ignore[no-untyped-def]
    """Copy to float64 with contiguous rows, as `linear` reads them. `astype` keeps x's order."""
    rows = np.empty(x.shape, np.float64)
    # `rows[:] = x` takes numba five seconds longer: it compiles a message about shapes.
    for row in range(x.shape[0]):
        for column in range(x.shape[1]):
            rows[row, column] = x[row, column]
    return rows


@kernel
def project(x, panels, bias, width):  # type: ignore[no-untyped-def]
    """Apply a linear layer in float64; return `width` outputs, float32."""
    padded = np.empty((x.shape[0], bias.shape[0]))
    linear(in_rows(x), panels, bias, False, padded)
    return padded[:, :width].astype(np.float32)
