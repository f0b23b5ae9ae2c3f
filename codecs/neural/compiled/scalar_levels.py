"""Compiled finite scalar quantization with fixed weights: vectors to codes, and codes to vectors.

`ResidualFiniteScalarQuantizer` gives the same codes, but projects in tiles and checks its arguments
in PyTorch, which takes longer than the rest of a single frame. Stages after the first one are left
to it: no shipped tokenizer has them.
"""

import numpy as np
import torch

from ....errors import QuantizerError
from ....kernels.cache import kernel
from ....kernels.linear import linear
from ....quantizers.finite_scalar_levels import fsq_thresholds
from ....quantizers.modules.finite_scalar import ResidualFiniteScalarQuantizer
from ....quantizers.search.scalar_kernels import pack_levels, unpack_levels
from .packing import Array, pack_linear
from .residual_stages import in_rows, project


class CompiledLevels:
    """The projections and levels of a quantizer with one codebook.

    Args:
        quantizer: with projections; its weights are copied.
    """

    def __init__(self, quantizer: ResidualFiniteScalarQuantizer) -> None:
        assert isinstance(quantizer.project_in, torch.nn.Linear)
        assert isinstance(quantizer.project_out, torch.nn.Linear)
        self._levels = quantizer.config.levels
        self._sizes = np.array(self._levels, np.int64)
        self._thresholds = fsq_thresholds(self._levels).numpy()
        self._into = pack_linear(quantizer.project_in, np.float64)
        self._out = pack_linear(quantizer.project_out, np.float64)
        self._size, self._dim = quantizer.codebook_sizes[0], quantizer.dim

    def encode(self, latents: Array, num_codebooks: int) -> Array:
        """Quantize latents (frames, dim) float32 to codes (frames, 1) int64.

        Raises:
            QuantizerError: NaN or infinite values.
        """
        assert num_codebooks == 1
        codes = np.empty((len(latents), 1), np.int64)
        if not _quantize(latents, *self._into, self._thresholds, self._sizes, codes[:, 0]):
            raise QuantizerError("the latents have NaN or infinite values")
        return codes

    def vectors(self, codes: Array) -> Array:
        """Return vectors (frames, dim) float32 of codes (frames, 1); zeros for a code of -1.

        Raises:
            QuantizerError: codes out of range.
        """
        column = np.ascontiguousarray(codes[:, 0])
        values = column.tolist()
        low, high = min(values, default=0), max(values, default=0)
        if low < -1 or high >= self._size:
            wrong = low if low < -1 else high
            raise QuantizerError(f"code {wrong} is not in 0..{self._size - 1}")
        found = np.empty((len(column), len(self._levels)), np.float32)
        unpack_levels(np.maximum(column, 0) if low < 0 else column, self._sizes, found)
        vectors: Array = project(found, *self._out, self._dim)
        if low < 0:
            vectors[column < 0] = 0
        return vectors


@kernel
def _quantize(latents, panels, bias, thresholds, sizes, codes):  # type: ignore[no-untyped-def]
    """Project and quantize to `codes`; return whether all latents are finite."""
    for row in range(latents.shape[0]):
        for value in latents[row]:
            if not np.isfinite(value):
                return False
    padded = np.empty((latents.shape[0], bias.shape[0]))
    linear(in_rows(latents), panels, bias, False, padded)
    projected = padded[:, : sizes.shape[0]].astype(np.float32)
    return not pack_levels(projected, thresholds, sizes, codes)
