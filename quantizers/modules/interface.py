"""The interface of quantizer modules, and the checks of their inputs."""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from ...errors import QuantizerError
from ...plain_torch import PlainModule
from .result import Quantized


class Quantizer(PlainModule):
    """Quantize vectors to codes and decode them, for training and inference.

    All computation is in float32, also under autocast, other default dtypes and after
    `.to(torch.bfloat16)`: moving averages of usage would vanish in half precision. Padded frames,
    where `mask` is False, are treated as zero vectors: their contents, even NaN, have no effect.

    Attributes:
        dim: channels of a vector.
        codebook_sizes: of each codebook.
    """

    def __init__(self, dim: int, codebook_sizes: Sequence[int]):
        super().__init__()
        if dim < 1 or not codebook_sizes or min(codebook_sizes) < 1:
            raise QuantizerError(
                "a quantizer has at least one channel, one codebook and one code in each, "
                f"got dim {dim} and codebook sizes {tuple(codebook_sizes)}"
            )
        self.dim = dim
        self.codebook_sizes = tuple(codebook_sizes)

    def training_state(self, prefix: str = "") -> set[str]:
        """Return the names of state-dict entries, with `prefix`, that only training needs.

        Submodules that are quantizers are not included; they report their own.
        """
        return set()

    @abstractmethod
    def forward(self, x: Tensor, mask: Tensor | None = None) -> Quantized:
        """Quantize x (batch, frames, dim); in training mode, learn from it.

        Args:
            x: floating point, finite where it isn't padding.
            mask: (batch, frames) bool, True where a frame is valid.

        Raises:
            QuantizerError: wrong shapes or dtypes, NaN or infinity.
        """

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """Quantize x (batch, frames, dim) to codes (batch, codebooks, frames) int64, without
        learning.

        Raises:
            QuantizerError: as for `forward`.
        """

    @abstractmethod
    def decode(self, codes: Tensor) -> Tensor:
        """Decode codes (batch, codebooks, frames) to vectors (batch, frames, dim) float32.

        Raises:
            QuantizerError: codes of a wrong shape or dtype, or out of range.
        """

    def unrounded(self, x: Tensor) -> Tensor:
        """Return vectors (batch, frames, dim) float32 as they would be quantized without rounding.

        They pass through the quantizer's projections and bounds but keep their place between the
        codes, so that they are for a decoder what the vectors of `decode` are. Without projections
        and bounds, they are x.

        Raises:
            QuantizerError: as for `forward`; or the quantizer does not decode to features.
        """
        raise QuantizerError(f"{type(self).__name__} does not decode to features")

    def checked_vectors(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Check and return float32 vectors, zero where padded, and the mask (batch, frames)."""
        if not isinstance(x, Tensor) or not x.is_floating_point():
            kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise QuantizerError(f"x must be a floating-point tensor, got {kind}")
        if x.ndim != 3 or x.shape[2] != self.dim:
            raise QuantizerError(
                f"x must have shape (batch, frames, {self.dim}), got {tuple(x.shape)}"
            )
        x = x.float()
        if mask is None:
            mask = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        else:
            if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
                raise QuantizerError("mask must be a bool tensor, True where a frame is valid")
            if mask.shape != x.shape[:2]:
                expected = tuple(x.shape[:2])
                raise QuantizerError(f"mask must have shape {expected}, got {tuple(mask.shape)}")
            mask = mask.to(x.device)
            x = torch.where(mask[..., None], x, 0.0)
        if not bool(x.isfinite().all()):
            raise QuantizerError("x has NaN or infinite values")
        return x, mask

    def checked_codes(self, codes: Tensor) -> Tensor:
        """Check codes of the first one or more codebooks, and return them as int64."""
        integer = isinstance(codes, Tensor) and not (
            codes.is_floating_point() or codes.is_complex() or codes.dtype == torch.bool
        )
        if not integer:
            kind = codes.dtype if isinstance(codes, Tensor) else type(codes).__name__
            raise QuantizerError(f"codes must be an integer tensor, got {kind}")
        if codes.ndim != 3 or not 1 <= codes.shape[1] <= len(self.codebook_sizes):
            raise QuantizerError(
                f"codes must have shape (batch, codebooks, frames) with 1 to "
                f"{len(self.codebook_sizes)} codebooks, got {tuple(codes.shape)}"
            )
        codes = codes.long()
        sizes = torch.tensor(self.codebook_sizes[: codes.shape[1]], device=codes.device)
        wrong = (codes < 0) | (codes >= sizes[:, None])
        if bool(wrong.any()):
            _, codebook, _ = wrong.nonzero()[0].tolist()
            value = int(codes[wrong][0])
            raise QuantizerError(
                f"code {value} of codebook {codebook} is not in 0 … {int(sizes[codebook]) - 1}"
            )
        return codes


def full_precision(device: torch.device) -> torch.autocast:
    """Return a context in which autocast is off."""
    return torch.autocast(device.type, enabled=False)
