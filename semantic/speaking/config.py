"""Configuration of the trained unit vocoder. Loads no torch."""

from dataclasses import dataclass, field

from ...codecs.neural.layers.analysis import AnalysisConfig
from ...codecs.neural.layers.causal import StackConfig
from ...codecs.neural.layers.harmonic_head import HarmonicHeadConfig


@dataclass(frozen=True)
class SpeakingConfig:
    """Configuration of `SpeakingVocoder`.

    Attributes:
        latent_dim: channels of a unit's embedding, to which the voice is added.
        voice_dim: channels of a voice embedding.
        stack: layers at the unit rate.
        head: from their output to samples; its hop is the units'.
        look_ahead: future units that a unit's samples may depend on.
        hearing: input features of the voice encoder.
        hearing_width: hidden channels of the voice encoder.
        duration_width: channels of the duration predictor.
    """

    latent_dim: int = 128
    voice_dim: int = 32
    stack: StackConfig = field(default_factory=lambda: StackConfig(width=320, blocks=5))
    head: HarmonicHeadConfig = field(default_factory=HarmonicHeadConfig)
    look_ahead: int = 0
    hearing: AnalysisConfig = field(default_factory=AnalysisConfig)
    hearing_width: int = 128
    duration_width: int = 96

    def __post_init__(self) -> None:
        sizes = self.latent_dim, self.voice_dim, self.hearing_width, self.duration_width
        if min(sizes) < 1 or self.look_ahead < 0:
            raise ValueError(f"sizes must be positive and look_ahead not negative, got {self}")
        if self.hearing.sample_rate != self.head.sample_rate:
            raise ValueError(
                f"hearing at {self.hearing.sample_rate} Hz and a head at {self.head.sample_rate} Hz"
            )

    @property
    def hop(self) -> int:
        """Samples per unit."""
        return self.head.hop

    @property
    def delay(self) -> int:
        """Samples that the output lags behind the units."""
        return self.look_ahead * self.hop + self.head.delay
