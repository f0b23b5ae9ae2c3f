"""Residual quantization: each stage quantizes the residual of the stages before it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import QuantizerError
from ..kernels.threads import scratch, share_rows
from .nearest import Backend, NearestCode, checked_codebook, not_finite
from .search.reference import NotFiniteError

# Values of the residual that stay in the L2 cache while all stages process them.
_TILE_VALUES = 1 << 17


class ResidualChain:
    """Codebooks prepared for exact, greedy residual search by squared distance.

    The residual is float32. Each stage finds the nearest code (`NearestCode`) and subtracts it, in
    float32. On a CPU, all stages process a tile of rows before the next tile, so that the residual
    stays in the cache; on CUDA, one kernel does all stages.

    Args:
        codebooks: S tensors (K_s, D), or one (S, K, D); floating point, finite. They are copied to
            float32.
        backend: of `NearestCode`.

    Attributes:
        codebooks: the float32 codebooks (K_s, D).
        codebook_sizes: their K.
        dim: D.

    Raises:
        QuantizerError: no codebooks, or as for `NearestCode`.
    """

    def __init__(self, codebooks: Sequence[Tensor] | Tensor, *, backend: Backend = "auto"):
        if not len(codebooks):
            raise QuantizerError("a residual chain needs at least one codebook")
        copies = [checked_codebook(codebook) for codebook in codebooks]
        shapes = [tuple(codebook.shape) for codebook in copies]
        if len({dim for _, dim in shapes}) > 1:
            raise QuantizerError(f"codebooks of different dimensions: {shapes}")
        self.codebook_sizes = tuple(size for size, _ in shapes)
        self.dim = shapes[0][1]
        # One table for fast decoding: row `starts[s] + code` is a code of stage s.
        self._table = torch.cat(copies)
        self._starts = np.cumsum((0, *self.codebook_sizes[:-1]))
        self.codebooks = list(self._table.split(self.codebook_sizes))
        self._stages: list[NearestCode] = []
        self._asked = backend
        self._fused: Any = None
        if self._table.device.type == "cuda" and backend in ("auto", "triton"):
            from .search.cuda import TritonResidualChain

            self._fused = TritonResidualChain(self.codebooks)
            return
        self._stages = [NearestCode(codebook, backend=backend) for codebook in copies]

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the codebooks only; a copy is prepared again on the computer that loads it."""
        return _chained, (self.codebooks, self._asked)

    @torch.no_grad()
    def encode(self, x: Tensor, num_codebooks: int | None = None) -> tuple[Tensor, Tensor]:
        """Quantize vectors to codes, and return the final residual.

        Args:
            x: (N, D) floating point.
            num_codebooks: number of stages to use, from the first; None: all.

        Returns:
            Codes (N, S) int64, and the float32 residuals (N, D) after the last stage.

        Raises:
            QuantizerError: a wrong shape, dtype, device or number; NaN or infinite values.
        """
        most = len(self.codebooks)
        count = most if num_codebooks is None else num_codebooks
        if not 1 <= count <= most:
            raise QuantizerError(f"num_codebooks must be 1 to {most}, got {count}")
        if self._fused is not None:
            found: tuple[Tensor, Tensor] = self._fused.encode(x.detach(), count)
            return found
        first = self._stages[0]
        if x.device.type != "cpu" or first.backend == "torch":
            return self._encode_anywhere(x, count)
        if x.ndim != 2 or x.shape[1] != self.dim or not x.is_floating_point():
            first(x)  # raises the error
        # NumPy arrays: inference mode is per thread, and other threads write to these.
        codes = np.empty((x.shape[0], count), np.int64)
        residual = np.empty((x.shape[0], self.dim), np.float32)
        x = x.detach()
        tile = max(64, _TILE_VALUES // self.dim)

        def work(start: int, stop: int) -> None:
            for begin in range(start, stop, tile):
                part = slice(begin, min(begin + tile, stop))
                residual[part] = x[part].float().numpy()
                self._encode_tile(residual[part], codes[part])

        try:
            share_rows(work, x.shape[0], max(64, (1 << 22) // self._table.numel()))
        except NotFiniteError:
            raise not_finite(x) from None
        return torch.from_numpy(codes), torch.from_numpy(residual)

    def _encode_tile(self, residual: np.ndarray, codes: np.ndarray) -> None:
        from .search.residual_kernels import subtract

        column = scratch("stage's codes", (residual.shape[0],), np.int64)
        none = np.empty(0)
        for index, stage in enumerate(self._stages[: codes.shape[1]]):
            stage.search_rows(torch.from_numpy(residual), column, none)
            subtract(residual, stage.codebook.numpy(), column)
            codes[:, index] = column

    def _encode_anywhere(self, x: Tensor, count: int) -> tuple[Tensor, Tensor]:
        residual = x.detach().float()
        codes = []
        for stage in self._stages[:count]:
            codes.append(stage(residual))
            residual = residual - stage.codebook[codes[-1]]
        return torch.stack(codes, 1), residual

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Decode codes to vectors.

        Args:
            codes: (N, S') integer, of the first S' of the S stages.

        Returns:
            Float32 (N, D): the sum of the code vectors, added in the order of the stages.

        Raises:
            QuantizerError: a wrong shape, dtype or device, or a code out of range.
        """
        if self._fused is not None:
            vectors: Tensor = self._fused.decode(codes)
            return vectors
        self._check_codes(codes)
        if codes.device.type == "cpu":
            from .search.residual_kernels import gather_sum

            out = np.empty((codes.shape[0], self.dim), np.float32)
            table, given = self._table.numpy(), codes.long().numpy()

            def work(start: int, stop: int) -> None:
                gather_sum(given[start:stop], table, self._starts, out[start:stop])

            share_rows(work, codes.shape[0], 1024)
            return torch.from_numpy(out)
        total: Tensor = self.codebooks[0][codes[:, 0]]
        for codebook, column in zip(self.codebooks[1:], codes.T[1:], strict=False):
            total = total + codebook[column]
        return total

    def _check_codes(self, codes: Tensor) -> None:
        if codes.is_floating_point() or codes.is_complex() or codes.dtype == torch.bool:
            raise QuantizerError(f"codes must be integers, got {codes.dtype}")
        most = len(self.codebooks)
        if codes.ndim != 2 or not 1 <= codes.shape[1] <= most:
            raise QuantizerError(
                f"codes must have shape (N, 1 to {most}), got {tuple(codes.shape)}"
            )
        if codes.device != self._table.device:
            raise QuantizerError(f"codes are on {codes.device}, codebooks on {self._table.device}")
        if not codes.numel():
            return
        low, high = codes.amin(0).tolist(), codes.amax(0).tolist()
        for stage, size in enumerate(self.codebook_sizes[: codes.shape[1]]):
            if low[stage] < 0 or high[stage] >= size:
                bad = low[stage] if low[stage] < 0 else high[stage]
                raise QuantizerError(f"code {bad} of stage {stage} is not in 0..{size - 1}")


def _chained(codebooks: list[Tensor], backend: Backend) -> ResidualChain:
    return ResidualChain(codebooks, backend=backend)
