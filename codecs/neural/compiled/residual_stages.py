"""Residual quantization by the stages of a trained quantizer whose weights stay as they are.

`ResidualVectorQuantizer.encode` finds the same codes. There every call must see whether a codebook
has changed, and fills tiles for its projections, which for single frames is most of the time.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ....kernels.linear import linear
from ....quantizers.modules.vector import VectorQuantizer
from ....quantizers.nearest import NearestCode
from .packing import Array, array, pack_linear


class CompiledStages:
    """The stages' projections, searches, and what their codes stand for.

    Args:
        quantizers: factorised; their weights are copied.
        tables: (codebook_size, dim) float32: what each decodes its codes to. The last one's is not
            needed.
    """

    def __init__(self, quantizers: Sequence[VectorQuantizer], tables: Sequence[Tensor]) -> None:
        self.stages: list[tuple[Array, Array, NearestCode]] = []
        for stage in quantizers:
            assert isinstance(stage.project_in, torch.nn.Linear)
            panels, bias = pack_linear(stage.project_in, np.float64)
            self.stages.append((panels, bias, NearestCode(stage.codebook, stage.config.metric)))
        self.tables = [array(table) for table in tables]

    def encode(self, latents: Tensor, num_codebooks: int) -> Tensor:
        """Codes (frames, num_codebooks) int64 of latents (frames, dim) float32.

        Raises:
            QuantizerError: NaN or infinite values.
        """
        residual = latents.numpy().copy()
        codes = torch.empty(len(residual), num_codebooks, dtype=torch.long)
        for index, (panels, bias, search) in enumerate(self.stages[:num_codebooks]):
            projected = np.empty((len(residual), len(bias)))
            linear(residual.astype(np.float64), panels, bias, False, projected)
            width = search.codebook.shape[1]
            codes[:, index] = search(torch.from_numpy(projected[:, :width].astype(np.float32)))
            if index + 1 < num_codebooks:
                residual -= self.tables[index][codes[:, index].numpy()]
        return codes
