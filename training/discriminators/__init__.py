"""Discriminators: networks that distinguish generated from real speech, one family per file."""

from .joined import Discriminators, DiscriminatorsConfig
from .judgement import Judgement
from .multi_period import MultiPeriodConfig, MultiPeriodDiscriminator
from .multi_scale_stft import DAC_BANDS, MultiScaleSTFTConfig, MultiScaleSTFTDiscriminator

__all__ = [
    "DAC_BANDS",
    "Discriminators",
    "DiscriminatorsConfig",
    "Judgement",
    "MultiPeriodConfig",
    "MultiPeriodDiscriminator",
    "MultiScaleSTFTConfig",
    "MultiScaleSTFTDiscriminator",
]
