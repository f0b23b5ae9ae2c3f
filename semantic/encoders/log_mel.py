"""Log-mel features without training, which the training-free unit vocoder can synthesize from."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...audio.mel import MelSpectrogram, log_mel
from ...codecs.dmel.analysis import analyse
from .frame_windows import FrameWindows
from .interface import FeatureStream, SpeechEncoder

#: Frames per call of the analysis.
TILE = 64


@dataclass(frozen=True)
class LogMelConfig:
    """Configuration of `LogMel`; by default dMel's analysis at 50 frames per second.

    Attributes:
        sample_rate: in Hz.
        hop: samples per frame.
        window_length, n_fft: of the short-time Fourier transform, in samples.
        num_mels, fmin, fmax: number of channels, and their range in Hz.
        floor: lower limit of log10 amplitudes.
    """

    sample_rate: int = 16000
    hop: int = 320
    window_length: int = 800
    n_fft: int = 1024
    num_mels: int = 80
    fmin: float = 80.0
    fmax: float = 7600.0
    floor: float = -5.0

    def __post_init__(self) -> None:
        if not 0 < self.hop <= self.window_length or (self.window_length - self.hop) % 2:
            raise ValueError(
                "hop must lie in 1..window_length and differ from it by an even number, got "
                f"{self.hop} and {self.window_length}"
            )


class LogMel(SpeechEncoder):
    """log10 mel amplitudes, one frame per hop, each window centred on its hop.

    The analysis runs in float64 on tiles of one shape, so that batch, threads and chunks change no
    value; samples before the start and after the end are zeros.

    Args:
        config: see `LogMelConfig`.
    """

    kind = "log-mel"
    Config = LogMelConfig
    source = "Davis and Mermelstein 1980 (mel scale filterbanks)"
    description = "log-mel spectrogram"

    def __init__(self, config: LogMelConfig | None = None) -> None:
        config = config or LogMelConfig()
        super().__init__(config)
        self.sample_rate, self.hop = config.sample_rate, config.hop
        self.dims = (config.num_mels,)
        self.mel = MelSpectrogram(
            config.sample_rate,
            config.n_fft,
            config.window_length,
            config.hop,
            config.num_mels,
            config.fmin,
            config.fmax,
            dtype=torch.float64,
        )
        self.before = (config.window_length - config.hop) // 2
        self.latency = config.hop + self.before
        # A real FFT counts as 2.5 n log2 n operations, half of them multiply-accumulates.
        fft = 1.25 * config.n_fft * np.log2(config.n_fft)
        filters = (config.n_fft // 2 + 1) * config.num_mels
        frames = config.sample_rate / config.hop
        self.macs_per_second = round(frames * (fft + config.window_length + filters))

    def start(self, batch_size: int) -> FeatureStream:
        floor = 10.0**self.config.floor

        def encode_tile(windows: Tensor) -> Tensor:
            return log_mel(analyse(self.mel, windows), floor).T.float()

        return FrameWindows(
            encode_tile,
            batch_size=batch_size,
            hop=self.hop,
            window=self.config.window_length,
            before=self.before,
            tile=TILE,
            num_codebooks=self.dim,
            device=self.device,
        )
