"""Waveforms into a tokenizer: from what users have to checked rows of samples at its own rate."""

import math
import operator
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..audio.resampling import resample, resampler_name
from ..errors import LevelWarning, WaveError
from .spec import TokenizerSpec

#: A waveform, or one for each row.
Wave = Tensor | np.ndarray | Sequence[Tensor | np.ndarray]

#: A peak beyond this is no loud recording: the samples were never divided by their full scale.
_FAR_BEYOND = 8.0


@dataclass(frozen=True)
class Rows:
    """Checked waveforms.

    Attributes:
        samples: (samples,) float32 of each row, at the tokenizer's rate and on its device.
        metadata: what was done to them, for each row; None if nothing was.
    """

    samples: list[Tensor]
    metadata: tuple[dict[str, Any], ...] | None = None


def rows_of(
    wave: Wave,
    sample_rate: int,
    lengths: Tensor | Sequence[int] | None,
    spec: TokenizerSpec,
    device: torch.device,
    resampled: bool = False,
) -> Rows:
    """Check waveforms for an offline call, and resample them if that was asked for.

    Args:
        wave, sample_rate, lengths: see `AudioTokenizer.encode`.
        spec: the tokenizer's.
        device: the tokenizer's, to which the rows are moved.
        resampled: whether another sample rate is converted instead of refused.

    Raises:
        WaveError: see `wave_rows`.

    Warns:
        LevelWarning: see `warn_of_levels`.
    """
    own = spec.sample_rate
    if not resampled or not _is_rate(sample_rate) or sample_rate == own:
        rows = wave_rows(wave, sample_rate, lengths, spec, device)
        warn_of_levels(rows)
        return Rows(rows)
    rows = given_rows(wave, lengths)
    warn_of_levels(rows)
    converted = [
        torch.from_numpy(resample(row.cpu().numpy(), sample_rate, own)).to(device) for row in rows
    ]
    done = {"source": {"sample_rate": float(sample_rate)}, "resampler": resampler_name()}
    if float(sample_rate).is_integer():
        done["source"] = {"sample_rate": int(sample_rate)}
    return Rows(converted, tuple(dict(done) for _ in rows))


