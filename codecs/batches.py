"""Batches in and out of a tokenizer: waveforms and tokens to checked rows, and rows to `Tokens`.

Offline calls, sessions and wrappers use the same functions, so that all of them check alike.
"""

import operator
from collections.abc import Sequence
from numbers import Integral, Real

import numpy as np
import torch
from torch import Tensor

from ..errors import LatentsError, TokenError, WaveError
from .latents import Latents, latent_channels, padded
from .spec import TokenizerSpec
from .tokens import Tokens, check_same_tokenizer


def wave_rows(
    wave: Tensor | np.ndarray,
    sample_rate: int,
    lengths: Tensor | Sequence[int] | None,
    spec: TokenizerSpec,
    device: torch.device,
    batch_size: int | None = None,
) -> list[Tensor]:
    """Check waveforms for a tokenizer and return the valid samples of each.

    Args:
        wave, sample_rate, lengths: see `AudioTokenizer.encode`.
        spec: the tokenizer's.
        device: the tokenizer's, to which the rows are moved.
        batch_size: the number of rows that are expected; default: any.

    Returns:
        (samples,) float32 for each row.

    Raises:
        WaveError: wrong sample rate, dtype, shape, length or number of rows; NaN or infinity.
    """
    own = spec.sample_rate
    if isinstance(sample_rate, bool) or not isinstance(sample_rate, Real | Tensor):
        raise WaveError(
            f"sample_rate must be a number in Hz, got {sample_rate!r} "
            f"({type(sample_rate).__name__})"
        )
    if sample_rate != own:
        raise WaveError(
            f"{spec.tokens.tokenizer} works at {own} Hz, got {sample_rate} Hz; resample first, for "
            f"example with syllabary.audio.resample(wave, {sample_rate}, {own})"
        )
    if isinstance(wave, np.ndarray) and wave.dtype.kind in "fiu" and wave.dtype.itemsize <= 8:
        # A tensor can't share memory that is read-only, negatively strided or byte-swapped.
        native = wave.dtype.newbyteorder("=")
        wave = torch.from_numpy(np.require(wave, dtype=native, requirements=["C", "W"]))
    if isinstance(wave, np.ndarray):
        raise WaveError(f"wave must be float32 or float64 in [-1, 1], got {wave.dtype}")
    if not isinstance(wave, Tensor):
        raise WaveError(f"wave must be a tensor or a NumPy array, got {type(wave).__name__}")
    if wave.dtype not in (torch.float32, torch.float64):
        raise WaveError(
            f"wave must be float32 or float64 in [-1, 1], got {wave.dtype}"
            + ("; divide 16-bit samples by 32768" if wave.dtype == torch.int16 else "")
        )
    if wave.ndim == 1:
        wave = wave[None]
    if wave.ndim != 2:
        raise WaveError(
            f"wave must have shape (batch, samples) or (samples,), got {tuple(wave.shape)}"
        )
    if wave.shape[0] >= 1000 and 1 <= wave.shape[1] <= 8:
        raise WaveError(
            f"a wave of shape {tuple(wave.shape)} looks like (samples, channels); expected "
            "(batch, samples): mix or pick a channel, or transpose it"
        )
    if batch_size is not None and wave.shape[0] != batch_size:
        raise WaveError(f"this stream has {batch_size} rows, got {wave.shape[0]}")
    if lengths is None:
        counts = [wave.shape[1]] * wave.shape[0]
    else:
        counts = _whole_numbers(lengths)
        if len(counts) != wave.shape[0]:
            raise WaveError(f"{len(counts)} lengths for {wave.shape[0]} rows")
        if any(not 0 <= count <= wave.shape[1] for count in counts):
            raise WaveError(f"lengths must lie in 0..{wave.shape[1]}, got {counts}")
    rows = [row[:count].float().to(device) for row, count in zip(wave, counts, strict=True)]
    for index, row in enumerate(rows):
        # NaN and infinity survive a sum, at a twentieth of the cost of testing every sample.
        if not bool(row.sum().isfinite()) and not bool(row.isfinite().all()):
            raise WaveError(f"row {index} of the wave holds NaN or infinity")
    return rows


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
    if not isinstance(tokens, Tokens):
        raise TokenError(f"expected Tokens or Latents, got {type(tokens).__name__}")
    check_same_tokenizer(tokens.spec, spec.tokens)
    tokens.check()
    check_codebooks(tokens.num_codebooks, spec)
    tokens = tokens.restore()
    counts = tokens.lengths.tolist()
    codes = tokens.codes.to(device)
    return [row[:, :count] for row, count in zip(codes, counts, strict=True)]


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
    if not spec.decodes_latents:
        name = spec.tokens.tokenizer
        why = "its decoder takes codes only" if spec.latent_channels else "it has none"
        raise LatentsError(f"{name} can't decode latents: {why}; decode the tokens of `encode`")
    latents.check_channels(spec)
    latents.check()
    vectors = latents.vectors.detach().to(device)
    return [row[:count] for row, count in zip(vectors, latents.lengths.tolist(), strict=True)]


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
        for index, row in enumerate(codes):
            stacked[index, :, : row.shape[1]] = row
    return Tokens(
        codes=stacked,
        lengths=torch.tensor(lengths, dtype=torch.long, device=device),
        num_samples=torch.tensor(num_samples, dtype=torch.long, device=device),
        spec=spec.tokens,
    )


def _whole_numbers(lengths: Tensor | Sequence[int]) -> list[int]:
    """Return the lengths as a list of integers.

    Raises:
        WaveError: they are not a sequence of whole numbers.
    """
    values = lengths.tolist() if isinstance(lengths, Tensor | np.ndarray) else lengths
    try:
        return [operator.index(value) for value in values]
    except TypeError:
        raise WaveError(f"lengths must be one whole number a row, got {lengths!r}") from None
