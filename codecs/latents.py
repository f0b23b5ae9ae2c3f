"""`Latents`: the continuous frames of a tokenizer, beside its discrete `Tokens`.

Speech language models that predict vectors instead of codes (Meng et al., "Autoregressive Speech
Synthesis without Vector Quantization", arXiv 2407.08551), probes, and fine-tuning work on these.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..errors import LatentsError
from .spec import HasSpec, TokenizerSpec, TokenSpec
from .tokens import check_same_tokenizer
from .values import row_slice


@dataclass(frozen=True, eq=False, repr=False)
class Latents:
    """The vectors of the frames of a batch of utterances.

    `AudioTokenizer.latents` returns those that the tokenizer quantizes, `AudioTokenizer.embed`
    those that codes stand for. Both have the same channels and the same frames as the codes.

    Attributes:
        vectors: (batch, frames, channels) float32; 0 beyond each row's length. May be given in any
            floating-point dtype. Gradients flow through it.
        lengths: (batch,) int64, number of valid frames of each row.
        num_samples: (batch,) int64, number of audio samples of each row; `decode` returns as many.
        spec: of the tokenizer: name, digest, sample rate and frame rate.

    Raises:
        LatentsError: a type, shape or dtype is wrong. Values are checked only by `check`, which
            `decode` calls.
    """

    vectors: Tensor
    lengths: Tensor
    num_samples: Tensor
    spec: TokenSpec

    def __post_init__(self) -> None:
        if not isinstance(self.spec, TokenSpec):
            raise LatentsError(f"spec must be a TokenSpec, got {type(self.spec).__name__}")
        for name in ("vectors", "lengths", "num_samples"):
            value = getattr(self, name)
            if not isinstance(value, Tensor):
                raise LatentsError(f"{name} must be a tensor, got {type(value).__name__}")
        if self.vectors.ndim != 3 or not self.vectors.is_floating_point():
            raise LatentsError(
                "vectors must be floating-point numbers of shape (batch, frames, channels), got "
                f"{self.vectors.dtype} {tuple(self.vectors.shape)}"
            )
        object.__setattr__(self, "vectors", self.vectors.float())
        for name in ("lengths", "num_samples"):
            value, shape = getattr(self, name), (len(self.vectors),)
            whole = not (value.is_floating_point() or value.is_complex())
            if tuple(value.shape) != shape or not whole or value.dtype == torch.bool:
                raise LatentsError(
                    f"{name} must be integers of shape {shape}, got {value.dtype} "
                    f"{tuple(value.shape)}"
                )
            object.__setattr__(self, name, value.long())

    @classmethod
    def from_vectors(
        cls,
        vectors: Tensor,
        tokenizer: HasSpec | TokenSpec,
        lengths: Tensor | Sequence[int] | None = None,
    ) -> "Latents":
        """Create latents from vectors alone, such as a language model's output.

        Args:
            vectors: (batch, frames, channels), or (frames, channels) for one utterance.
            tokenizer: whose latents they are.
            lengths: (batch,) valid frames of each row; default: all. Each stands for a whole frame
                of samples.

        Raises:
            LatentsError: a shape or dtype is wrong, or the tokenizer has other channels.
        """
        spec = tokenizer if isinstance(tokenizer, TokenSpec) else tokenizer.spec.tokens
        if isinstance(vectors, Tensor) and vectors.ndim == 2:
            vectors = vectors[None]
        if not isinstance(vectors, Tensor) or vectors.ndim != 3:
            got = tuple(vectors.shape) if isinstance(vectors, Tensor) else type(vectors).__name__
            raise LatentsError(
                f"vectors must be a tensor of shape (batch, frames, channels), got {got}"
            )
        counts = [vectors.shape[1]] * vectors.shape[0] if lengths is None else lengths
        frames = torch.as_tensor(counts, device=vectors.device)
        made = cls(vectors, frames, frames * spec.hop, spec)
        if not isinstance(tokenizer, TokenSpec):
            made.check_channels(tokenizer.spec)
        return made.masked()

    def check(self) -> None:
        """Check all values.

        Raises:
            LatentsError: a value is NaN or infinite, a length exceeds the frames, or the number of
                samples does not agree with the number of frames.
        """
        frames = self.vectors.shape[1]
        if bool((self.lengths < 0).any()) or bool((self.lengths > frames).any()):
            raise LatentsError(f"lengths must lie in 0..{frames}, got {self.lengths.tolist()}")
        counts = zip(self.lengths.tolist(), self.num_samples.tolist(), strict=True)
        for row, (length, samples) in enumerate(counts):
            if samples < 0 or self.spec.frames_for(samples) != length:
                raise LatentsError(
                    f"{length} frames can't stand for {samples} samples: {self.spec.tokenizer} has "
                    f"frames of {self.spec.hop} samples"
                )
            if not bool(self.vectors[row, :length].isfinite().all()):
                raise LatentsError(f"row {row} of the latents holds NaN or infinity")

    def check_channels(self, spec: TokenizerSpec) -> None:
        """Check that these are latents of a tokenizer.

        Raises:
            TokenMismatchError: they were made by another one.
            LatentsError: it has none, or of another number of channels.
        """
        check_same_tokenizer(self.spec, spec.tokens, "latents")
        if self.num_channels != latent_channels(spec):
            raise LatentsError(
                f"{spec.tokens.tokenizer} has latents of {spec.latent_channels} channels, got "
                f"{self.num_channels}"
            )

    def __repr__(self) -> str:
        batch, frames, channels = self.vectors.shape
        return (
            f"Latents({self.spec.tokenizer!r}, batch {batch} × {frames} frames × {channels} "
            f"channels, {self.duration():.2f} s, {self.device})"
        )

    # --- properties ----------------------------------------------------------------------------

    @property
    def num_channels(self) -> int:
        return self.vectors.shape[2]

    @property
    def device(self) -> torch.device:
        return self.vectors.device

    def __len__(self) -> int:
        return self.vectors.shape[0]

    def duration(self) -> float:
        """Seconds of audio in the whole batch."""
        return int(self.num_samples.sum()) / self.spec.sample_rate

    def mask(self) -> Tensor:
        """Mask (batch, frames) bool: True for frames within the row's length."""
        positions = torch.arange(self.vectors.shape[1], device=self.device)
        return positions < self.lengths[:, None]

    def masked(self) -> "Latents":
        """Return the same latents with zeros beyond each row's length."""
        return replace(self, vectors=torch.where(self.mask()[..., None], self.vectors, 0.0))

    def equal(self, other: "Latents") -> bool:
        """Whether vectors, lengths, samples and spec are all equal, to the bit.

        Values beyond the lengths are ignored.
        """
        if self.spec != other.spec or len(self) != len(other):
            return False
        if self.num_channels != other.num_channels:
            return False
        for name in ("lengths", "num_samples"):
            if not torch.equal(getattr(self, name), getattr(other, name)):
                return False
        return all(
            torch.equal(mine[:length], its[:length])
            for mine, its, length in zip(
                self.vectors, other.vectors, self.lengths.tolist(), strict=True
            )
        )

    # --- rows, frames --------------------------------------------------------------------------

    def __getitem__(self, rows: int | slice) -> "Latents":
        """Return a batch of the chosen rows; an integer gives a batch of one."""
        chosen = row_slice(rows, len(self))
        return self._map(lambda tensor: tensor[chosen])

    def frames(self, start: int, stop: int) -> "Latents":
        """Return frames start..stop of every row, with the matching numbers of samples.

        Raises:
            LatentsError: start > stop, or one is negative.
        """
        if not 0 <= start <= stop:
            raise LatentsError(f"expected 0 <= start <= stop, got {start}, {stop}")
        hop = self.spec.hop
        return replace(
            self,
            vectors=self.vectors[:, start:stop],
            lengths=(self.lengths - start).clamp(0, stop - start),
            num_samples=(self.num_samples - start * hop).clamp(0, (stop - start) * hop),
        )

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Latents":
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Latents":
        """Return a copy in pinned memory, as a `DataLoader` with `pin_memory` asks for."""
        return self._map(lambda tensor: tensor.pin_memory())

    def numpy(self) -> np.ndarray:
        """Return the vectors (batch, frames, channels) float32, 0 beyond each row's length."""
        return self.vectors.detach().cpu().numpy()

    def _map(self, change: Callable[[Tensor], Tensor]) -> "Latents":
        return replace(
            self,
            vectors=change(self.vectors),
            lengths=change(self.lengths),
            num_samples=change(self.num_samples),
        )

    # --- concatenation -------------------------------------------------------------------------

    @staticmethod
    def concat(parts: Sequence["Latents"]) -> "Latents":
        """Join the parts in time, row by row; rows may have different lengths in each part.

        Raises:
            LatentsError: no parts, or parts whose batch sizes or channels differ, or a part before
                the last that ends within a frame.
            TokenMismatchError: parts of different tokenizers.
        """
        first = _check_alike(parts)
        if any(len(part) != len(first) for part in parts):
            raise LatentsError(f"batch sizes differ: {[len(part) for part in parts]}")
        ended = torch.zeros(len(first), dtype=torch.bool, device=first.device)
        for part in parts:
            if bool((ended & (part.lengths > 0)).any()):
                raise LatentsError("a part before the last one ends within a frame")
            ended |= part.num_samples < part.lengths * first.spec.hop
        rows = [
            torch.cat([part.vectors[row, : int(part.lengths[row])] for part in parts])
            for row in range(len(first))
        ]
        return replace(
            first,
            vectors=padded(rows, first.num_channels, first.device),
            lengths=torch.stack([part.lengths for part in parts]).sum(0),
            num_samples=torch.stack([part.num_samples for part in parts]).sum(0),
        )

    @staticmethod
    def batch(parts: Sequence["Latents"]) -> "Latents":
        """Stack the rows of all parts into one batch, padded with 0.

        Raises:
            LatentsError: no parts, or parts whose channels differ.
            TokenMismatchError: parts of different tokenizers.
        """
        first = _check_alike(parts)
        rows = [row for part in parts for row in part.vectors]
        return replace(
            first,
            vectors=padded(rows, first.num_channels, first.device),
            lengths=torch.cat([part.lengths for part in parts]),
            num_samples=torch.cat([part.num_samples for part in parts]),
        )


def latent_channels(spec: TokenizerSpec) -> int:
    """Return the channels of a tokenizer's latents.

    Raises:
        LatentsError: it has none.
    """
    if spec.latent_channels is None:
        raise LatentsError(
            f"{spec.tokens.tokenizer} has no latents: its family makes codes without vectors"
        )
    return spec.latent_channels


def padded(rows: Sequence[Tensor], channels: int, device: torch.device) -> Tensor:
    """Stack rows (frames, channels) to (batch, frames, channels), padded with 0."""
    if not rows:
        return torch.zeros(0, 0, channels, device=device)
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)


def _check_alike(parts: Sequence[Latents]) -> Latents:
    if not parts:
        raise LatentsError("expected at least one part")
    first = parts[0]
    for part in parts:
        check_same_tokenizer(part.spec, first.spec, "latents")
        if part.num_channels != first.num_channels:
            raise LatentsError(f"channels differ: {first.num_channels} and {part.num_channels}")
    return first


torch.serialization.add_safe_globals([Latents])
