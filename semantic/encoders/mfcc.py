"""MFCC with deltas: the features that are clustered in HuBERT's first iteration.

- Davis and Mermelstein, "Comparison of parametric representations for monosyllabic word
  recognition in continuously spoken sentences", 1980 (mel-frequency cepstral coefficients).
- Furui, "Speaker-independent isolated word recognition using dynamic features of speech spectrum",
  1986 (deltas).
- Hsu et al., "HuBERT", arXiv 2106.07447: 39 dimensions, 13 coefficients with first and second
  derivatives, from analysis frames every 10 ms; targets at 20 ms.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...audio.mel import MelSpectrogram, log_mel
from ...codecs.dmel.analysis import analyse
from .frame_windows import FrameWindows
from .interface import FeatureStream, SpeechEncoder

#: Frames per call of the analysis, each with several Fourier transforms.
TILE = 32


@dataclass(frozen=True)
class MFCCConfig:
    """Configuration of `MFCC`.

    Attributes:
        sample_rate: in Hz.
        hop: samples per frame.
        analysis_hop, window_length, n_fft: of the short-time Fourier transform, in samples.
        num_mels, fmin, fmax: number of channels, and their range in Hz.
        num_coefficients: number of cepstral coefficients, including the zeroth.
        lifter: of the coefficients, as in HTK and Kaldi; 0: none.
        delta_reach: analysis frames on each side that a derivative is fitted to.
        floor: lower limit of log10 mel amplitudes.
    """

    sample_rate: int = 16000
    hop: int = 320
    analysis_hop: int = 160
    window_length: int = 400
    n_fft: int = 512
    num_mels: int = 40
    fmin: float = 20.0
    fmax: float = 8000.0
    num_coefficients: int = 13
    lifter: int = 22
    delta_reach: int = 2
    floor: float = -5.0

    def __post_init__(self) -> None:
        if not 1 <= self.num_coefficients <= self.num_mels or self.delta_reach < 1:
            raise ValueError(
                "expected 1 <= num_coefficients <= num_mels and delta_reach >= 1, got "
                f"{self.num_coefficients}, {self.num_mels} and {self.delta_reach}"
            )
        if (self.window_length - self.hop) % 2 or self.window < self.hop:
            raise ValueError(
                f"hop {self.hop} and window_length {self.window_length} must differ by an even "
                "number, and the window must cover the hop"
            )

    @property
    def points(self) -> int:
        """Number of analysis frames that a frame's derivatives depend on."""
        return 4 * self.delta_reach + 1

    @property
    def window(self) -> int:
        """Samples that a frame depends on."""
        return self.window_length + (self.points - 1) * self.analysis_hop


class MFCC(SpeechEncoder):
    """Mel-frequency cepstral coefficients with first and second derivatives.

    HuBERT computes them every 10 ms and keeps every second one for its 50 Hz targets. Here, too,
    frames are strided, not averaged: the analysis frame in the middle of each hop of 20 ms is kept,
    and its derivatives are fitted to neighbours 10 ms apart. Sums are float64 in a fixed order.
    There is no pre-emphasis: it adds a constant to every frame, which changes no distance.

    Args:
        config: see `MFCCConfig`.
    """

    kind = "mfcc"
    Config = MFCCConfig
    source = "arXiv 2106.07447 (HuBERT, first iteration)"
    description = "MFCC with derivatives"

    cosines: Tensor
    slopes: Tensor
    curves: Tensor

    def __init__(self, config: MFCCConfig | None = None) -> None:
        config = config or MFCCConfig()
        super().__init__(config)
        self.sample_rate, self.hop = config.sample_rate, config.hop
        self.dims = (3 * config.num_coefficients,)
        self.mel = MelSpectrogram(
            config.sample_rate,
            config.n_fft,
            config.window_length,
            config.analysis_hop,
            config.num_mels,
            config.fmin,
            config.fmax,
            dtype=torch.float64,
        )
        self.before = (config.window - config.hop) // 2
        self.latency = config.hop + self.before
        fft = 1.25 * config.n_fft * math.log2(config.n_fft)
        filters = (config.n_fft // 2 + 1) * config.num_mels
        cepstrum = config.num_mels * config.num_coefficients
        frames = config.sample_rate / config.hop * config.points
        self.macs_per_second = round(frames * (fft + config.window_length + filters + cepstrum))
        slopes = _slopes(config.delta_reach)
        for name, value in (
            ("cosines", _cosines(config)),
            ("slopes", slopes),
            ("curves", np.convolve(slopes, slopes)),
        ):
            self.register_buffer(name, torch.from_numpy(value), persistent=False)

    def start(self, batch_size: int) -> FeatureStream:
        return FrameWindows(
            self._tile,
            batch_size=batch_size,
            hop=self.hop,
            window=self.config.window,
            before=self.before,
            tile=TILE,
            num_codebooks=self.dim,
            device=self.device,
        )

    def _tile(self, windows: Tensor) -> Tensor:
        """Map windows (tile, window) float32 to features (tile, 3 × coefficients) float32."""
        config = self.config
        frames = windows.unfold(1, config.window_length, config.analysis_hop).flatten(0, 1)
        log = log_mel(analyse(self.mel, frames), 10.0**config.floor)
        cepstra = log.new_zeros(config.num_coefficients, log.shape[1])
        for channel in range(config.num_mels):  # a product in a fixed order, for any thread count
            cepstra += self.cosines[:, channel, None] * log[channel]
        cepstra = cepstra.unflatten(1, (-1, config.points))
        middle, reach = config.points // 2, config.delta_reach
        near = cepstra[..., middle - reach : middle + reach + 1]
        parts = [cepstra[..., middle], _weighed(near, self.slopes), _weighed(cepstra, self.curves)]
        return torch.cat(parts).T.float()


def _weighed(values: Tensor, weights: Tensor) -> Tensor:
    total = torch.zeros_like(values[..., 0])
    for index in range(len(weights)):
        total += values[..., index] * weights[index]
    return total


def _cosines(config: MFCCConfig) -> np.ndarray:
    """Return the orthonormal, liftered DCT-II of log power: (coefficients, channels)."""
    order = np.arange(config.num_coefficients)[:, None]
    place = (np.arange(config.num_mels) + 0.5) * np.pi / config.num_mels
    matrix = np.cos(order * place) * np.sqrt(2 / config.num_mels)
    matrix[0] /= np.sqrt(2)
    if config.lifter:
        matrix *= 1 + config.lifter / 2 * np.sin(np.pi * order / config.lifter)
    return matrix * (2 * np.log(10))  # from log10 of amplitudes


def _slopes(reach: int) -> np.ndarray:
    """Return weights of the least-squares slope through 2 × reach + 1 points."""
    at = np.arange(-reach, reach + 1, dtype=np.float64)
    return at / (at**2).sum()
