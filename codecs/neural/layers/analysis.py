"""Fixed input features of an encoder: mel spectra, band energies, and an autocorrelation.

Since these features show pitch, formants and onsets directly, a network can be trained on two CPU
cores, where learning from raw samples takes days on a GPU. The autocorrelation is that of the
amplitude spectrum, which has flatter formants and so shows the pitch more clearly (Tolonen &
Karjalainen, "A Computationally Efficient Multipitch Analysis Model", IEEE Trans. Speech and Audio
Processing 8(6), 2000).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ....audio.mel import mel_filterbank

FLOOR = 1e-5  # lower limit of amplitudes before the logarithm


@dataclass(frozen=True)
class AnalysisConfig:
    """Configuration of `SpeechAnalysis`; windows in samples.

    Attributes:
        sample_rate: in Hz.
        hop: samples per frame.
        mel_window, num_mels: of the mel spectra; a frame has two, half a hop apart.
        band_window, num_bands: of the band energies; a frame has four, a quarter of a hop apart.
        pitch_window: of the autocorrelation.
        num_lags, pitch_min, pitch_max: lags of the autocorrelation, evenly spaced in log; in Hz.
    """

    sample_rate: int = 16000
    hop: int = 320
    mel_window: int = 640
    num_mels: int = 80
    band_window: int = 160
    num_bands: int = 10
    pitch_window: int = 1024
    num_lags: int = 96
    pitch_min: float = 60.0
    pitch_max: float = 470.0

    def __post_init__(self) -> None:
        if self.hop % 4:
            raise ValueError(f"hop must be a multiple of 4, got {self.hop}")
        if self.sample_rate / self.pitch_min + 1 >= self.pitch_window / 2:
            raise ValueError(
                f"a pitch of {self.pitch_min} Hz needs a longer pitch_window than "
                f"{self.pitch_window} samples"
            )

    @property
    def window(self) -> int:
        """Samples that a frame's features depend on; they end where the frame ends."""
        return max(
            self.pitch_window,
            self.mel_window + self.hop // 2,
            self.band_window + 3 * (self.hop // 4),
        )

    @property
    def pitch_features(self) -> int:
        """Number of features, from the first, that the pitch estimate uses."""
        return self.num_lags + 2 * self.num_mels

    @property
    def num_features(self) -> int:
        return self.pitch_features + 4 * self.num_bands


class AnalysedConfig:
    """A configuration of a network whose input is an analysis."""

    analysis: AnalysisConfig

    @property
    def sample_rate(self) -> int:
        return self.analysis.sample_rate

    @property
    def hop(self) -> int:
        return self.analysis.hop

    @property
    def window(self) -> int:
        """Samples that the encoder needs for each frame; they end where the frame ends."""
        return self.analysis.window


class SpeechAnalysis(nn.Module):
    """Compute features from windows of samples, each window on its own.

    Args:
        config: see `AnalysisConfig`.
    """

    # Scales that give all features a variance of about 1.
    LOG_SCALE, LOG_SHIFT, CORRELATION_SCALE = 0.7, 1.75, 4.0

    mel_filters: Tensor
    band_filters: Tensor
    lags: Tensor
    mel_window: Tensor
    band_window: Tensor
    pitch_window: Tensor

    def __init__(self, config: AnalysisConfig) -> None:
        super().__init__()
        self.config = config
        self.mel_fft, self.band_fft = _power_of_two(config.mel_window), 256
        rate, top = config.sample_rate, config.sample_rate / 2
        mel = mel_filterbank(rate, self.mel_fft, config.num_mels, 0.0, top)
        bands = mel_filterbank(rate, self.band_fft, config.num_bands, 0.0, top)
        self._keep("mel_filters", torch.from_numpy(mel).T)
        self._keep("band_filters", torch.from_numpy(bands).T)
        for name in ("mel_window", "band_window", "pitch_window"):
            length = getattr(config, name)
            self._keep(name, torch.hann_window(length, dtype=torch.float64))
        lags = torch.linspace(
            math.log(rate / config.pitch_max),
            math.log(rate / config.pitch_min),
            config.num_lags,
            dtype=torch.float64,
        ).exp()
        below = lags.long()
        columns = torch.arange(config.num_lags)
        interpolation = torch.zeros(config.pitch_window // 2, config.num_lags, dtype=torch.float64)
        interpolation[below, columns] = 1 - (lags - below)
        interpolation[below + 1, columns] = lags - below
        self._keep("lags", interpolation)

    def _keep(self, name: str, value: Tensor) -> None:
        self.register_buffer(name, value.contiguous().float(), persistent=False)

    def forward(self, windows: Tensor) -> Tensor:
        """Map windows (…, window) to features (…, num_features), in the same dtype.

        The first `pitch_features` are the autocorrelation and the two mel spectra.
        """
        config = self.config
        quarter = config.hop // 4
        mel = _last(windows, config.mel_window, 2, config.hop // 2) * self.mel_window
        mel = torch.fft.rfft(mel, self.mel_fft).abs() @ self.mel_filters
        bands = _last(windows, config.band_window, 4, quarter) * self.band_window
        bands = torch.fft.rfft(bands, self.band_fft).abs() @ self.band_filters
        spectrum = torch.fft.rfft(windows[..., -config.pitch_window :] * self.pitch_window)
        correlation = torch.fft.irfft(spectrum.abs().clamp_min(FLOOR), config.pitch_window)
        correlation = correlation[..., : config.pitch_window // 2] @ self.lags
        total = spectrum.abs().clamp_min(FLOOR).sum(-1, keepdim=True) * (2 / config.pitch_window)
        logs = [
            self.LOG_SCALE * torch.log10(part + FLOOR).flatten(-2) + self.LOG_SHIFT
            for part in (mel, bands)
        ]
        return torch.cat([self.CORRELATION_SCALE * correlation / total, *logs], -1)


def windows_of(wave: Tensor, window: int, hop: int, look_ahead: int = 0) -> Tensor:
    """Return all windows (batch, frames, window) of a wave; each ends with its frame.

    Args:
        wave: (batch, samples); padded with zeros on both sides.
        window, hop: in samples.
        look_ahead: frames of zeros after the last frame.
    """
    after = look_ahead * hop + -wave.shape[1] % hop
    return nn.functional.pad(wave, (window - hop, after)).unfold(1, window, hop)


def _last(windows: Tensor, length: int, count: int, hop: int) -> Tensor:
    """Return the last `count` pieces of `length` samples, `hop` apart: (…, count, length)."""
    return windows[..., -(length + (count - 1) * hop) :].unfold(-1, length, hop)


def _power_of_two(length: int) -> int:
    return 1 << (length - 1).bit_length()
