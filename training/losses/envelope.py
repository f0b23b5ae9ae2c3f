"""One minus the correlation of band envelopes over segments of a third of a second.

This is the measure of STOI (Taal et al., "An Algorithm for Intelligibility Prediction of
Time-Frequency Weighted Noisy Speech", IEEE TASLP 2011), without its clipping and its removal of
pauses, as a loss (Fu et al., "End-to-End Waveform Utterance Enhancement for Direct Evaluation
Metrics Optimization by Fully Convolutional Neural Networks", 2018). At low bitrates it favours the
information that a listener needs to understand the words: how the level of each band changes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import TrainingError
from .lengths import mean_of_rows
from .spectra import Spectrum
from .wave_loss import WaveLoss

# Relative to full scale, per bin: a band below it counts as silent, with a small correlation.
_FLOOR = 1e-5


@dataclass(frozen=True)
class EnvelopeLossConfig:
    """Frames and bands of the envelopes, as in STOI.

    Attributes:
        sample_rate: in Hz.
        window_length, hop_length: samples of a frame and between frames.
        bands: number of third-octave bands.
        lowest: centre of the lowest, in Hz.
        frames: length of a segment; shorter audio has no loss.
    """

    sample_rate: int = 16_000
    window_length: int = 410
    hop_length: int = 205
    bands: int = 15
    lowest: float = 150.0
    frames: int = 30


class EnvelopeLoss(WaveLoss):
    """Mean over bands and segments of 1 - correlation.

    Args:
        config: see `EnvelopeLossConfig`.

    Raises:
        TrainingError: a configuration that is impossible.
    """

    bands: Tensor

    def __init__(self, config: EnvelopeLossConfig = EnvelopeLossConfig()) -> None:
        super().__init__()
        self.config = config
        if min(config.window_length, config.bands, config.frames) < 1 or config.lowest <= 0:
            raise TrainingError(
                f"envelope: expected window_length, bands, frames and lowest above 0, got {config}"
            )
        n_fft = max(2, 1 << (config.window_length - 1).bit_length())
        self.spectrum = Spectrum(config.window_length, config.hop_length, n_fft)
        bins = torch.arange(n_fft // 2 + 1) * (config.sample_rate / n_fft)
        centres = config.lowest * 2 ** (torch.arange(config.bands) / 3)
        below, above = centres * 2 ** (-1 / 6), centres * 2 ** (1 / 6)
        inside = (bins[:, None] >= below) & (bins[:, None] < above)
        if not bool(inside.any(0).all()):
            raise TrainingError(
                "envelope: a band has no bin, as the bands are too many, too low or too narrow for "
                f"the window: {config}"
            )
        self.register_buffer("bands", inside.float(), persistent=False)

    def compare(self, fake: Tensor, real: Tensor, valid: Tensor) -> Tensor:
        """Compute the loss, from 0 to 2."""
        counts = self.spectrum.frames_of(valid) - self.config.frames + 1
        if int(counts.max()) < 1:
            return fake.sum() * 0
        with torch.no_grad():
            wanted = self._stretches(real)
        got = self._stretches(fake)
        floor = self.config.frames * (self.config.window_length * _FLOOR) ** 2
        size = ((wanted.square().sum(-1) + floor) * (got.square().sum(-1) + floor)).sqrt()
        return mean_of_rows(1 - (wanted * got).sum(-1) / size, counts.clamp(min=0))

    def _stretches(self, wave: Tensor) -> Tensor:
        """Band envelopes (batch, segments, bands, frames) without their mean."""
        parts = torch.view_as_real(self.spectrum(wave))
        power = parts.square().sum(-1) @ self.bands.to(wave.dtype)
        envelopes = (power + (self.config.window_length * _FLOOR) ** 2).sqrt()
        stretches = envelopes.unfold(1, self.config.frames, 1)
        return stretches - stretches.mean(-1, keepdim=True)
