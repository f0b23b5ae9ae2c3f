"""Disturbance of perceived loudness, by the perceptual model of PESQ.

PESQ (ITU-T P.862.2) transforms power spectra to loudness on a Bark scale and sums their
differences, where additions weigh more than omissions. This loss is that model without its time
alignment and its equalisation of filters, which a decoder's output doesn't need (Martín-Doñas et
al., "A Deep Learning Loss Function Based on the Perceptual Evaluation of the Speech Quality", IEEE
Signal Processing Letters 25(11), 2018). Bands and the threshold of hearing are given by formulas:
Traunmüller's asinh approximation of the Bark scale as in PEAQ (ITU-R BS.1387), and Terhardt's
threshold (1979).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import TrainingError
from .lengths import mean_of_rows
from .spectra import Spectrum
from .wave_loss import WaveLoss

# P.862: the power to which speech is scaled, and the scale factors of power and of loudness.
_ALIGNED_POWER = 1e7
_POWER_SCALE = 6.910853e-6
_LOUDNESS_SCALE = 1.866055e-1
_EXPONENT = 0.23
# Weights of the two disturbances in PESQ's score.
_SYMMETRIC, _ASYMMETRIC = 0.1, 0.0309


@dataclass(frozen=True)
class LoudnessLossConfig:
    """Resolution of the loss.

    Attributes:
        sample_rate: in Hz.
        window_length, hop_length: samples of a frame and between frames.
        bands: number of bands on the Bark scale.
    """

    sample_rate: int = 16_000
    window_length: int = 512
    hop_length: int = 256
    bands: int = 49


class LoudnessLoss(WaveLoss):
    """Mean over frames of both disturbances, with their weights in PESQ's score.

    Args:
        config: see `LoudnessLossConfig`.

    Raises:
        TrainingError: a configuration that is impossible.
    """

    bands: Tensor
    threshold: Tensor
    widths: Tensor
    gamma: Tensor
    aligned: Tensor

    def __init__(self, config: LoudnessLossConfig = LoudnessLossConfig()) -> None:
        super().__init__()
        self.config = config
        self.spectrum = Spectrum(config.window_length, config.hop_length)
        if config.bands < 1:
            raise TrainingError(f"loudness: expected 1 band or more, got {config.bands}")
        bins = torch.arange(config.window_length // 2 + 1, dtype=torch.float64)
        hertz = bins * (config.sample_rate / config.window_length)
        bark = 7 * torch.asinh(hertz / 650)
        edges = torch.linspace(0, float(bark[-1]), config.bands + 1, dtype=torch.float64)
        # Each bin's power is distributed to the bands that it overlaps: low bands are narrower than
        # a bin.
        below = torch.cat([bark[:1], (bark[1:] + bark[:-1]) / 2])
        above = torch.cat([(bark[1:] + bark[:-1]) / 2, bark[-1:]])
        overlap = torch.minimum(above[:, None], edges[1:]) - torch.maximum(
            below[:, None], edges[:-1]
        )
        shares = overlap.clamp_min(0) / (above - below)[:, None]
        centres = 650 * torch.sinh((edges[1:] + edges[:-1]) / 14) / 1000
        decibels = (
            3.64 * centres**-0.8 - 6.5 * torch.exp(-0.6 * (centres - 3.3) ** 2) + 1e-3 * centres**4
        )
        # Zwicker's exponent is steeper below 4 Bark.
        low = (6 / ((edges[1:] + edges[:-1]) / 2 + 2)).clamp_min(1) ** 0.15
        self._keep("bands", shares)
        self._keep("threshold", 10 ** (decibels.clamp(max=60) / 10))
        self._keep("widths", edges[1:] - edges[:-1])
        self._keep("gamma", _EXPONENT * low)
        self._keep("aligned", ((hertz >= 350) & (hertz <= 3250)).double())

    def _keep(self, name: str, value: Tensor) -> None:
        self.register_buffer(name, value.float(), persistent=False)

    def compare(self, fake: Tensor, real: Tensor, valid: Tensor) -> Tensor:
        """Compute the loss; levels have no influence."""
        counts = self.spectrum.frames_of(valid)
        with torch.no_grad():
            wanted = self._bark(real, counts)
        got = self._bark(fake, counts)
        loud, predicted = self._loudness(wanted), self._loudness(got)
        # Differences that are small relative to the loudness are masked.
        masked = 0.25 * torch.minimum(loud, predicted)
        noticed = ((predicted - loud).abs() - masked).clamp_min(0)
        widths = self.widths.to(noticed)
        total = widths.sum()
        symmetric = ((noticed * widths).square().sum(-1) / widths.square().sum() + 1e-8).sqrt()
        with torch.no_grad():
            added = ((got + 50) / (wanted + 50)) ** 1.2
            added = torch.where(added < 3, 0.0, added.clamp_max(12))
            # Loud frames have slightly more weight than soft ones.
            audible = wanted.sum(-1)
            weights = ((audible + 1e5 * _POWER_SCALE) / (1e7 * _POWER_SCALE)) ** -0.04
        asymmetric = (noticed * added * widths).sum(-1) / total
        frames = _SYMMETRIC * symmetric * total + _ASYMMETRIC * asymmetric * total
        frames = (frames * weights).clamp_max(45.0)
        return mean_of_rows(frames[..., None], counts)

    def _bark(self, wave: Tensor, counts: Tensor) -> Tensor:
        """Power (batch, frames, bands) of speech at PESQ's standard level."""
        power = torch.view_as_real(self.spectrum(wave)).square().sum(-1)
        inside = torch.arange(power.shape[1], device=wave.device) < counts[:, None]
        # Each bin twice, for negative frequencies, relative to the window's power.
        scale = 2 / (float(self.spectrum.window.square().sum()) * self.config.window_length)
        level = (power @ self.aligned.to(power) * inside).sum(1) / counts.clamp_min(1) * scale
        gain = _ALIGNED_POWER / level.clamp_min(1e-9)
        # P.862 uses unnormalised spectra of Hann windows.
        spectra = power * (gain[:, None, None] * _POWER_SCALE)
        return spectra @ self.bands.to(power)

    def _loudness(self, power: Tensor) -> Tensor:
        """Loudness in sone per band, by Zwicker's law."""
        threshold, gamma = self.threshold.to(power), self.gamma.to(power)
        loud = (threshold / 0.5) ** gamma * ((0.5 + 0.5 * power / threshold) ** gamma - 1)
        return _LOUDNESS_SCALE * torch.where(power < threshold, 0.0, loud)
