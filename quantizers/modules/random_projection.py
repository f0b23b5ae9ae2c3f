"""The random-projection quantizer of BEST-RQ: training targets without any learning.

Chiu et al., "Self-Supervised Learning with Random-Projection Quantizer for Speech Recognition"
(arXiv 2202.01855).
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from ...errors import QuantizerError
from ..nearest import NearestCode
from .interface import Quantizer, full_precision
from .prepared import Prepared
from .projection import tiled_linear
from .result import Quantized, statistics_of_columns
from .seeds import derived_seed

# Lower limit of a channel's standard deviation, since digital silence has none.
_LEAST_DEVIATION = 1e-5


@dataclass(frozen=True)
class RandomProjectionQuantizerConfig:
    """Configuration of a `RandomProjectionQuantizer`; the defaults are the paper's.

    Attributes:
        dim: channels of the input features.
        codebook_size: number of codes.
        codebook_dim: channels after projection.
        num_codebooks: number of independent pairs of a projection and a codebook.
        normalization: of each input channel to mean 0 and standard deviation 1, without which few
            codes are used: over the "utterance", by "given" statistics, or "none".
        seed: for projections and codebooks.
    """

    dim: int
    codebook_size: int = 8192
    codebook_dim: int = 16
    num_codebooks: int = 1
    normalization: Literal["utterance", "given", "none"] = "utterance"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.normalization not in ("utterance", "given", "none"):
            raise QuantizerError(
                f"normalization must be utterance, given or none, got {self.normalization!r}"
            )
        if min(self.dim, self.codebook_size, self.codebook_dim, self.num_codebooks) < 1:
            raise QuantizerError("dim, codebook_size, codebook_dim and num_codebooks are positive")
        if self.seed < 0:
            raise QuantizerError(f"seed can't be negative, got {self.seed}")


class RandomProjectionQuantizer(Quantizer):
    """Fixed random projections and fixed codebooks of unit vectors, searched by angle.

    There is no decoding to features: `quantized` and `decode` return the concatenated unit vectors
    of the codes, (batch, frames, num_codebooks · codebook_dim). There are no gradients and no
    losses; training mode only decides whether statistics cover all ranks.
    """

    projections: Tensor
    codebooks: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(self, config: RandomProjectionQuantizerConfig):
        super().__init__(config.dim, (config.codebook_size,) * config.num_codebooks)
        self.config = config
        generator = torch.Generator().manual_seed(derived_seed(config.seed))
        shape = config.num_codebooks, config.codebook_dim, config.dim
        bound = (6 / (config.dim + config.codebook_dim)) ** 0.5
        uniform = torch.rand(shape, generator=generator)
        self.register_buffer("projections", (2 * uniform - 1) * bound)
        shape = config.num_codebooks, config.codebook_size, config.codebook_dim
        normal = torch.randn(shape, generator=generator)
        self.register_buffer("codebooks", functional.normalize(normal, dim=-1))
        self.register_buffer("mean", torch.zeros(config.dim))
        self.register_buffer("deviation", torch.ones(config.dim))
        self._searches = [
            Prepared(partial(NearestCode, metric="cosine")) for _ in self.codebook_sizes
        ]

    @torch.no_grad()
    def set_statistics(self, mean: Tensor, deviation: Tensor) -> None:
        """Set mean and standard deviation (dim,) of the features, for "given" normalization.

        Raises:
            QuantizerError: wrong shapes, not finite, or a standard deviation of 0 or below.
        """
        for name, values in (("mean", mean), ("deviation", deviation)):
            if values.shape != (self.dim,) or not bool(values.isfinite().all()):
                raise QuantizerError(f"{name} must be finite and have shape ({self.dim},)")
        if not bool((deviation > 0).all()):
            raise QuantizerError("deviation must be positive")
        self.mean.copy_(mean)
        self.deviation.copy_(deviation)

    @torch.no_grad()
    def forward(self, x: Tensor, mask: Tensor | None = None) -> Quantized:
        """Quantize x; see `Quantizer.forward`."""
        x, mask = self.checked_vectors(x, mask)
        with full_precision(x.device):
            codes = self._codes(x, mask)
            columns = codes.transpose(0, 1)[:, mask]
            statistics = statistics_of_columns(columns, self.codebook_sizes, self.training)
            return Quantized(self.decode(codes), codes, {}, statistics)

    @torch.no_grad()
    def encode(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Quantize x to codes, normalized over valid frames if a mask is given; see `Quantizer`."""
        x, mask = self.checked_vectors(x, mask)
        with full_precision(x.device):
            return self._codes(x, mask)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Return unit vectors of codes; needs all codebooks. See `Quantizer.decode`."""
        codes = self.checked_codes(codes)
        if codes.shape[1] != len(self.codebook_sizes):
            raise QuantizerError(
                f"codes of all {len(self.codebook_sizes)} codebooks are needed, "
                f"got {codes.shape[1]}"
            )
        return torch.cat(
            [self.codebooks[i].float()[row] for i, row in enumerate(codes.unbind(1))], -1
        )

    def _codes(self, x: Tensor, mask: Tensor) -> Tensor:
        """Quantize to codes (batch, codebooks, frames)."""
        x = self._normalized(x, mask)
        codes = []
        for projection, codebook, search in zip(
            self.projections, self.codebooks, self._searches, strict=True
        ):
            rows = tiled_linear(x.flatten(0, 1), projection.float())
            codes.append(search([codebook])(rows).reshape(x.shape[:2]))
        return torch.stack(codes, 1)

    def _normalized(self, x: Tensor, mask: Tensor) -> Tensor:
        if self.config.normalization == "none":
            return x
        if self.config.normalization == "given":
            return torch.where(mask[..., None], (x - self.mean) / self.deviation, 0.0)
        # Per utterance: a sum over the batch would depend on the padding in its last bit.
        normalized = torch.zeros_like(x)
        for row, valid, target in zip(x, mask, normalized, strict=True):
            frames = row[valid].double()
            if len(frames):
                deviation = frames.std(0, correction=0).clamp(min=_LEAST_DEVIATION)
                target[valid] = ((frames - frames.mean(0)) / deviation).float()
        return normalized
