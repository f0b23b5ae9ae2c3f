"""Encoding a little audio before the compiled kernels are there: by PyTorch, with the same codes.

The first use of a codec on a machine compiles its kernels, which takes longer than it takes
PyTorch's modules to encode a minute of speech. Both sum in float64 and round the latents to
float32, so that codes are the same.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from ...quantizers.modules.vector import VectorQuantizer
from ...quantizers.search.reference import ReferenceSearch

_WITHOUT: ContextVar[bool] = ContextVar("without_compiling", default=False)


@contextmanager
def without_compiling() -> Iterator[None]:
    """Start encoder streams in this block, and in this thread, without compiled kernels."""
    token = _WITHOUT.set(True)
    try:
        yield
    finally:
        _WITHOUT.reset(token)


def may_compile() -> bool:
    """Whether an encoder stream that starts now may use compiled kernels."""
    return not _WITHOUT.get()


class PlainStages:
    """The quantization of `CompiledStages` in PyTorch.

    Args:
        quantizers: factorized, in eval mode.
        tables: (codebook_size, dim) float32: decoded vectors of each stage's codes.
    """

    def __init__(self, quantizers: Sequence[VectorQuantizer], tables: Sequence[Tensor]) -> None:
        self.stages = [
            (stage.project_in, ReferenceSearch(stage.codebook.detach(), stage.config.metric))
            for stage in quantizers
        ]
        self.tables = tables

    @torch.no_grad()
    def encode(self, latents: Tensor, num_codebooks: int) -> Tensor:
        """Quantize latents (frames, dim) float32 to codes (frames, num_codebooks) int64."""
        residual, found = latents, []
        for number, (project, search) in enumerate(self.stages[:num_codebooks]):
            codes, _ = search.search(project(residual))
            residual = residual - self.tables[number][codes]
            found.append(codes)
        return torch.stack(found, 1)
