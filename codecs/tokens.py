"""`Tokens`: what every tokenizer's `encode` returns and `decode` takes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import TokenError, TokenMismatchError
from .spec import HasSpec, TokenSpec
from .values import check_range, integers, row_slice

_ALWAYS_THERE = ("codes", "lengths", "num_samples")


@dataclass(frozen=True, eq=False, repr=False)
class Tokens:
    """Discrete tokens of a batch of utterances.

    Attributes:
        codes: (batch, codebooks, positions) int64; 0 beyond each row's length. This and the other
            tensors may be given in any integer dtype.
        lengths: (batch,) int64, number of valid positions in each row. A position is one frame, or
            several where `durations` is set.
        num_samples: (batch,) int64, number of audio samples of each row; `decode` returns as many.
        spec: the meaning of the codes.
        durations: (batch, positions) int64 or None: number of frames of each position, 0 beyond
            the row's length. Set for de-duplicated or merged units.
        global_codes: (batch, global codebooks) or None: codes that apply to a whole row.
        metadata: for each row, a dictionary of JSON values, or None: what `read_tokens` found in
            the file, and what `encode` did to the wave. `write_tokens` writes it, and `equal`
            ignores it.

    Raises:
        TokenError: a type, shape, dtype or count is wrong. The range of the codes is checked only
            by `check`, which `decode` and the container call.
    """

    codes: Tensor
    lengths: Tensor
    num_samples: Tensor
    spec: TokenSpec
    durations: Tensor | None = None
    global_codes: Tensor | None = None
    metadata: tuple[dict[str, Any], ...] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.spec, TokenSpec):
            raise TokenError(f"spec must be a TokenSpec, got {type(self.spec).__name__}")
        for name in ("codes", "lengths", "num_samples", "durations", "global_codes"):
            value = getattr(self, name)
            if not isinstance(value, Tensor) and (value is not None or name in _ALWAYS_THERE):
                raise TokenError(
                    f"{name} must be a tensor of integers, got {type(value).__name__}; "
                    "torch.as_tensor makes one"
                )
        if self.codes.ndim != 3:
            raise TokenError(
                "codes must have shape (batch, codebooks, positions), got "
                f"{tuple(self.codes.shape)}"
            )
        batch, codebooks, positions = self.codes.shape
        most = self.spec.num_codebooks
        if not 1 <= codebooks <= most:
            raise TokenError(f"{codebooks} codebooks; {self.spec.tokenizer} has 1 to {most}")
        shapes: dict[str, tuple[int, ...]] = {"lengths": (batch,), "num_samples": (batch,)}
        if self.durations is not None:
            shapes["durations"] = (batch, positions)
        if self.spec.global_codebook_sizes and self.global_codes is None:
            raise TokenError(f"{self.spec.tokenizer} needs global_codes")
        if self.global_codes is not None:
            shapes["global_codes"] = (batch, len(self.spec.global_codebook_sizes))
        for name, shape in shapes.items():
            if tuple(getattr(self, name).shape) != shape:
                raise TokenError(
                    f"{name} must have shape {shape}, got {tuple(getattr(self, name).shape)}"
                )
        if self.metadata is not None and len(self.metadata) != batch:
            raise TokenError(f"{len(self.metadata)} metadata for {batch} rows")
        for name in ("codes", *shapes):
            dtype = getattr(self, name).dtype
            if dtype is torch.int64:
                continue
            if dtype.is_floating_point or dtype.is_complex or dtype == torch.bool:
                raise TokenError(f"{name} must be integers, got {dtype}")
            object.__setattr__(self, name, getattr(self, name).long())

    @classmethod
    def of_checked(
        cls, codes: Tensor, lengths: Tensor, num_samples: Tensor, spec: TokenSpec
    ) -> "Tokens":
        """Create tokens of int64 tensors that are known to fit, without looking at them again.

        Streams do for every frame. For the arguments, see the attributes.
        """
        made = object.__new__(cls)
        vars(made).update(
            codes=codes, lengths=lengths, num_samples=num_samples, spec=spec, durations=None,
            global_codes=None, metadata=None,
        )  # fmt: skip
        return made

    @classmethod
    def from_codes(
        cls,
        codes: Tensor | np.ndarray | Sequence[Any],
        tokenizer: HasSpec | TokenSpec,
        lengths: Tensor | Sequence[int] | None = None,
        num_samples: Tensor | Sequence[int] | None = None,
        durations: Tensor | np.ndarray | Sequence[Any] | None = None,
    ) -> "Tokens":
        """Create tokens from codes alone: of other programs, or written by a language model.

        Args:
            codes: (batch, codebooks, positions), or (codebooks, positions) of one utterance, or
                (positions,) with one codebook; a tensor, an array or lists of integers.
            tokenizer: whose codes they are.
            lengths: (batch,) valid positions of each row; default: all.
            num_samples: (batch,) samples of each row; default: whole frames.
            durations: (batch, positions) frames of each position, or (positions,) of one utterance.

        Raises:
            TokenError: a shape or dtype is wrong, or a code, length or count is out of range.
        """
        spec = tokenizer if isinstance(tokenizer, TokenSpec) else tokenizer.spec.tokens
        table = integers(codes, "codes")
        if table.ndim not in (1, 2, 3):
            raise TokenError(
                f"codes must have shape (batch, codebooks, positions), got {tuple(table.shape)}"
            )
        table = table[(None,) * (3 - table.ndim)]
        device = table.device
        held = None if durations is None else integers(durations, "durations").to(device)
        if held is not None and held.ndim == 1:
            held = held[None]
        counts = [table.shape[2]] * len(table) if lengths is None else lengths
        valid = integers(counts, "lengths").to(device)
        made = cls(table, valid, torch.zeros_like(valid), spec, held)
        frames = made.num_frames * spec.hop
        samples = frames if num_samples is None else integers(num_samples, "num_samples")
        mask = made._valid()
        made = replace(
            made,
            codes=made.codes * mask[:, None],
            num_samples=samples.to(device),
            durations=None if made.durations is None else made.durations * mask,
        )
        made.check()
        return made

    def check(self) -> None:
        """Check all values.

        Raises:
            TokenError: a code is out of its codebook's range, a length exceeds the positions, or
                the number of samples does not agree with the number of frames.
        """
        positions, lengths = self.codes.shape[-1], self.lengths.tolist()
        if any(not 0 <= length <= positions for length in lengths):
            raise TokenError(f"lengths must lie in 0..{positions}, got {lengths}")
        sizes = self.spec.codebook_sizes[: self.codes.shape[1]]
        full = all(length == positions for length in lengths)
        codes = self.codes if full else self.codes * self._valid()[:, None]
        check_range(codes, sizes, "code")
        if self.global_codes is not None:
            check_range(
                self.global_codes[..., None], self.spec.global_codebook_sizes, "global code"
            )
        if self.durations is not None:
            if bool((self.durations[self._valid()] < 1).any()):
                raise TokenError("every duration must be at least 1 frame")
            lengths = self.num_frames.tolist()
        hop = self.spec.hop
        for frames, samples in zip(lengths, self.num_samples.tolist(), strict=True):
            if samples < 0 or -(-samples // hop) != frames:
                raise TokenError(
                    f"{frames} frames can't stand for {samples} samples: {self.spec.tokenizer} has "
                    f"frames of {self.spec.hop} samples"
                )

    def __repr__(self) -> str:
        batch, codebooks, positions = self.codes.shape
        kind = "frames" if self.durations is None else "positions with durations"
        return (
            f"Tokens({self.spec.tokenizer!r}, batch {batch} × {codebooks} codebooks × {positions} "
            f"{kind}, {self.duration():.2f} s, {self.device})"
        )

    def _valid(self) -> Tensor:
        """Mask (batch, positions) bool: True for positions within the row's length."""
        return torch.arange(self.codes.shape[-1], device=self.codes.device) < self.lengths[:, None]

    # --- properties ----------------------------------------------------------------------------

    @property
    def num_frames(self) -> Tensor:
        """(batch,) number of frames in each row, with durations expanded."""
        if self.durations is None:
            return self.lengths
        return (self.durations * self._valid()).sum(-1)

    @property
    def num_codebooks(self) -> int:
        return self.codes.shape[1]

    @property
    def device(self) -> torch.device:
        return self.codes.device

    def __len__(self) -> int:
        return self.codes.shape[0]

    def duration(self) -> float:
        """Seconds of audio in the whole batch."""
        return int(self.num_samples.sum()) / self.spec.sample_rate

    def bitrate(self) -> float:
        """Bits per second of the codes (durations not counted).

        Equal to the nominal rate, but lower for de-duplicated tokens, which have fewer positions.
        """
        seconds = self.duration()
        bits = int(self.lengths.sum()) * self.spec.bits_per_frame(self.num_codebooks)
        return bits / seconds if seconds else 0.0

    def equal(self, other: "Tokens") -> bool:
        """Whether codes, lengths, samples, durations and spec are all equal.

        Values beyond the lengths are ignored.
        """
        if self.spec != other.spec or self.codes.shape[:2] != other.codes.shape[:2]:
            return False
        for name in ("lengths", "num_samples"):
            if not torch.equal(getattr(self, name), getattr(other, name)):
                return False
        pairs = [(self.global_codes, other.global_codes)]
        longest = int(self.lengths.max()) if len(self) else 0
        valid = self._valid()[:, :longest]
        for mine, its in ((self.codes, other.codes), (self.durations, other.durations)):
            if mine is not None and its is not None:
                mask = valid[:, None] if mine.ndim == 3 else valid
                mine, its = (t[..., :longest] * mask for t in (mine, its))
            pairs.append((mine, its))
        return all(
            (a is None) == (b is None) and (a is None or b is None or torch.equal(a, b))
            for a, b in pairs
        )

    # --- rows, frames, codebooks ---------------------------------------------------------------

    def __getitem__(self, rows: int | slice) -> "Tokens":
        """Return a batch of the chosen rows; an integer gives a batch of one."""
        chosen = row_slice(rows, len(self))
        kept = None if self.metadata is None else self.metadata[chosen]
        # Both at once: metadata must fit the rows.
        return self._map(lambda tensor: tensor[chosen], metadata=kept)

    def frames(self, start: int, stop: int) -> "Tokens":
        """Return positions start..stop of every row, with the matching numbers of samples.

        Raises:
            TokenError: the tokens have durations (`restore` them first) or start > stop.
        """
        if self.durations is not None:
            raise TokenError("positions with durations can't be cut; call restore() first")
        if not 0 <= start <= stop:
            raise TokenError(f"expected 0 <= start <= stop, got {start}, {stop}")
        hop = self.spec.hop
        return replace(
            self,
            codes=self.codes[..., start:stop],
            lengths=(self.lengths - start).clamp(0, stop - start),
            num_samples=(self.num_samples - start * hop).clamp(0, (stop - start) * hop),
        )

    def keep_codebooks(self, count: int) -> "Tokens":
        """Keep the first `count` codebooks (for nested codes, such as residual ones).

        Raises:
            TokenError: `count` is below 1 or above the number of codebooks.
        """
        if not 1 <= count <= self.num_codebooks:
            raise TokenError(f"expected 1 to {self.num_codebooks} codebooks, got {count}")
        return replace(self, codes=self.codes[:, :count])

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Tokens":
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "Tokens":
        """Return a copy in pinned memory, as a `DataLoader` with `pin_memory` asks for."""
        return self._map(lambda tensor: tensor.pin_memory())

    def numpy(self) -> np.ndarray:
        """Return the codes (batch, codebooks, positions) int64, 0 beyond each row's length."""
        return self.codes.cpu().numpy()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return the codes (codebooks, positions) of a batch of one, without padding.

        Raises:
            TokenError: more than one row.
        """
        if len(self) != 1:
            raise TokenError(
                f"a batch of {len(self)} is no single array: take a row, as tokens[0], or the "
                "padded codes, tokens.numpy()"
            )
        codes = self.codes[0, :, : int(self.lengths[0])].cpu().numpy()
        return np.array(codes, dtype=dtype, copy=copy)

    def _map(self, change: Callable[[Tensor], Tensor], **others: Any) -> "Tokens":
        tensors: dict[str, Any] = {
            name: change(tensor)
            for name in ("codes", "lengths", "num_samples", "durations", "global_codes")
            if (tensor := getattr(self, name)) is not None
        }
        return replace(self, **tensors, **others)

    # --- concatenation -------------------------------------------------------------------------

    @staticmethod
    def concat(parts: Sequence["Tokens"]) -> "Tokens":
        """Join the parts in time, row by row; rows may have different lengths in each part.

        Raises:
            TokenError: no parts, or parts whose specs, batch sizes or codebooks differ, or a part
                before the last that ends within a frame.
        """
        first = _check_alike(parts)
        if any(len(part) != len(first) for part in parts):
            raise TokenError(f"batch sizes differ: {[len(part) for part in parts]}")
        ended = torch.zeros(len(first), dtype=torch.bool, device=first.device)
        for part in parts:
            if bool((ended & (part.lengths > 0)).any()):
                raise TokenError("a part before the last one ends within a frame")
            ended |= part.num_samples < part.num_frames * first.spec.hop
            mine, its = first.global_codes, part.global_codes
            if mine is not None and its is not None and not torch.equal(mine, its):
                raise TokenError("the parts have different global codes")
        lengths = torch.stack([part.lengths for part in parts]).sum(0)
        longest = int(lengths.max()) if len(first) else 0
        joined: dict[str, Any] = {}
        for name in ("codes", "durations"):
            if (like := getattr(first, name)) is None:
                continue
            out = like.new_zeros((*like.shape[:-1], longest))
            for row in range(len(first)):
                at = 0
                for part in parts:
                    length = int(part.lengths[row])
                    out[row, ..., at : at + length] = getattr(part, name)[row, ..., :length]
                    at += length
            joined[name] = out
        samples = torch.stack([part.num_samples for part in parts]).sum(0)
        return replace(first, lengths=lengths, num_samples=samples, **joined)

    @staticmethod
    def batch(parts: Sequence["Tokens"]) -> "Tokens":
        """Stack the rows of all parts into one batch, padded with 0.

        Raises:
            TokenError: no parts, or parts whose specs or codebooks differ.
        """
        first = _check_alike(parts)
        longest = max(part.codes.shape[-1] for part in parts)

        def stack(name: str, padded: bool) -> Any:
            if getattr(first, name) is None:
                return None
            tensors = [getattr(part, name) for part in parts]
            if padded:
                pad = torch.nn.functional.pad
                tensors = [pad(t, (0, longest - t.shape[-1])) for t in tensors]
            return torch.cat(tensors)

        return replace(
            first,
            **{name: stack(name, True) for name in ("codes", "durations")},
            **{name: stack(name, False) for name in ("lengths", "num_samples", "global_codes")},
            metadata=_joined_metadata(parts),
        )

    # --- durations -----------------------------------------------------------------------------

    def deduplicate(self) -> "Tokens":
        """Merge runs of equal frames (all codebooks equal) into one position with a duration.

        `restore` gives exactly the same frames back. In tokens that already have durations,
        neighbouring equal positions are merged.
        """
        durations = self._valid().long() if self.durations is None else self.durations
        rows = []
        for row in range(len(self)):
            codes = self.codes[row, :, : int(self.lengths[row])]
            runs, index = torch.unique_consecutive(codes, dim=-1, return_inverse=True)
            counts = torch.zeros(runs.shape[-1], dtype=torch.long, device=self.device)
            counts.index_add_(0, index, durations[row, : codes.shape[-1]])
            rows.append(
                replace(
                    self[row],
                    codes=runs[None],
                    lengths=self.lengths.new_tensor([runs.shape[-1]]),
                    durations=counts[None],
                )
            )
        return Tokens.batch(rows) if rows else replace(self, durations=durations)

    def restore(self) -> "Tokens":
        """Expand durations to one position for each frame: the inverse of `deduplicate`."""
        if self.durations is None:
            return self
        rows = []
        for row in range(len(self)):
            length = int(self.lengths[row])
            codes = self.codes[row, :, :length].repeat_interleave(
                self.durations[row, :length], dim=-1
            )
            lengths = self.lengths.new_tensor([codes.shape[-1]])
            rows.append(replace(self[row], codes=codes[None], lengths=lengths, durations=None))
        return Tokens.batch(rows) if rows else replace(self, durations=None)


def _check_alike(parts: Sequence[Tokens]) -> Tokens:
    if not parts:
        raise TokenError("expected at least one part")
    first = parts[0]
    for part in parts:
        check_same_tokenizer(part.spec, first.spec)
        if part.num_codebooks != first.num_codebooks:
            raise TokenError(
                f"numbers of codebooks differ: {first.num_codebooks} and {part.num_codebooks}"
            )
        if (part.durations is None) != (first.durations is None):
            raise TokenError("some parts have durations and some have none")
    return first


def _joined_metadata(parts: Sequence[Tokens]) -> tuple[dict[str, Any], ...] | None:
    if all(part.metadata is None for part in parts):
        return None
    nothing: dict[str, Any] = {}
    return tuple(row for part in parts for row in part.metadata or [nothing] * len(part))


def check_same_tokenizer(given: TokenSpec, expected: TokenSpec, what: str = "tokens") -> None:
    """Raise `TokenMismatchError` unless both specs give `what` the same meaning.

    Their names may differ (a saved copy may have any name); nothing else may.
    """
    if given is not expected and replace(given, tokenizer=expected.tokenizer) != expected:
        raise TokenMismatchError(
            f"these {what} were made by {given.tokenizer} ({given.digest[:12]}), "
            f"not by {expected.tokenizer} ({expected.digest[:12]})"
        )


# `torch.load(weights_only=True)` takes what was saved with tokens in it.
torch.serialization.add_safe_globals([Tokens, TokenSpec, Fraction])
