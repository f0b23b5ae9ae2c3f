"""Byte-pair encoding of `Tokens`: pieces are `Tokens` too, with durations, and can be decoded.

    coder = PieceCoder(UnitBPE.load("my-bpe"), tokenizer.spec.tokens)
    pieces = coder.encode(tokens)      # Tokens of "units-16k+my-bpe", one codebook
    tokens = coder.decode(pieces)      # of the tokenizer again

With de-duplication, a run of equal frames becomes one unit; a piece's duration is the number of
frames of its units, and `decode` distributes it over them. Without, decoding is exact.

Several codebooks form one sequence, frame by frame, and a piece may end within a frame. So their
pieces count time in ticks of one codebook of one frame each: `frame_rate` is the tokenizer's times
the number of codebooks. The number of samples missing in the last frame then can't be derived from
the ticks; it is stored as the last of the global codes, and `num_samples` counts whole frames.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from ..bpe import Kind, UnitBPE
from ..codecs.spec import TokenSpec
from ..codecs.tokens import Tokens, check_same_tokenizer
from ..errors import BPEError, TokenError, TokenMismatchError
from .bundled_bpe import bundled_bpe, list_bpes, load_bpe, piece_name

__all__ = ["PieceCoder", "bundled_bpe", "fit_bpe", "list_bpes", "load_bpe"]

#: Mean durations are rounded to this fraction of a frame, for equal results on every computer.
_PARTS = 256


class PieceCoder:
    """Encode a tokenizer's tokens to BPE pieces and decode them.

    Args:
        bpe: trained on the units of this tokenizer.
        base: the spec of the tokenizer's tokens.
        deduplicate: merge runs of equal frames first; default: as in the BPE's training.

    Attributes:
        spec: of the pieces: tokenizer "BASE+BPE", one codebook of `bpe.vocab_size` codes.

    Raises:
        TokenMismatchError: the BPE is for another tokenizer.
        BPEError: its codebooks are not the tokenizer's, or a frame can't be divided into ticks.
    """

    def __init__(self, bpe: UnitBPE, base: TokenSpec, deduplicate: bool | None = None) -> None:
        self.bpe, self.base = bpe, base
        self.deduplicate = bpe.deduplicated if deduplicate is None else deduplicate
        self.num_codebooks = len(bpe.codebook_sizes)
        if bpe.source and bpe.source != base.digest:
            raise TokenMismatchError(
                f"{bpe.name} was trained on the units of a tokenizer with digest "
                f"{bpe.source[:12]}, not on those of {base.tokenizer} ({base.digest[:12]})"
            )
        if bpe.codebook_sizes != base.codebook_sizes[: self.num_codebooks]:
            raise BPEError(
                f"{bpe.name} is for codebooks of {list(bpe.codebook_sizes)} codes; "
                f"{base.tokenizer} has {list(base.codebook_sizes)}"
            )
        if base.hop % self.num_codebooks:
            raise BPEError(
                f"pieces of {self.num_codebooks} codebooks need frames of a multiple of so many "
                f"samples; {base.tokenizer} has frames of {base.hop}"
            )

    @cached_property
    def spec(self) -> TokenSpec:
        base, flat = self.base, self.num_codebooks > 1
        how = "deduplicated" if self.deduplicate else "every frame"
        text = f"{base.digest}\n{self.bpe.digest}\n{how}"
        return TokenSpec(
            tokenizer=piece_name(base.tokenizer, self.bpe.name),
            digest=hashlib.sha256(text.encode()).hexdigest(),
            sample_rate=base.sample_rate,
            frame_rate=base.frame_rate * self.num_codebooks,
            codebook_sizes=(self.bpe.vocab_size,),
            global_codebook_sizes=base.global_codebook_sizes + ((base.hop,) if flat else ()),
        )

    def __repr__(self) -> str:
        return f"PieceCoder({self.spec.tokenizer!r}, deduplicate={self.deduplicate})"

    # --- encoding ------------------------------------------------------------------------------

    def encode(self, tokens: Tokens) -> Tokens:
        """Encode a batch to pieces (batch, 1, pieces), with durations that sum to its frames.

        Args:
            tokens: of the tokenizer, with or without durations.

        Raises:
            TokenMismatchError: the tokens are from another tokenizer.
            TokenError: codebooks unlike the BPE's, or a code or count out of range.
        """
        check_same_tokenizer(tokens.spec, self.base)
        if tokens.num_codebooks != self.num_codebooks:
            raise TokenError(
                f"{self.bpe.name} is for {self.num_codebooks} codebooks, got "
                f"{tokens.num_codebooks}; keep_codebooks({self.num_codebooks}) keeps the first"
            )
        tokens.check()
        frames = tokens.num_frames
        units = unit_rows(self.bpe, tokens, self.deduplicate)
        ids = self.bpe.encode_batch([row for row, _ in units])
        durations = []
        for row, (_, ticks) in zip(ids, units, strict=True):
            ends = np.cumsum(self.bpe.piece_lengths[row])
            durations.append(np.diff(np.concatenate([[0], np.cumsum(ticks)])[[0, *ends.tolist()]]))
        global_codes, samples = tokens.global_codes, tokens.num_samples
        if self.num_codebooks > 1:
            samples = frames * self.base.hop
            missing = (samples - tokens.num_samples)[:, None]
            global_codes = (
                missing if global_codes is None else torch.cat([global_codes, missing], 1)
            )
        return _batch(
            self.spec, [row[None] for row in ids], durations, samples, global_codes, tokens.device
        )

    # --- decoding ------------------------------------------------------------------------------

    def decode(
        self, pieces: Tokens, durations: Tensor | None = None, partial: bool = False
    ) -> Tokens:
        """Decode pieces to the tokenizer's tokens.

        Without de-duplication, exactly what was encoded. With it, exactly the units, one position
        each, with durations: given ones, or the pieces' durations distributed over their units.
            Every
        unit gets one frame; the rest is distributed in proportion to the part of each unit's mean
        duration (`bpe.unit_durations`; equal if there are none) that exceeds one frame. Rounding is
        of cumulative sums from the piece's start, halves up. With several codebooks, the same is
        done between the positions at which a piece and a frame end together.

        Args:
            pieces: from this coder.
            durations: (batch, units) frames of each unit, if known; 0 beyond a row's units.
            partial: the pieces may end before their utterance does: an incomplete last frame is
                dropped.

        Raises:
            TokenMismatchError: pieces of another tokenizer, BPE or de-duplication.
            TokenError: a piece out of range or special, or durations that do not fit the units.
        """
        check_same_tokenizer(pieces.spec, self.spec)
        pieces.check()
        codes, lengths, device = pieces.codes[:, 0].cpu().numpy(), pieces.lengths, pieces.device
        held = torch.ones_like(pieces.codes[:, 0]) if pieces.durations is None else pieces.durations
        rows, shares = [], []
        for row, count in enumerate(lengths.tolist()):
            given = None if durations is None else durations[row].cpu().numpy()
            try:
                frames, share = self._row(
                    codes[row, :count], held[row, :count].cpu().numpy(), given, partial
                )
            except TokenError as error:
                raise TokenError(f"row {row}: {error}") from None
            rows.append(frames)
            shares.append(share)
        global_codes, samples = pieces.global_codes, pieces.num_samples
        if self.num_codebooks > 1:
            assert global_codes is not None
            counts = [
                frames.shape[1] if share is None else int(share.sum())
                for frames, share in zip(rows, shares, strict=True)
            ]
            samples = torch.tensor(counts, dtype=torch.long, device=device) * self.base.hop
            if not partial:
                samples = (samples - global_codes[:, -1]).clamp(min=0)
            kept = len(self.base.global_codebook_sizes)
            global_codes = global_codes[:, :kept] if kept else None
        shared = [share for share in shares if share is not None]
        out = _batch(
            self.base,
            rows,
            shared if self.deduplicate else None,
            samples,
            global_codes,
            device,
        )
        out.check()
        return out

    def _row(
        self, ids: np.ndarray, ticks: np.ndarray, given: np.ndarray | None, partial: bool
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Decode one row to codes (codebooks, positions), and durations (positions,) or None."""
        count = self.num_codebooks
        units = self.bpe.decode(ids)
        ends = np.cumsum(self.bpe.piece_lengths[ids])
        ticks_at = np.cumsum(ticks)
        cut = len(units) % count if partial else 0
        codes = self.bpe.unflatten(units[: len(units) - cut])
        if not self.deduplicate:
            if not np.array_equal(ticks, self.bpe.piece_lengths[ids]):
                raise TokenError("without de-duplication, a piece lasts as long as it has units")
            return codes, None
        # Groups of pieces that end with a frame: with one codebook, each piece.
        closed = ends % count == 0
        group_ends = ends[closed] // count
        time_ends = ticks_at[closed]
        if (time_ends % count).any():
            raise TokenError(f"durations that are no whole frames of {count} codebooks")
        if cut or (partial and len(ends) and not closed[-1]):
            codes = codes[:, : group_ends[-1] if len(group_ends) else 0]
        frames = np.diff(time_ends // count, prepend=0)
        sizes = np.diff(group_ends, prepend=0)
        if (frames < sizes).any():
            at = int(np.flatnonzero(frames < sizes)[0])
            raise TokenError(f"{sizes[at]} units can't share {frames[at]} frames: each needs one")
        if given is not None:
            return codes, _checked(given, codes.shape[1], group_ends, frames)
        means = self.bpe.unit_durations
        expected = np.ones(codes.shape[1])
        if means is not None:
            expected = means[self.bpe.flatten(codes).reshape(-1, count)].mean(axis=1)
        return codes, share_frames(frames, sizes, expected)

    def from_ids(self, ids: Sequence[np.ndarray]) -> Tokens:
        """Create `Tokens` with durations from pieces without, such as a language model's output.

        Each unit gets its mean duration, rounded within its piece (with several codebooks, within
        the pieces up to the end of a frame); `num_samples` follows.

        Args:
            ids: one array of pieces (n,) per row, without specials; whole frames if there are
                several codebooks.

        Raises:
            TokenError: an id is out of range, or a frame is incomplete.
        """
        rows, durations = [], []
        for row in ids:
            units = self.bpe.decode(row)
            row = np.asarray(row, np.int64)
            self.bpe.unflatten(units)
            lengths = self.bpe.piece_lengths[row]
            means = self.bpe.unit_durations
            if self.deduplicate and means is not None and len(row):
                lengths = _mean_durations(means[units], lengths, self.num_codebooks)
            rows.append(row[None])
            durations.append(lengths)
        hop = self.spec.hop
        samples = torch.tensor([int(row.sum()) * hop for row in durations], dtype=torch.long)
        sizes = self.spec.global_codebook_sizes
        if len(sizes) > (self.num_codebooks > 1):
            raise TokenError(f"{self.base.tokenizer} has global codes, which pieces alone lack")
        missing = torch.zeros((len(rows), 1), dtype=torch.long) if sizes else None
        return _batch(self.spec, rows, durations, samples, missing, torch.device("cpu"))


def _mean_durations(means: np.ndarray, lengths: np.ndarray, count: int) -> np.ndarray:
    """Return the duration of each piece (pieces,), in codes.

    Args:
        means: (units,) mean duration of each unit in frames, at least 1.
        lengths: (pieces,) units of each.
        count: codebooks; the units are of whole frames.
    """
    expected = means.reshape(-1, count).mean(axis=1)
    ends = np.cumsum(lengths)
    sizes = np.diff(ends[ends % count == 0] // count, prepend=0)
    sums = np.add.reduceat(expected, np.cumsum(sizes) - sizes)
    frames = np.maximum(sizes, np.floor(sums + 0.5).astype(np.int64))
    each = np.repeat(share_frames(frames, sizes, expected), count)
    return np.add.reduceat(each, ends - lengths)


def unit_rows(
    bpe: UnitBPE, tokens: Tokens, deduplicate: bool
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return each row as units (n,), all codebooks flattened, with durations (n,) in frames."""
    tokens = tokens.deduplicate() if deduplicate else tokens.restore()
    rows = []
    codes = tokens.codes.cpu().numpy()
    durations = None if tokens.durations is None else tokens.durations.cpu().numpy()
    for row, length in enumerate(tokens.lengths.tolist()):
        units = bpe.flatten(codes[row, :, :length])
        ticks = np.ones(length, np.int64) if durations is None else durations[row, :length]
        rows.append((units, np.repeat(ticks, tokens.num_codebooks)))
    return rows


def share_frames(frames: np.ndarray, sizes: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Distribute each group's frames over its units; see `PieceCoder.decode`.

    Args:
        frames: (groups,) number of frames, at least the group's size.
        sizes: (groups,) number of units.
        expected: (units,) mean duration of each unit, at least 1.

    Returns:
        (units,) int64, at least 1 each; those of a group sum to its frames.
    """
    ends = np.cumsum(sizes)
    # One is added, so that units without a part beyond one frame get equal shares.
    parts = np.rint((expected - 1) * _PARTS).astype(np.int64) + 1
    sums = np.concatenate([[0], np.cumsum(parts)])
    before = np.repeat(sums[ends - sizes], sizes)
    whole = np.repeat(sums[ends] - sums[ends - sizes], sizes)
    spare = np.repeat(frames - sizes, sizes)
    until = (2 * spare * (sums[1:] - before) + whole) // (2 * whole)
    from_ = (2 * spare * (sums[:-1] - before) + whole) // (2 * whole)
    return 1 + until - from_


def _checked(given: np.ndarray, count: int, ends: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Return exact durations, after checking that they agree with those of the groups."""
    if len(given) < count or given[count:].any():
        raise TokenError(f"durations of {np.count_nonzero(given)} units; the pieces have {count}")
    given = given[:count]
    if count and given.min() < 1:
        raise TokenError("every duration must be at least 1 frame")
    sums = np.concatenate([[0], np.cumsum(given)])
    if not np.array_equal(np.diff(sums[ends], prepend=0), frames):
        raise TokenError("the units' durations don't sum to those of the pieces")
    return given


def _batch(
    spec: TokenSpec,
    codes: Sequence[np.ndarray],
    durations: Sequence[np.ndarray] | None,
    num_samples: Tensor,
    global_codes: Tensor | None,
    device: torch.device,
) -> Tokens:
    """Create `Tokens` from rows of codes (codebooks, positions), padded with 0."""
    lengths = [row.shape[1] for row in codes]
    longest = max(lengths, default=0)
    codebooks = codes[0].shape[0] if codes else 1
    padded = np.zeros((len(codes), codebooks, longest), np.int64)
    held = np.zeros((len(codes), longest), np.int64)
    for row, length in enumerate(lengths):
        padded[row, :, :length] = codes[row]
        if durations is not None:
            held[row, :length] = durations[row]
    return Tokens(
        codes=torch.from_numpy(padded).to(device),
        lengths=torch.tensor(lengths, dtype=torch.long, device=device),
        num_samples=num_samples,
        spec=spec,
        durations=None if durations is None else torch.from_numpy(held).to(device),
        global_codes=global_codes,
    )


# --- training ----------------------------------------------------------------------------------


def fit_bpe(
    tokens: Iterable[Tokens],
    vocab_size: int,
    *,
    kind: Kind = "bpe",
    name: str = "bpe",
    deduplicate: bool = True,
    specials: Sequence[str] = (),
    max_piece_length: int = 16,
    sample_units: int | None = None,
    seed: int = 0,
) -> UnitBPE:
    """Train a BPE on tokens of one tokenizer, and measure the mean duration of each unit.

    Args:
        tokens: batches of any size; iterated once. Their codebooks become the BPE's.
        deduplicate: merge runs of equal frames first.
        vocab_size, kind, name, specials, max_piece_length, sample_units, seed: as for
            `UnitBPE.train`.

    Raises:
        BPEError: settings out of range, or too little training data.
        TokenMismatchError: tokens of several tokenizers.
        TokenError: a code out of range, or codebooks unlike the first tokens'.
    """
    UnitBPE.check_name(name)
    given = iter(tokens)
    first = next(given, None)
    if first is None:
        raise BPEError("there are no tokens to train on")
    spec, count = first.spec, first.num_codebooks
    sizes = spec.codebook_sizes[:count]
    sums, counts = np.zeros(sum(sizes)), np.zeros(sum(sizes))
    shifts = np.cumsum([0, *sizes[:-1]])[:, None]

    def sequences() -> Iterator[np.ndarray]:
        for batch in chain([first], given):
            check_same_tokenizer(batch.spec, spec)
            if batch.num_codebooks != count:
                raise TokenError(f"{batch.num_codebooks} codebooks after tokens of {count}")
            batch.check()
            batch = batch.deduplicate() if deduplicate else batch.restore()
            for row, length in enumerate(batch.lengths.tolist()):
                codes = batch.codes[row, :, :length].cpu().numpy()
                units = (codes + shifts).T.reshape(-1)
                if batch.durations is not None:
                    ticks = batch.durations[row, :length].cpu().numpy().repeat(count)
                    sums[:] += np.bincount(units, ticks, len(sums))
                    counts[:] += np.bincount(units, minlength=len(sums))
                yield units

    bpe = UnitBPE.train(
        sequences(),
        sizes,
        vocab_size,
        kind=kind,
        name=name,
        deduplicated=deduplicate,
        source=spec.digest,
        specials=specials,
        max_piece_length=max_piece_length,
        sample_units=sample_units,
        seed=seed,
    )
    if not deduplicate:
        return bpe
    # Units that never occurred get the average duration.
    means = np.where(counts > 0, sums, sums.sum()) / np.where(counts > 0, counts, counts.sum())
    return replace(bpe, unit_durations=np.clip(np.round(means, 3), 1, 2**20))
