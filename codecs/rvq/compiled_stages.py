"""Residual quantization by the stages of a trained quantizer whose weights stay as they are.

`ResidualVectorQuantizer.encode` finds the same codes. There every call must see whether a codebook
has changed, and fills tiles for its projections, which for single frames is most of the time.
"""

import numpy as np
import torch
from torch import Tensor

from ...quantizers.modules.residual import ResidualVectorQuantizer
from ...quantizers.nearest import NearestCode
from ..neural.kernels import linear
from ..neural.packed import Array, pack_linear


class CompiledStages:
    """The stages' projections, searches, and what their codes stand for.

    Args:
        quantizer: factorised; its weights are copied.
        tables: (codebook_size, dim) float32 for each stage: what it decodes its codes to.
    """

    def __init__(self, quantizer: ResidualVectorQuantizer, tables: list[Tensor]) -> None:
        self.stages: list[tuple[Array, Array, NearestCode, Array]] = []
        for index, table in enumerate(tables):
            stage = quantizer.stage(index)
            assert isinstance(stage.project_in, torch.nn.Linear)
            panels, bias = pack_linear(stage.project_in, np.float64)
            search = NearestCode(stage.codebook, stage.config.metric)
            self.stages.append((panels, bias, search, np.ascontiguousarray(table.numpy())))

    def encode(self, latents: Tensor, num_codebooks: int) -> Tensor:
        """Codes (frames, num_codebooks) int64 of latents (frames, dim) float32.

        Raises:
            QuantizerError: NaN or infinite values.
        """
        residual = latents.numpy().copy()
        codes = torch.empty(len(residual), num_codebooks, dtype=torch.long)
        for index, (panels, bias, search, table) in enumerate(self.stages[:num_codebooks]):
            projected = np.empty((len(residual), len(bias)))
            linear(residual.astype(np.float64), panels, bias, False, projected)
            width = search.codebook.shape[1]
            codes[:, index] = search(torch.from_numpy(projected[:, :width].astype(np.float32)))
            residual -= table[codes[:, index].numpy()]
        return codes
