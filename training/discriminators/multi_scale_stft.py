"""Multi-scale STFT discriminators of the complex spectrum.

Défossez et al., *High Fidelity Neural Audio Compression*, 2022 (arXiv 2210.13438), section 3.4:
real and imaginary parts are two channels of an image. Optionally the spectrum is divided into bands
with separate weights, as in DAC (Kumar et al., arXiv 2306.06546), section 3.4.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from ...errors import TrainingError
from ..losses.spectra import Spectrum
from .judgement import Judgement, check_wave

_SLOPE = 0.2

DAC_BANDS = ((0.0, 0.1), (0.1, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.0))
"""Bands of DAC's discriminators, as fractions of half the sample rate."""


@dataclass(frozen=True)
class MultiScaleSTFTConfig:
    """Size of the discriminators: 31,730 parameters by default, 472,490 with the paper's width.

    Forward and backward of 8 × 1 s at 16 kHz take 0.4 s on one core by default, 3 s with width 32.

    Args:
        window_lengths: samples of each scale's Hann window, which is also its FFT; the hop is a
            quarter. The paper has 2048, 1024, 512, 256 and 128 at 24 kHz.
        width: channels of each layer; the paper's is 32. Cost grows with its square.
        dilations: in time, one layer each; these halve the bins.
        bands: (low, high) fractions of half the sample rate, with weights of their own each; empty
            for one band of everything. See `DAC_BANDS`.
    """

    window_lengths: tuple[int, ...] = (2048, 1024, 512, 256, 128)
    width: int = 8
    dilations: tuple[int, ...] = (1, 2, 4)
    bands: tuple[tuple[float, float], ...] = ()


def _convolution(
    before: int,
    after: int,
    kernel: tuple[int, int],
    stride: tuple[int, int] = (1, 1),
    dilation: int = 1,
) -> nn.Module:
    padding = (dilation * (kernel[0] // 2), kernel[1] // 2)
    return weight_norm(nn.Conv2d(before, after, kernel, stride, padding, (dilation, 1)))


class STFTDiscriminator(nn.Module):
    """The discriminator of one scale."""

    def __init__(self, config: MultiScaleSTFTConfig, window_length: int) -> None:
        super().__init__()
        self.spectrum = Spectrum(window_length, window_length // 4, normalized=True)
        bins = window_length // 2 + 1
        # The last band includes the last bin, which a fraction below 1 would cut off.
        self.bands = [
            (int(low * bins), bins if high == 1 else int(high * bins))
            for low, high in config.bands or ((0.0, 1.0),)
        ]
        if any(low >= high for low, high in self.bands):
            raise TrainingError(
                f"a band of {config.bands} holds no bin of a window of {window_length} samples"
            )
        width = config.width
        stacks = []
        for _ in self.bands:
            layers = [_convolution(2, width, (3, 9))]
            layers += [
                _convolution(width, width, (3, 9), (1, 2), dilation)
                for dilation in config.dilations
            ]
            layers.append(_convolution(width, width, (3, 3)))
            stacks.append(nn.ModuleList(layers))
        self.stacks = nn.ModuleList(stacks)
        self.head = _convolution(width, 1, (3, 3))

    def forward(self, wave: Tensor) -> Judgement:
        # Fourier transforms need float32 at least; autocast does not affect them.
        wide = wave if wave.dtype == torch.float64 else wave.float()
        picture = torch.view_as_real(self.spectrum(wide)).permute(0, 3, 1, 2)
        picture = picture.to(next(self.parameters()).dtype)
        features, ends = [], []
        for (low, high), stack in zip(self.bands, self.stacks, strict=True):
            assert isinstance(stack, nn.ModuleList)
            hidden = picture[..., low:high]
            for layer in stack:
                hidden = nn.functional.leaky_relu(layer(hidden), _SLOPE)
                features.append(hidden)
            ends.append(hidden)
        return Judgement([self.head(torch.cat(ends, -1)).squeeze(1)], [features])


class MultiScaleSTFTDiscriminator(nn.Module):
    """One discriminator for each window length; weight-normalised, leaky ReLU of slope 0.2.

    Raises:
        TrainingError: no windows, one that isn't a multiple of four, bands outside [0, 1] or
            without bins, or a width or dilation that isn't positive.
    """

    def __init__(self, config: MultiScaleSTFTConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or MultiScaleSTFTConfig()
        windows = config.window_lengths
        if not windows or any(length < 4 or length % 4 for length in windows):
            raise TrainingError(f"expected windows of 4, 8, 12, …, got {windows}")
        if not config.dilations or min(config.width, *config.dilations) < 1:
            raise TrainingError(f"expected dilations and a width of at least 1, got {config}")
        if any(not 0 <= low < high <= 1 for low, high in config.bands):
            raise TrainingError(f"expected bands 0 <= low < high <= 1, got {config.bands}")
        self.discriminators = nn.ModuleList(STFTDiscriminator(config, length) for length in windows)

    def forward(self, wave: Tensor) -> Judgement:
        """Run on waveforms (batch, samples) of any length; spectra are computed in float32.

        Returns:
            For each window, logits (batch, frames, bins / 8) and features
            (batch, channels, frames, bins / 1, 2, 4, 8, 8), band after band.

        Raises:
            TrainingError: not a floating-point (batch, samples), or empty.
        """
        check_wave(wave)
        judgement = Judgement([], [])
        for discriminator in self.discriminators:
            judgement = judgement + discriminator(wave)
        return judgement
