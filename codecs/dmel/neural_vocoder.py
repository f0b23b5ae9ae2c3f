"""A trained vocoder for dMel: causal layers and a harmonic head, similar to Vocos.

Siuzdak, "Vocos: Closing the gap between time-domain and Fourier-based neural vocoders" (arXiv
2306.00814), with pulses and noise instead of predicted phases (`neural/layers/harmonic_head.py`).
"""

from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from ..neural.compiled.cache import Compiled, compiled_decoder
from ..neural.layers.causal import StackConfig
from ..neural.layers.harmonic_head import HarmonicHeadConfig
from ..neural.streams.decoding import start_decoding
from ..neural.trunks.spectral import SpectralDecoder
from ..streaming import DecoderStream
from .vocoder import MelVocoder

# Mean and scale for the normalization of speech's log10 mel amplitudes.
_CENTRE, _SPREAD = -2.5, 1.5


@dataclass(frozen=True)
class NeuralVocoderConfig:
    """Configuration of `NeuralVocoder`.

    Attributes:
        num_mels: channels.
        stack: layers at the token frame rate.
        head: from their output to samples; its hop is the tokens'.
        look_ahead: future token frames that a frame's samples may depend on; all earlier ones are
            used anyway. 0 is causal.
    """

    num_mels: int = 80
    stack: StackConfig = field(default_factory=lambda: StackConfig(width=320, blocks=5))
    head: HarmonicHeadConfig = field(
        default_factory=lambda: HarmonicHeadConfig(hop=400, rate=5, window=320)
    )
    look_ahead: int = 0

    @property
    def hop(self) -> int:
        return self.head.hop


class NeuralVocoder(MelVocoder):
    """Decode levels of log-mel channels to speech with a trained network.

    Args:
        config: see `NeuralVocoderConfig`.
    """

    def __init__(self, config: NeuralVocoderConfig) -> None:
        super().__init__()
        self.config = config
        self.hop = config.hop
        self.decoder = SpectralDecoder(config.num_mels + 1, config.stack, config.head)
        self._frame_decoder = Compiled(compiled_decoder)
        self.macs_per_second = (
            self.decoder.macs_per_frame * config.head.sample_rate / config.head.hop
        )

    @property
    def delay(self) -> int:
        """Samples that the network's output lags behind its input."""
        return self.config.look_ahead * self.hop + self.config.head.delay

    @property
    def latency(self) -> int:
        return self.delay

    def inputs(self, levels: Tensor, present: Tensor | None = None) -> Tensor:
        """Return the decoder's input: normalized levels, and a channel that marks real frames.

        Args:
            levels: (…, frames, channels) log10 mel amplitudes.
            present: (…, frames) bool; frames marked False become zeros. Default: all True.
        """
        scaled = torch.nn.functional.pad((levels - _CENTRE) / _SPREAD, (0, 1), value=1.0)
        return scaled if present is None else torch.where(present[..., None], scaled, 0.0)

    def start(self, levels: Tensor, batch_size: int) -> DecoderStream:
        return start_decoding(
            self.decoder,
            self._frame_decoder,
            partial(self._inputs, levels.T.float().contiguous()),
            self.inputs,
            batch_size=batch_size,
            num_codebooks=self.config.num_mels,
            in_features=self.config.num_mels + 1,
            hop=self.hop,
            delay=self.delay,
            device=levels.device,
        )

    def _inputs(self, table: Tensor, codes: Tensor) -> Tensor:
        """Return inputs of codes (frames, channels); `table`: levels (levels, channels)."""
        return self.inputs(table.gather(0, codes.clamp_min(0)), codes[:, 0] >= 0)
