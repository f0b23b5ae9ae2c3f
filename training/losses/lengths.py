"""Input checks of the losses between waveforms, and silencing of the padding."""

import torch
from torch import Tensor

from ...errors import TrainingError


def silence_padding(wave: Tensor, lengths: Tensor | None) -> Tensor:
    """Return `wave` (batch, samples) with zeros, and zero gradient, from sample
    `lengths[row]` on.
    """
    if lengths is None:
        return wave
    inside = torch.arange(wave.shape[1], device=wave.device) < lengths[:, None]
    # Not a product: padding may contain NaN.
    return torch.where(inside, wave, torch.zeros((), dtype=wave.dtype, device=wave.device))


def prepare(
    prediction: Tensor, target: Tensor, lengths: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return both waveforms in full precision without padding, the target detached, and lengths.

    Args:
        prediction, target: (batch, samples), floating point of any width.
        lengths: (batch,) valid samples of each row; default all.

    Raises:
        TrainingError: shapes that differ or aren't (batch, samples), an integer dtype, or lengths
            outside [0, samples] or of another batch.
    """
    if prediction.ndim != 2 or prediction.shape != target.shape or not prediction.numel():
        raise TrainingError(
            "expected two waveforms of one shape (batch, samples), not empty, got "
            f"{tuple(prediction.shape)} and {tuple(target.shape)}"
        )
    if not (prediction.is_floating_point() and target.is_floating_point()):
        raise TrainingError(
            f"expected floating-point waveforms, got {prediction.dtype} and {target.dtype}"
        )
    batch, samples = prediction.shape
    if lengths is None:
        valid = torch.full((batch,), samples, device=prediction.device)
    else:
        valid = lengths.to(prediction.device)
        if valid.shape != (batch,) or valid.is_floating_point():
            raise TrainingError(f"expected {batch} integer lengths, got {lengths}")
        if bool(((valid < 0) | (valid > samples)).any()):
            raise TrainingError(f"expected lengths in [0, {samples}], got {lengths.tolist()}")
    # Fourier transforms and logarithms need more precision than bfloat16 has.
    double = torch.float64 in (prediction.dtype, target.dtype)
    dtype = torch.float64 if double else torch.float32
    cut = None if lengths is None else valid
    return (
        silence_padding(prediction.to(dtype), cut),
        silence_padding(target.detach().to(dtype), cut),
        valid,
    )


def mean_of_rows(distances: Tensor, counts: Tensor) -> Tensor:
    """Mean over each row's first `counts[row]` frames and all channels, then over the rows.

    Rows have equal weight whatever their length, so that the mean over equal batches on several
    ranks is the loss of the whole batch. A row without frames counts as 0.

    Args:
        distances: (batch, frames, channels).
        counts: (batch,).
    """
    inside = torch.arange(distances.shape[1], device=distances.device) < counts[:, None]
    rows = (distances.mean(-1) * inside).sum(1) / counts.clamp(min=1)
    return rows.mean()
