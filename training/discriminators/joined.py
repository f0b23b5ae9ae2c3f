"""All discriminators of a recipe as one module."""

from dataclasses import dataclass, field

from torch import Tensor, nn

from ...errors import TrainingError
from .judgement import Judgement
from .multi_period import MultiPeriodConfig, MultiPeriodDiscriminator
from .multi_scale_stft import MultiScaleSTFTConfig, MultiScaleSTFTDiscriminator


@dataclass(frozen=True)
class DiscriminatorsConfig:
    """Which discriminators; None leaves a family out."""

    multi_period: MultiPeriodConfig | None = field(default_factory=MultiPeriodConfig)
    multi_scale_stft: MultiScaleSTFTConfig | None = field(default_factory=MultiScaleSTFTConfig)


class Discriminators(nn.Module):
    """The families of `config`, one judgement of all.

    Raises:
        TrainingError: no family.
    """

    def __init__(self, config: DiscriminatorsConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or DiscriminatorsConfig()
        self.families = nn.ModuleDict()
        if config.multi_period is not None:
            self.families["multi_period"] = MultiPeriodDiscriminator(config.multi_period)
        if config.multi_scale_stft is not None:
            self.families["multi_scale_stft"] = MultiScaleSTFTDiscriminator(config.multi_scale_stft)
        if not self.families:
            raise TrainingError("expected at least one family of discriminators")

    def forward(self, wave: Tensor) -> Judgement:
        """Judges waveforms (batch, samples); logits and features in the order of the families.

        Crops shorter than the batch's longest should not be padded for it: the padding is judged.

        Raises:
            TrainingError: not a floating-point (batch, samples), or empty.
        """
        judgement = Judgement([], [])
        for family in self.families.values():
            judgement = judgement + family(wave)
        return judgement
