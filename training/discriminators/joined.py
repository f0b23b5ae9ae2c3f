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
    """The discriminator families of `config`, with a joint output.

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
        """Run all discriminators on waveforms (batch, samples); outputs are in the order of the
        families.

        Crops should not be padded to the batch's longest: the padding would be evaluated too.

        Raises:
            TrainingError: not a floating-point (batch, samples), or empty.
        """
        judgement = Judgement([], [])
        for family in self.families.values():
            judgement = judgement + family(wave)
        return judgement
