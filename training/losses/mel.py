"""Distance between log-mel spectrograms at several scales.

Kumar et al., *High-Fidelity Audio Compression with Improved RVQGAN*, 2023 (arXiv 2306.06546),
section 3.5: short windows with few mels resolve onsets, long ones with many mels resolve pitch.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ...audio.mel import mel_filterbank
from ...errors import TrainingError
from .lengths import mean_of_rows, prepare
from .spectra import Spectrum, magnitude
from .wave_loss import WaveLoss

# A filter overlaps only its two neighbours, so a dense product would multiply mostly zeros.
_CHANNELS_A_BLOCK = 40


@dataclass(frozen=True)
class MelLossConfig:
    """Scales of the loss; the defaults are DAC's.

    Args:
        sample_rate: Hz.
        window_lengths: samples of each scale's window; the hop is a quarter.
        num_mels: channels of each scale. A channel too narrow for any FFT bin, as some are above
            32 kHz, is left out.
        fmin, fmax: Hz; `fmax` None is half the sample rate.
        floor: mel amplitudes are raised to it before the logarithm, which therefore starts at −5.
    """

    sample_rate: int = 16000
    window_lengths: tuple[int, ...] = (32, 64, 128, 256, 512, 1024, 2048)
    num_mels: tuple[int, ...] = (5, 10, 20, 40, 80, 160, 320)
    fmin: float = 0.0
    fmax: float | None = None
    floor: float = 1e-5


class _BandedProduct(torch.autograd.Function):
    """The product of (rows, bins) and a banded matrix (bins, channels), block by block.

    For each block of channels, `blocks` has the first and last channel, and the first and last bin
    that any of them needs (both lasts exclusive).
    """

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, filters: Tensor, blocks: list[tuple[int, int, int, int]]
    ) -> Tensor:
        ctx.save_for_backward(filters)
        ctx.blocks = blocks
        out = values.new_empty(values.shape[0], filters.shape[1])
        for first, last, low, high in blocks:
            out[:, first:last] = values[:, low:high] @ filters[low:high, first:last]
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (filters,) = ctx.saved_tensors
        out = grads[0].new_zeros(grads[0].shape[0], filters.shape[0])
        for first, last, low, high in ctx.blocks:
            out[:, low:high] += grads[0][:, first:last] @ filters[low:high, first:last].T
        return out, None, None


class _Scale(nn.Module):
    """log10 of mel amplitudes at one window length."""

    filters: Tensor

    def __init__(self, config: MelLossConfig, window_length: int, num_mels: int) -> None:
        super().__init__()
        self.floor = config.floor
        self.spectrum = Spectrum(window_length, window_length // 4)
        fmax = config.sample_rate / 2 if config.fmax is None else config.fmax
        # This filter bank is every fourth bin of a finer one, which has a bin in every channel
        # where this one may have none.
        fine = mel_filterbank(config.sample_rate, 4 * window_length, num_mels, config.fmin, fmax)
        filters = fine[:, ::4]
        filters = filters[filters.sum(1) > 0]
        self.blocks: list[tuple[int, int, int, int]] = []
        for first in range(0, len(filters), _CHANNELS_A_BLOCK):
            last = min(first + _CHANNELS_A_BLOCK, len(filters))
            bins = filters[first:last].any(0).nonzero()[0]
            self.blocks.append((first, last, int(bins[0]), int(bins[-1]) + 1))
        # float64 as long as no input says otherwise; it is a buffer, not a weight.
        self.register_buffer("filters", torch.from_numpy(filters).T.contiguous(), persistent=False)
        self._cast: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    def forward(self, wave: Tensor) -> Tensor:
        """(batch, samples) → (batch, frames, channels)."""
        sizes = magnitude(self.spectrum(wave))
        key = (wave.dtype, wave.device)
        if key not in self._cast:
            self._cast[key] = self.filters.to(wave)
        mels = _BandedProduct.apply(sizes.flatten(0, 1), self._cast[key], self.blocks)
        return mels.clamp(min=self.floor).log10().view(*sizes.shape[:2], -1)


class MultiScaleMelLoss(WaveLoss):
    """Sum over scales of the mean absolute difference between log10 mel amplitudes.

    Each scale is the mean over a row's frames and channels, then over rows, so the value is in
    decades of amplitude (a gain of 10 costs 1 per scale). The paper's weight of the sum is 15.
    Frames and filters are those of `audio.mel.MelSpectrogram`. It has no weights. Forward and
    backward of 8 × 1 s at 16 kHz take 45 ms on one core.

    Raises:
        TrainingError: scales without a number of mels each, a window that isn't a multiple of
            four, a floor that isn't positive, or an invalid frequency range.
    """

    def __init__(self, config: MelLossConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or MelLossConfig()
        if not config.window_lengths or len(config.window_lengths) != len(config.num_mels):
            raise TrainingError(
                f"expected as many window_lengths as num_mels, got {config.window_lengths} and "
                f"{config.num_mels}"
            )
        if any(length < 4 or length % 4 for length in config.window_lengths):
            raise TrainingError(f"expected windows of 4, 8, 12, …, got {config.window_lengths}")
        if not config.floor > 0 or math.isinf(config.floor):
            raise TrainingError(f"expected a positive floor, got {config.floor}")
        try:
            scales = [
                _Scale(config, length, mels)
                for length, mels in zip(config.window_lengths, config.num_mels, strict=True)
            ]
        except ValueError as error:
            raise TrainingError(f"mel loss: {error}") from error
        self.scales = nn.ModuleList(scales)

    def distances(
        self, prediction: Tensor, target: Tensor, lengths: Tensor | None = None
    ) -> Tensor:
        """Compute the distance at each scale, (scales,); arguments as for `forward`."""
        with torch.autocast(prediction.device.type, enabled=False):
            return self._distances(*prepare(prediction, target, lengths))

    def compare(self, fake: Tensor, real: Tensor, valid: Tensor) -> Tensor:
        return self._distances(fake, real, valid).sum()

    def _distances(self, fake: Tensor, real: Tensor, valid: Tensor) -> Tensor:
        each = []
        for scale in self.scales:
            assert isinstance(scale, _Scale)
            with torch.no_grad():
                reference = scale(real)
            counts = scale.spectrum.frames_of(valid)
            each.append(mean_of_rows((scale(fake) - reference).abs(), counts))
        return torch.stack(each)