def wave_rows(
    wave: Wave,
    sample_rate: int,
    lengths: Tensor | Sequence[int] | None,
    spec: TokenizerSpec,
    device: torch.device,
    batch_size: int | None = None,
) -> list[Tensor]:
    """Check waveforms at a tokenizer's own sample rate and return the valid samples of each.

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
    if not _is_rate(sample_rate):
        raise WaveError(
            f"sample_rate must be a number in Hz, got {sample_rate!r} "
            f"({type(sample_rate).__name__})"
        )
    if sample_rate != own:
        raise WaveError(
            f"{spec.tokens.tokenizer} works at {own} Hz, got {sample_rate} Hz; pass resample=True, "
            f"or resample first, with syllabary.audio.resample(wave, {sample_rate}, {own})"
        )
    rows = given_rows(wave, lengths, batch_size)
    return [row.to(device) for row in rows]


def given_rows(
    wave: Wave, lengths: Tensor | Sequence[int] | None, batch_size: int | None = None
) -> list[Tensor]:
    """Check waveforms of any sample rate and return the valid samples of each, where they are.

    Args:
        wave, lengths: see `AudioTokenizer.encode`.
        batch_size: the number of rows that are expected; default: any.

    Raises:
        WaveError: as for `wave_rows`.
    """
    return _rows(*_given(wave, lengths, batch_size))


def given_batch(
    wave: Wave,
    lengths: Tensor | Sequence[int] | None,
    batch_size: int,
    finite: bool = True,
) -> tuple[Tensor, list[int]]:
    """`given_rows` in one tensor (batch, samples) float32, and the valid samples of each row.

    Args:
        wave, lengths, batch_size: see `given_rows`.
        finite: whether to look for NaN and infinity. If not, samples beyond the valid ones, too,
            may be anything.

    Raises:
        WaveError: as for `wave_rows`.
    """
    if type(wave) is Tensor and wave.dtype is torch.float32 and wave.ndim == 2 and lengths is None:
        rows, samples = wave.shape
        # As below, in fewer steps, since streams come here for every frame.
        if rows == batch_size and rows < 1000 and not (finite and not _sums_up(wave)):
            return wave, [samples] * rows
    whole, counts = _given(wave, lengths, batch_size)
    if isinstance(whole, Tensor):
        whole = _scaled(whole)
        if not finite or _sums_up(whole):  # with the padding, which is most often finite, too
            return whole, counts
    return nn.utils.rnn.pad_sequence(_rows(whole, counts), batch_first=True), counts


def _given(
    wave: Wave, lengths: Tensor | Sequence[int] | None, batch_size: int | None
) -> tuple[Tensor | list[Tensor], list[int]]:
    """Return waves of a dtype that is taken, and the valid samples of each, whose values may be
    anything.
    """
    whole: Tensor | list[Tensor]
    if isinstance(wave, list | tuple):
        whole = [_one_of_a_list(each, index) for index, each in enumerate(wave)]
        sizes = [len(row) for row in whole]
    else:
        whole = _batch(_tensor(wave))
        sizes = [whole.shape[1]] * whole.shape[0]
    if batch_size is not None and len(sizes) != batch_size:
        raise WaveError(f"this stream has {batch_size} rows, got {len(sizes)}")
    if lengths is None:
        return whole, sizes
    counts = _whole_numbers(lengths)
    if len(counts) != len(sizes):
        raise WaveError(f"{len(counts)} lengths for {len(sizes)} rows")
    if any(not 0 <= count <= size for count, size in zip(counts, sizes, strict=True)):
        raise WaveError(f"lengths must lie in 0..{max(sizes, default=0)}, got {counts}")
    return whole, counts


def _rows(whole: Tensor | list[Tensor], counts: Sequence[int]) -> list[Tensor]:
    """Return the valid samples of each row, float32.

    Raises:
        WaveError: NaN or infinity.
    """
    if isinstance(whole, Tensor):
        whole = _scaled(whole)
        if _sums_up(whole):
            nothing = whole.new_zeros(0)
            return [
                row[:count] if count else nothing
                for row, count in zip(whole.unbind(), counts, strict=True)
            ]
    rows = [_scaled(row[:count]) for row, count in zip(whole, counts, strict=True)]
    for index, row in enumerate(rows):
        if not _sums_up(row) and not bool(row.isfinite().all()):
            raise WaveError(f"row {index} of the wave holds NaN or infinity")
    return rows


def _sums_up(wave: Tensor) -> bool:
    """Whether the sum is finite: NaN and infinity survive it, at a twentieth of the cost of testing
    every sample.
    """
    return math.isfinite(float(wave.sum()))


def warn_of_levels(rows: Sequence[Tensor], depth: int = 5) -> bool:
    """Warn if a row has samples far beyond full scale; return whether one has.

    Args:
        rows: (samples,) of each row.
        depth: calls from here to the user's, which the warning names.

    Warns:
        LevelWarning: integers that were converted to floating point without a division are
            another, far louder, signal to a tokenizer.
    """
    for index, row in enumerate(rows):
        peak = max(map(abs, row.aminmax())) if row.numel() else 0.0
        if peak > _FAR_BEYOND:
            warnings.warn(
                f"row {index} of the wave peaks at {peak:.4g}, and full scale is 1: divide 16-bit "
                "samples by 32768, or pass them as int16",
                LevelWarning,
                stacklevel=depth,
            )
            return True
    return False


def _is_rate(sample_rate: object) -> bool:
    return not isinstance(sample_rate, bool) and isinstance(sample_rate, Real | Tensor)


def _tensor(wave: object) -> Tensor:
    """Return a wave as a tensor of a dtype that is taken."""
    if isinstance(wave, np.ndarray) and wave.dtype.kind in "fiu" and wave.dtype.itemsize <= 8:
        # A tensor can't share memory that is read-only, negatively strided or byte-swapped.
        native = wave.dtype.newbyteorder("=")
        wave = torch.from_numpy(np.require(wave, dtype=native, requirements=["C", "W"]))
    expected = "float32 or float64 in [-1, 1], or int16"
    if isinstance(wave, np.ndarray):
        raise WaveError(f"wave must be {expected}, got {wave.dtype}")
    if not isinstance(wave, Tensor):
        raise WaveError(f"wave must be a tensor or a NumPy array, got {type(wave).__name__}")
    if wave.dtype not in (torch.float32, torch.float64, torch.int16):
        integers = not (wave.dtype.is_floating_point or wave.dtype.is_complex)
        raise WaveError(
            f"wave must be {expected}, got {wave.dtype}"
            + ("; divide integers by their full scale" if integers else "")
        )
    return wave


def _scaled(row: Tensor) -> Tensor:
    """Return samples as float32; those of 16 bits by their value, exactly."""
    return row.float() / 32768 if row.dtype == torch.int16 else row.float()


def _batch(wave: Tensor) -> Tensor:
    """Return (batch, samples) of (samples,), (batch, samples) or (batch, 1, samples)."""
    if wave.ndim == 1:
        return wave[None]
    if wave.ndim == 3 and wave.shape[1] == 1:
        return wave[:, 0]
    if wave.ndim != 2:
        several = wave.ndim == 3 and 2 <= wave.shape[1] <= 8
        raise WaveError(
            "wave must have shape (batch, samples), (batch, 1, samples) or (samples,), got "
            f"{tuple(wave.shape)}"
            + (
                '; mix the channels or pick one, as syllabary.audio.read(path, channels="mix") does'
                if several
                else ""
            )
        )
    if wave.shape[0] >= 1000 and 1 <= wave.shape[1] <= 8:
        raise WaveError(
            f"a wave of shape {tuple(wave.shape)} looks like (samples, channels); expected "
            "(batch, samples): mix or pick a channel, as syllabary.audio.read(path, "
            'channels="mix") does, or transpose it'
        )
    return wave


def _one_of_a_list(wave: object, index: int) -> Tensor:
    """Return (samples,) of an item of a list: (samples,) or (1, samples)."""
    if not isinstance(wave, Tensor | np.ndarray):
        raise WaveError(
            "wave must be a tensor, a NumPy array or a list of these, got a list with "
            f"{type(wave).__name__} at {index}"
        )
    row = _tensor(wave)
    if row.ndim == 2 and row.shape[0] == 1:
        row = row[0]
    if row.ndim != 1:
        raise WaveError(
            f"a wave in a list must have shape (samples,), got {tuple(row.shape)} at {index}"
        )
    return row


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
