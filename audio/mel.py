"""Mel spectrograms in torch, equal to librosa's.

The filterbank follows Slaney's Auditory Toolbox (1998) as librosa does: linear below 1 kHz,
logarithmic above, each triangle scaled to unit area over frequency.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn

_LINEAR_STEP = 200 / 3  # Hz per mel below the break
_BREAK_HZ = 1000.0
_BREAK_MEL = _BREAK_HZ / _LINEAR_STEP
_LOG_STEP = math.log(6.4) / 27


def hz_to_mel(hz: float) -> float:
    if hz < _BREAK_HZ:
        return hz / _LINEAR_STEP
    return _BREAK_MEL + math.log(hz / _BREAK_HZ) / _LOG_STEP


def mel_to_hz(mel: np.ndarray) -> np.ndarray:
    log_part = _BREAK_HZ * np.exp(_LOG_STEP * (np.maximum(mel, _BREAK_MEL) - _BREAK_MEL))
    return np.where(mel < _BREAK_MEL, mel * _LINEAR_STEP, log_part)


def mel_filterbank(
    sample_rate: int, n_fft: int, num_mels: int, fmin: float, fmax: float
) -> np.ndarray:
    """Return triangular filters (num_mels, n_fft // 2 + 1), float64.

    Raises:
        ValueError: not 0 <= fmin < fmax <= sample_rate / 2, or a filter covers no FFT bin.
    """
    if not 0 <= fmin < fmax <= sample_rate / 2:
        raise ValueError(f"expected 0 <= fmin < fmax <= {sample_rate / 2}, got {fmin}, {fmax}")
    corners = mel_to_hz(np.linspace(hz_to_mel(fmin), hz_to_mel(fmax), num_mels + 2))
    bins = np.arange(n_fft // 2 + 1) * (sample_rate / n_fft)
    rising = (bins - corners[:-2, None]) / np.diff(corners)[:-1, None]
    falling = (corners[2:, None] - bins) / np.diff(corners)[1:, None]
    filters = (
        np.maximum(0, np.minimum(rising, falling)) * (2 / (corners[2:] - corners[:-2]))[:, None]
    )
    empty = np.flatnonzero(filters.sum(1) == 0)
    if empty.size:
        raise ValueError(
            f"{num_mels} mel channels are too many for an FFT of {n_fft}: channel {empty[0]} holds "
            "no FFT bin"
        )
    return filters


class MelSpectrogram(nn.Module):
    """Compute amplitude mel spectrograms.

    Args:
        sample_rate: in Hz.
        n_fft: FFT size in samples; a shorter window is padded with zeros.
        window_length: of the periodic Hann window, in samples.
        hop_length: samples between frames; only used by `forward`.
        num_mels, fmin, fmax: number of channels, and their range in Hz.
        dtype: for the computation.
    """

    window: Tensor
    filters: Tensor

    def __init__(
        self,
        sample_rate: int = 16000,
        n_fft: int = 1024,
        window_length: int = 800,
        hop_length: int = 400,
        num_mels: int = 80,
        fmin: float = 80.0,
        fmax: float = 7600.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        if window_length > n_fft:
            raise ValueError(f"window_length {window_length} exceeds n_fft {n_fft}")
        self.n_fft, self.hop_length = n_fft, hop_length
        filters = mel_filterbank(sample_rate, n_fft, num_mels, fmin, fmax)
        window = torch.hann_window(window_length, dtype=torch.float64)
        # Not weights: both follow from the arguments.
        self.register_buffer("window", window.to(dtype), persistent=False)
        self.register_buffer("filters", torch.from_numpy(filters).T.to(dtype), persistent=False)

    def frames(self, frames: Tensor) -> Tensor:
        """Compute mel amplitudes (…, num_mels) of frames of samples (…, window_length)."""
        spectrum = torch.fft.rfft(frames * self.window, n=self.n_fft)
        # Four times as fast as abs(), which also handles overflow. The clamp, far below any floor,
        # keeps the gradient finite in silence.
        squares = torch.view_as_real(spectrum).flatten(-2) ** 2
        power = squares[..., ::2] + squares[..., 1::2]
        return power.clamp_(min=1e-30).sqrt() @ self.filters

    def forward(self, wave: Tensor) -> Tensor:
        """Compute mel amplitudes of a waveform, framed like librosa's ``center=True``.

        Args:
            wave: (…, samples).

        Returns:
            (…, num_mels, 1 + samples // hop_length); frame n is centred on sample n × hop_length,
            and samples outside the waveform are zeros.
        """
        length = self.window.shape[0]
        # librosa centres the zero-padded window in the FFT frame, at an even position.
        before = self.n_fft // 2 - (self.n_fft - length) // 2
        padded = nn.functional.pad(wave.to(self.window.dtype), (before, length - before))
        count = 1 + wave.shape[-1] // self.hop_length
        return self.frames(padded.unfold(-1, length, self.hop_length)[..., :count, :]).mT


def log_mel(mel: Tensor, floor: float = 1e-10) -> Tensor:
    """Return log10 of mel amplitudes, clamped from below to `floor`."""
    return mel.clamp(min=floor).log10()
