"""Distance between power-compressed magnitude spectra.

Magnitudes to the power 0.3 are about proportional to loudness, so that the loud, audible parts have
more weight than in a logarithm, where all parts weigh the same (Wilson et al., "Exploring Tradeoffs
in Models for Low-latency Speech Enhancement", 2018; Braun & Tashev, arXiv 2009.12286).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...errors import TrainingError
from .lengths import mean_of_rows
from .spectra import Spectrum, magnitude
from .wave_loss import WaveLoss

_SPEECH = 50.0


@dataclass(frozen=True)
class CompressedLossConfig:
    """Resolutions of the loss.

    Attributes:
        window_lengths: samples of each resolution's window; the hop is a quarter.
        power: exponent of the magnitudes.
        floor: lower bound of the magnitudes, relative to a full-scale sine's.
    """

    window_lengths: tuple[int, ...] = (512, 1024)
    power: float = 0.3
    floor: float = 1e-5


class CompressedSpectralLoss(WaveLoss):
    """Mean squared difference of power-compressed magnitudes, mean over resolutions.

    Args:
        config: see `CompressedLossConfig`.

    Raises:
        TrainingError: a configuration that is impossible.
    """

    def __init__(self, config: CompressedLossConfig = CompressedLossConfig()) -> None:
        super().__init__()
        self.config = config
        if not config.window_lengths or not (config.power > 0 and config.floor >= 0):
            raise TrainingError(
                "compressed: expected windows, a power above 0, and a floor of at least 0, got "
                f"{config}"
            )
        self.spectra = nn.ModuleList(
            Spectrum(length, length // 4) for length in config.window_lengths
        )

    def compare(self, fake: Tensor, real: Tensor, valid: Tensor) -> Tensor:
        parts = []
        for spectrum in self.spectra:
            assert isinstance(spectrum, Spectrum)
            with torch.no_grad():
                wanted = self._compressed(spectrum, real)
            error = (self._compressed(spectrum, fake) - wanted).square()
            parts.append(mean_of_rows(error, spectrum.frames_of(valid)))
        return torch.stack(parts).mean()

    def _compressed(self, spectrum: Spectrum, wave: Tensor) -> Tensor:
        # A sine of amplitude 1 has a peak of a quarter of the window's length. Speech is far below;
        # the constant scales its compressed magnitudes to about 1.
        scale = 4 / spectrum.window_length * _SPEECH
        size = magnitude(spectrum(wave)) * scale
        return size.clamp(min=self.config.floor * _SPEECH) ** self.config.power
