"""Frames in and out of a tokenizer: tokens and latents to checked rows, and rows to these types.

Offline calls, sessions and wrappers use the same functions, so that all of them check alike;
`waves.py` does the same for waveforms.
"""

from collections.abc import Sequence
from numbers import Integral

import torch
from torch import Tensor

from ..errors import LatentsError, TokenError
from .latents import Latents, latent_channels, padded
from .spec import TokenizerSpec
from .tokens import Tokens, check_same_tokenizer


def code_rows(tokens: Tokens, spec: TokenizerSpec, device: torch.device) -> list[Tensor]:
    """Check tokens for a tokenizer and return the valid codes of each row.

    Args:
        tokens: those with durations are expanded to frames.
        spec: the tokenizer's.
        device: the tokenizer's, to which the rows are moved.

    Returns:
        (codebooks, frames) int64 for each row.

    Raises:
        TokenMismatchError: the tokens were made by another tokenizer.
        TokenError: they are no tokens, or a code, length or count is out of range.
    """
    return rows_of_batch(*code_batch(tokens, spec, device), 1)


def code_batch(
    tokens: Tokens, spec: TokenizerSpec, device: torch.device
) -> tuple[Tensor, list[int]]:
    """`code_rows` in one tensor (batch, codebooks, frames) int64, and the frames of each row."""
    if not isinstance(tokens, Tokens):
        raise TokenError(f"expected Tokens or Latents, got {type(tokens).__name__}")
    check_same_tokenizer(tokens.spec, spec.tokens)
    tokens.check()
    check_codebooks(tokens.num_codebooks, spec)
    tokens = tokens.restore()
    return tokens.codes.to(device), tokens.lengths.tolist()


def latent_rows(latents: Latents, spec: TokenizerSpec, device: torch.device) -> list[Tensor]:
    """Check latents for a tokenizer and return the valid frames of each row.

    Args:
        latents: without their gradient, if they have one.
        spec: the tokenizer's.
        device: the tokenizer's, to which the rows are moved.

    Returns:
        (frames, channels) float32 for each row.

    Raises:
        TokenMismatchError: the latents were made by another tokenizer.
        LatentsError: the tokenizer can't decode latents; or a value, length or count is wrong.
    """
    return rows_of_batch(*latent_batch(latents, spec, device))


def latent_batch(
    latents: Latents, spec: TokenizerSpec, device: torch.device
) -> tuple[Tensor, list[int]]:
    """`latent_rows` in one tensor (batch, frames, channels) float32, and the frames of each row."""
    if not spec.decodes_latents:
        name = spec.tokens.tokenizer
        why = "its decoder takes codes only" if spec.latent_channels else "it has none"
        raise LatentsError(f"{name} can't decode latents: {why}; decode the tokens of `encode`")
    latents.check_channels(spec)
    latents.check()
    return latents.vectors.detach().to(device), latents.lengths.tolist()


def latents_of_rows(
    vectors: Sequence[Tensor],
    num_samples: Sequence[int],
    spec: TokenizerSpec,
    device: torch.device,
) -> Latents:
    """Create a batch of `Latents` from the frames of each row.

    Args:
        vectors: (frames, channels) float32 for each row.
        num_samples: for each row, the samples that its frames stand for.
        spec: the tokenizer's.
        device: the tokenizer's, on which the vectors are.
    """
    lengths = [row.shape[0] for row in vectors]
    return Latents(
        vectors=padded(vectors, latent_channels(spec), device),
        lengths=torch.tensor(lengths, dtype=torch.long, device=device),
        num_samples=torch.tensor(num_samples, dtype=torch.long, device=device),
        spec=spec.tokens,
    )


def rows_of_batch(batch: Tensor, counts: Sequence[int], axis: int = 0) -> list[Tensor]:
    """Return the valid part of each row of a batch, along an axis of the rows."""
    nothing = batch.narrow(axis + 1, 0, 0)
    # A server's sessions have many rows, of which few have frames.
    return [
        row.narrow(axis, 0, count) if count else nothing[index]
        for index, (row, count) in enumerate(zip(batch.unbind(), counts, strict=True))
    ]


def batch_of_rows(rows: Sequence[Tensor], axis: int) -> tuple[Tensor, list[int]]:
    """Return rows in one tensor, padded with zeros along an axis, and their sizes along it."""
    counts = [row.shape[axis] for row in rows]
    if len(rows) == 1:
        return rows[0][None], counts
    shape = list(rows[0].shape)
    shape[axis] = max(counts)
    batch = rows[0].new_zeros(len(rows), *shape)
    for whole, row, count in zip(batch, rows, counts, strict=True):
        if count:
            whole.narrow(axis, 0, count).copy_(row)
    return batch, counts


def check_codebooks(count: int | None, spec: TokenizerSpec) -> int:
    """Return the number of codebooks to keep.

    Args:
        count: as a user gives it; None: all.
        spec: the tokenizer's.

    Raises:
        TokenError: it is not a whole number, or the tokenizer can't keep so many.
    """
    least, most = spec.min_codebooks, spec.tokens.num_codebooks
    if not most:
        raise TokenError(
            f"{spec.tokens.tokenizer} is continuous: it has latents and no codes; see its `latents`"
        )
    if count is None:
        return most
    if isinstance(count, bool) or not isinstance(count, Integral):
        raise TokenError(
            f"num_codebooks must be a whole number, got {count!r} ({type(count).__name__})"
        )
    if not least <= count <= most:
        expected = f"{most}" if least == most else f"{least} to {most}"
        raise TokenError(f"{spec.tokens.tokenizer} takes {expected} codebooks, got {count}")
    return count


def tokens_of_rows(
    codes: Sequence[Tensor],
    num_samples: Sequence[int],
    num_codebooks: int,
    spec: TokenizerSpec,
    device: torch.device,
) -> Tokens:
    """Create a batch of `Tokens` from the codes of each row.

    Args:
        codes: (codebooks, frames) int64 for each row.
        num_samples: for each row, the samples that its frames stand for.
        num_codebooks: of all rows.
        spec: the tokenizer's.
        device: the tokenizer's, on which the codes are.
    """
    lengths = [row.shape[1] for row in codes]
    if len(codes) == 1:
        stacked = codes[0][None]
    else:
        stacked = torch.zeros(
            len(codes), num_codebooks, max(lengths, default=0), dtype=torch.long, device=device
        )
        for index, (row, length) in enumerate(zip(codes, lengths, strict=True)):
            if length:
                stacked[index, :, :length] = row
    return Tokens(
        codes=stacked,
        lengths=torch.tensor(lengths, dtype=torch.long, device=device),
        num_samples=torch.tensor(num_samples, dtype=torch.long, device=device),
        spec=spec.tokens,
    )
