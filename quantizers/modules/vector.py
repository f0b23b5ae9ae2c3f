"""Vector quantization with a learned codebook."""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...errors import QuantizerError
from ..nearest import NearestCode
from .codebook_start import cluster_sums, kmeans_codebook, look_up
from .distributed import (
    counts_of_ranks,
    from_first_rank,
    rows_of_all_ranks,
    sum_over_ranks,
    world_size,
)
from .gradient import Passing, pass_gradient
from .interface import Quantizer, full_precision
from .prepared import Prepared
from .projection import projection
from .result import Quantized, code_statistics
from .seeds import chosen_positions, derived_seed

_START, _REVIVAL, _RANDOM = range(3)
# Below this share of a uniform one a mean is of frames long forgotten: the code stays where it is.
_FORGOTTEN = 1e-6


@dataclass(frozen=True)
class VectorQuantizerConfig:
    """Settings of a `VectorQuantizer`.

    Attributes:
        dim: channels of the vectors that go in and come out.
        codebook_size: number of codes.
        codebook_dim: None: codes live among the vectors. A number: look-up among that many channels
            between two learned projections (factorised codes, Yu et al., arXiv 2110.04627; DAC).
        metric: "l2", or "cosine": the nearest by angle. Codes keep their lengths.
        update: "ema", moving means of the frames of each code (van den Oord et al., arXiv
            1711.00937, appendix A), or "gradient", by the codebook loss and the user's optimizer.
        passing: how the gradient passes to the encoder: see `pass_gradient`.
        commitment_weight: of the mean squared distance that pulls vectors to their codes.
        codebook_weight: of the one that pulls codes to their vectors; for "gradient" only.
        decay: of the moving means and of the moving usage, per training step.
        revive_below: a code is replaced by a current frame when its moving share of the frames is
            below this part of 1 / codebook_size. A ratio of shares, so that batches of any size
            mean the same. 0.1 spares codes for rare sounds, and with a decay of 0.99 gives a new
            code ln(0.1) / ln(0.99) = 230 steps to find frames. 0 switches it off.
        kmeans_rounds: Lloyd rounds over the first training batch; 0: a random codebook.
        seed: of the random codebook, the start and the revivals.
    """

    dim: int
    codebook_size: int
    codebook_dim: int | None = None
    metric: Literal["l2", "cosine"] = "l2"
    update: Literal["ema", "gradient"] = "ema"
    passing: Passing = "straight_through"
    commitment_weight: float = 0.25
    codebook_weight: float = 1.0
    decay: float = 0.99
    revive_below: float = 0.1
    kmeans_rounds: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        choices = {
            "metric": ("l2", "cosine"),
            "update": ("ema", "gradient"),
            "passing": get_args(Passing),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise QuantizerError(
                    f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}"
                )
        width = self.dim if self.codebook_dim is None else self.codebook_dim
        if min(self.dim, self.codebook_size, width) < 1:
            raise QuantizerError(
                "dim, codebook_size and codebook_dim must be positive, "
                f"got {self.dim}, {self.codebook_size} and {self.codebook_dim}"
            )
        if not 0 <= self.decay < 1 or not 0 <= self.revive_below < 1:
            raise QuantizerError(
                "decay and revive_below must be at least 0 and below 1, "
                f"got {self.decay} and {self.revive_below}"
            )
        if min(self.kmeans_rounds, self.seed, self.commitment_weight, self.codebook_weight) < 0:
            raise QuantizerError("kmeans_rounds, seed and the weights of losses can't be negative")


