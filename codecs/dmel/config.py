"""Configuration of the dMel tokenizer."""

from dataclasses import dataclass

from .neural_vocoder import NeuralVocoderConfig


@dataclass(frozen=True)
class DMelConfig:
    """Configuration of `DMel`; the defaults are the paper's.

    Attributes:
        sample_rate: in Hz.
        n_fft, window_length, hop_length: of the short-time Fourier transform, in samples.
        num_mels, fmin, fmax: number of channels, and their range in Hz.
        num_levels: codes per channel.
        minimum, maximum: range of the levels, in log10 of the mel amplitude.
        levels: `uniform`, or `fitted` if `DMel.fit` set them.
        vocoder: a trained vocoder; None selects phase retrieval, which needs no training. The
            tokens do not depend on it.
    """

    sample_rate: int = 16000
    n_fft: int = 1024
    window_length: int = 800
    hop_length: int = 400
    num_mels: int = 80
    fmin: float = 80.0
    fmax: float = 7600.0
    num_levels: int = 16
    minimum: float = -7.0
    maximum: float = 2.0
    levels: str = "uniform"
    vocoder: NeuralVocoderConfig | None = None

    def __post_init__(self) -> None:
        if self.levels not in ("uniform", "fitted"):
            raise ValueError(f"levels must be uniform or fitted, got {self.levels!r}")
        if (
            not 0 < self.hop_length <= self.window_length
            or (self.window_length - self.hop_length) % 2
        ):
            raise ValueError(
                "hop_length must lie in 1..window_length and differ from it by an even number, got "
                f"{self.hop_length} and {self.window_length}"
            )
        if self.vocoder and (self.vocoder.hop, self.vocoder.num_mels) != (
            self.hop_length,
            self.num_mels,
        ):
            raise ValueError(
                f"the vocoder has hop {self.vocoder.hop} and {self.vocoder.num_mels} channels, the "
                f"tokens {self.hop_length} and {self.num_mels}"
            )
