"""Level and flatness of patches of a spectrogram.

Losses that compare spectra point by point are minimal for an average of the possible outputs: too
soft where the decoder is uncertain, and neither clearly harmonic nor clearly noisy. This loss
compares statistics of patches, which an uncertain decoder can match: their mean power, and the
difference of the mean logarithm from it (spectral flatness: Gray & Markel, IEEE Trans. ASSP 22(3),
1974). Matching statistics instead of points is due to Gatys et al., arXiv 1505.07376.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ...errors import TrainingError
from .lengths import mean_of_rows
from .spectra import Spectrum
from .wave_loss import WaveLoss


@dataclass(frozen=True)
class TextureLossConfig:
    """Patches of the loss.

    Attributes:
        window_length: samples; long enough to resolve the harmonics of a low voice.
        hop_length: samples between frames.
        frames, bins: size of a patch; patches overlap by half.
        flatness_weight: weight of the difference in flatness relative to that in level.
        floor: fraction of a row's mean power that is added to every point, so that patches far
            below have no influence.
    """

    window_length: int = 1024
    hop_length: int = 256
    frames: int = 4
    bins: int = 16
    flatness_weight: float = 1.0
    floor: float = 1e-3


class TextureLoss(WaveLoss):
    """Mean absolute difference of log mean power, and of log flatness, over patches; in nepers.

    Args:
        config: see `TextureLossConfig`.

    Raises:
        TrainingError: a configuration that is impossible.
    """

    def __init__(self, config: TextureLossConfig = TextureLossConfig()) -> None:
        super().__init__()
        self.config = config
        self.spectrum = Spectrum(config.window_length, config.hop_length)
        bins = config.window_length // 2 + 1
        if config.frames < 1 or not 1 <= config.bins <= bins or config.floor < 0:
            raise TrainingError(
                f"texture: expected frames of 1 or more, 1 to {bins} bins, and a floor of 0 or "
                f"more, got {config}"
            )

    def compare(self, fake: Tensor, real: Tensor, valid: Tensor) -> Tensor:
        config = self.config
        counts = self.spectrum.frames_of(valid)
        patches = ((counts - config.frames) // max(1, config.frames // 2) + 1).clamp(min=0)
        if int(patches.max()) < 1:
            return fake.sum() * 0
        with torch.no_grad():
            power = self._power(real)
            inside = torch.arange(power.shape[1], device=power.device) < counts[:, None]
            total = (power.mean(-1) * inside).sum(1) / counts.clamp(min=1)
            floor = (config.floor * total + 1e-10)[:, None, None]
            level, flatness = self._statistics(power + floor)
        fake_level, fake_flatness = self._statistics(self._power(fake) + floor)
        apart = (fake_level - level).abs()
        apart = apart + config.flatness_weight * (fake_flatness - flatness).abs()
        # The logarithm of an amplitude is half that of its power.
        return 0.5 * mean_of_rows(apart, patches)

    def _power(self, wave: Tensor) -> Tensor:
        """Power spectrogram (batch, frames, bins)."""
        return torch.view_as_real(self.spectrum(wave)).square().sum(-1)

    def _statistics(self, power: Tensor) -> tuple[Tensor, Tensor]:
        """Log mean power and log flatness (batch, patches in time, patches in frequency)."""
        config = self.config
        size = (config.frames, config.bins)
        step = (max(1, config.frames // 2), max(1, config.bins // 2))
        means = functional.avg_pool2d(power[:, None], size, step)[:, 0].log()
        logs = functional.avg_pool2d(power.log()[:, None], size, step)[:, 0]
        return means, logs - means