class VectorQuantizer(Quantizer):
    """One codebook.

    Under torch.distributed each training step learns from the joined frames of all ranks, and all
    ranks hold the same codebook. Losses are normalised by the valid frames of all ranks: their mean
    over ranks, which DistributedDataParallel takes of gradients, is that of the joined batch.
    Each training forward is a collective call.

    A training forward starts the codebook if nobody has, revives dead codes with frames of this
    batch, looks up, and with "ema" then moves the codebook.

    Losses: `commitment`, and `codebook` with "gradient". Statistics: also `revived`, how many codes
    were replaced in this step.
    """

    codebook: Tensor
    usage: Tensor
    sums: Tensor
    steps: Tensor
    has_codebook: Tensor
    has_usage: Tensor

    def __init__(self, config: VectorQuantizerConfig):
        super().__init__(config.dim, (config.codebook_size,))
        self.config = config
        width = config.codebook_dim or config.dim
        self.factorised = config.codebook_dim is not None
        self.project_in = projection(config.dim, width, self.factorised)
        self.project_out = projection(width, config.dim, self.factorised)
        generator = torch.Generator().manual_seed(derived_seed(config.seed, _RANDOM))
        codebook = torch.randn(config.codebook_size, width, generator=generator)
        if config.update == "gradient":
            self.codebook = nn.Parameter(codebook)
        else:
            self.register_buffer("codebook", codebook)
            self.register_buffer("sums", torch.zeros_like(codebook))
        self.register_buffer("usage", torch.zeros(config.codebook_size))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("has_codebook", torch.tensor(config.kmeans_rounds == 0))
        self.register_buffer("has_usage", torch.tensor(False))
        self._search = Prepared(partial(NearestCode, metric=config.metric))

    @torch.no_grad()
    def set_codebook(self, codebook: Tensor) -> None:
        """Go on from a codebook (codebook_size, codebook_dim or dim), without a k-means start.

        Raises:
            QuantizerError: a wrong shape, or not finite.
        """
        if codebook.shape != self.codebook.shape or not bool(codebook.isfinite().all()):
            expected = tuple(self.codebook.shape)
            raise QuantizerError(
                f"codebook must be finite and have shape {expected}, got {tuple(codebook.shape)}"
            )
        self.codebook.copy_(codebook)
        self.has_codebook.fill_(True)
        self.has_usage.fill_(False)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """A codebook that comes alone is one: no k-means start replaces it.

        So it comes from another program, or from a checkpoint without what only training needs.
        """
        super()._load_from_state_dict(state_dict, prefix, *rest)
        if f"{prefix}codebook" in state_dict and f"{prefix}has_codebook" not in state_dict:
            self.has_codebook.fill_(True)
            self.has_usage.fill_(False)
            missing = rest[2]
            missing[:] = [key for key in missing if key not in self.training_state(prefix)]

    def training_state(self, prefix: str = "") -> set[str]:
        """See `Quantizer.training_state`."""
        names = ("usage", "sums", "steps", "has_codebook", "has_usage")
        return {prefix + name for name in names}

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Quantized:
        """See `Quantizer.forward`."""
        x, mask = self.checked_vectors(x, mask)
        with full_precision(x.device):
            return self.quantize(x, mask)

    def encode(self, x: Tensor) -> Tensor:
        """See `Quantizer.encode`."""
        x, _ = self.checked_vectors(x)
        with torch.no_grad(), full_precision(x.device):
            return self._nearest(self.project_in(x))[:, None]

    def decode(self, codes: Tensor) -> Tensor:
        """See `Quantizer.decode`."""
        codes = self.checked_codes(codes)
        with full_precision(codes.device):
            decoded: Tensor = self.project_out(self.codebook.float()[codes[:, 0]])
            return decoded

    def quantize(self, x: Tensor, mask: Tensor) -> Quantized:
        """`forward` for vectors and a mask that were checked already, within `full_precision`."""
        vectors: Tensor = self.project_in(x)
        frames = vectors.detach()[mask]
        revived = self._prepare(frames) if self.training else 0
        codes = self._nearest(vectors)
        chosen = functional.embedding(codes, self.codebook.float())
        counts = torch.bincount(codes[mask], minlength=self.config.codebook_size).double()
        ranks = 1
        if self.training:
            counts, ranks = self._learn(frames, codes[mask], counts), world_size()
        # Divided by the frames of all ranks; times their number, because DDP divides by it again.
        scale = ranks / (counts.sum().clamp(min=1).float() * vectors.shape[-1])
        error = _squared_error(vectors, chosen.detach(), mask)
        losses = {"commitment": self.config.commitment_weight * scale * error}
        if self.config.update == "gradient":
            error = _squared_error(vectors.detach(), chosen, mask)
            losses["codebook"] = self.config.codebook_weight * scale * error
        statistics = code_statistics(counts, self.config.codebook_size)
        statistics["revived"] = torch.full_like(statistics["perplexity"], revived)
        quantized = self.project_out(pass_gradient(vectors, chosen, self.config.passing))
        return Quantized(quantized, codes[:, None], losses, statistics)

    def _nearest(self, vectors: Tensor) -> Tensor:
        """Codes (batch, frames) of vectors (batch, frames, width)."""
        rows = vectors.detach().flatten(0, 1)
        if self.training:
            codes = look_up(rows, self.codebook.detach().float(), self.config.metric)
        else:
            codes = self._search([self.codebook])(rows)
        return codes.reshape(vectors.shape[:2])

    @torch.no_grad()
    def _prepare(self, frames: Tensor) -> int:
        """Start the codebook, or revive dead codes; how many."""
        self.steps += 1
        if bool(self.has_codebook & self.has_usage):
            return self._revive(frames)
        self._start(frames)
        return 0

    @torch.no_grad()
    def _learn(self, frames: Tensor, codes: Tensor, counts: Tensor) -> Tensor:
        """Move usage and, with "ema", the codebook.

        Args:
            frames: (N, width) valid ones of this rank.
            codes: (N,) theirs.
            counts: (K,) of the codes.

        Returns:
            Counts (K,) over all ranks.
        """
        config = self.config
        if config.update == "gradient":
            counts = sum_over_ranks(counts)
        else:
            sums, counts = cluster_sums(frames, codes, config.codebook_size)
        if not bool(self.has_usage & counts.any()):
            return counts
        self.usage.lerp_(counts.to(self.usage), 1 - config.decay)
        if config.update == "ema":
            self.sums.lerp_(sums.to(self.sums), 1 - config.decay)
            remembered = self.usage > _FORGOTTEN * self.usage.mean()
            means = self.sums / self.usage.clamp(min=1e-30)[:, None]
            self.codebook.copy_(torch.where(remembered[:, None], means, self.codebook))
        return counts

    def _start(self, frames: Tensor) -> None:
        """A codebook, unless there is one, and usage as if this batch had used it evenly."""
        counts = counts_of_ranks(frames.shape[0], frames.device)
        if sum(counts) == 0:
            return
        config = self.config
        filled = torch.ones_like(self.usage, dtype=torch.bool)
        if not bool(self.has_codebook):
            seed = derived_seed(config.seed, _START)
            codebook, filled = kmeans_codebook(
                frames, counts, config.codebook_size, config.metric, config.kmeans_rounds, seed
            )
            self.codebook.copy_(codebook)
        # A random codebook or a given one may differ between ranks that nobody has synchronised.
        self.codebook.copy_(from_first_rank(self.codebook))
        # Codes that found no frames start unused: the next batch revives them.
        self.usage.copy_(filled * (sum(counts) / config.codebook_size))
        if config.update == "ema":
            self.sums.copy_(self.codebook * self.usage[:, None])
        self.has_codebook.fill_(True)
        self.has_usage.fill_(True)

    def _revive(self, frames: Tensor) -> int:
        """Put frames of this batch in the place of dead codes; how many."""
        uniform = self.usage.mean()
        dead = (self.usage < self.config.revive_below * uniform).nonzero()[:, 0]
        if len(dead) == 0:
            return 0
        counts = counts_of_ranks(frames.shape[0], frames.device)
        path = _REVIVAL, int(self.steps)
        chosen = chosen_positions(sum(counts), len(dead), self.config.seed, *path)
        dead = dead[: len(chosen)]
        vectors = rows_of_all_ranks(frames, counts, chosen)
        self.codebook[dead] = vectors.to(self.codebook)
        self.usage[dead] = uniform
        if self.config.update == "ema":
            self.sums[dead] = vectors * uniform
        return len(chosen)


def _squared_error(a: Tensor, b: Tensor, mask: Tensor) -> Tensor:
    """The sum of squared differences of (batch, frames, width) over valid frames, a scalar."""
    return torch.where(mask[..., None], a - b, 0.0).square().sum()
