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
# A mean with less than this share of uniform usage is outdated: the code stays unchanged.
_FORGOTTEN = 1e-6


@dataclass(frozen=True)
class VectorQuantizerConfig:
    """Configuration of a `VectorQuantizer`.

    Attributes:
        dim: channels of the input and output vectors.
        codebook_size: number of codes.
        codebook_dim: None: codes have `dim` channels. A number: look-up in that many channels, with
            learned projections before and after (factorized codes, Yu et al., arXiv 2110.04627;
            DAC).
        metric: "l2", or "cosine": nearest by angle, where codes keep their lengths.
        update: "ema", moving averages of each code's frames (van den Oord et al., arXiv 1711.00937,
            appendix A), or "gradient", by the codebook loss and the user's optimizer.
        passing: the encoder's gradient estimator: see `pass_gradient`.
        commitment_weight: of the mean squared error that moves vectors towards their codes.
        codebook_weight: of the one that moves codes towards their vectors; only for "gradient".
        decay: of the moving averages of codes and usage, per training step.
        revive_below: a code is replaced by a frame of the batch when its moving average of usage is
            below this fraction of 1 / codebook_size. Independent of the batch size. 0.1 keeps codes
            for rare sounds, and with a decay of 0.99 gives a new code ln(0.1) / ln(0.99) = 230
            steps to find frames. 0 turns it off.
        kmeans_rounds: Lloyd rounds on the first training batch; 0: a random codebook.
        seed: for the random codebook, k-means and replacements of codes.
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
    """Vector quantization with one codebook.

    Under torch.distributed, each training step learns from the frames of all ranks, and all ranks
    have the same codebook. Losses are normalized by the valid frames of all ranks, such that
    DistributedDataParallel's mean over ranks equals the mean over the joint batch. Each forward in
    training is a collective call.

    In training, a forward initializes the codebook at the first call, replaces dead codes by frames
    of this batch, quantizes, and with "ema" then updates the codebook.

    Losses: `commitment`, and `codebook` with "gradient". Additional statistic: `revived`, the
        number
    of codes replaced in this step.
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
        """Set the codebook (codebook_size, codebook_dim or dim); disables the k-means start.

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
        """Accept a codebook without training state, and disable the k-means start.

        Such codebooks come from other programs, or from inference-only checkpoints.
        """
        super()._load_from_state_dict(state_dict, prefix, *rest)
        if f"{prefix}codebook" in state_dict and f"{prefix}has_codebook" not in state_dict:
            self.has_codebook.fill_(True)
            self.has_usage.fill_(False)
            missing = rest[2]
            missing[:] = [key for key in missing if key not in self.training_state(prefix)]

    def training_state(self, prefix: str = "") -> set[str]:
        """Return entries that only training needs; see `Quantizer.training_state`."""
        names = ("usage", "sums", "steps", "has_codebook", "has_usage")
        return {prefix + name for name in names}

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Quantized:
        """Quantize x; see `Quantizer.forward`."""
        x, mask = self.checked_vectors(x, mask)
        with full_precision(x.device):
            return self.quantize(x, mask)

    def encode(self, x: Tensor) -> Tensor:
        """Quantize x to codes; see `Quantizer.encode`."""
        x, _ = self.checked_vectors(x)
        with torch.no_grad(), full_precision(x.device):
            return self._nearest(self.project_in(x))[:, None]

    def decode(self, codes: Tensor) -> Tensor:
        """Decode codes; see `Quantizer.decode`."""
        codes = self.checked_codes(codes)
        with full_precision(codes.device):
            decoded: Tensor = self.project_out(self.codebook.float()[codes[:, 0]])
            return decoded

    def unrounded(self, x: Tensor) -> Tensor:
        """Return x through the projections alone; see `Quantizer.unrounded`."""
        x, _ = self.checked_vectors(x)
        with full_precision(x.device):
            projected: Tensor = self.project_out(self.project_in(x))
            return projected

    def quantize(self, x: Tensor, mask: Tensor) -> Quantized:
        """`forward` for vectors and a mask that were checked, within `full_precision`."""
        vectors: Tensor = self.project_in(x)
        frames = vectors.detach()[mask]
        revived = self._prepare(frames) if self.training else 0
        codes = self._nearest(vectors)
        chosen = functional.embedding(codes, self.codebook.float())
        counts = torch.bincount(codes[mask], minlength=self.config.codebook_size).double()
        ranks = 1
        if self.training:
            counts, ranks = self._learn(frames, codes[mask], counts), world_size()
        # Divided by the frames of all ranks, times the number of ranks, by which DDP divides again.
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
        """Find codes (batch, frames) of vectors (batch, frames, width)."""
        rows = vectors.detach().flatten(0, 1)
        if self.training:
            codes = look_up(rows, self.codebook.detach().float(), self.config.metric)
        else:
            codes = self._search([self.codebook])(rows)
        return codes.reshape(vectors.shape[:2])

    @torch.no_grad()
    def _prepare(self, frames: Tensor) -> int:
        """Initialize the codebook, or replace dead codes; return how many."""
        self.steps += 1
        if bool(self.has_codebook & self.has_usage):
            return self._revive(frames)
        self._start(frames)
        return 0

    @torch.no_grad()
    def _learn(self, frames: Tensor, codes: Tensor, counts: Tensor) -> Tensor:
        """Update usage and, with "ema", the codebook.

        Args:
            frames: (N, width) valid frames of this rank.
            codes: (N,) of the frames.
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
        """Initialize the codebook unless there is one, and usage as if this batch were uniform."""
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
        # A random or given codebook may differ between ranks if nothing has synchronized it.
        self.codebook.copy_(from_first_rank(self.codebook))
        # Codes without frames start as unused, and are replaced at the next batch.
        self.usage.copy_(filled * (sum(counts) / config.codebook_size))
        if config.update == "ema":
            self.sums.copy_(self.codebook * self.usage[:, None])
        self.has_codebook.fill_(True)
        self.has_usage.fill_(True)

    def _revive(self, frames: Tensor) -> int:
        """Replace dead codes by frames of this batch; return how many."""
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
    """Sum squared differences of (batch, frames, width) over valid frames."""
    return torch.where(mask[..., None], a - b, 0.0).square().sum()
