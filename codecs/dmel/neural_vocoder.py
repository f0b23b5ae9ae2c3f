"""A trained vocoder for dMel: causal layers and a harmonic head, in the manner of Vocos.

Siuzdak, "Vocos: Closing the gap between time-domain and Fourier-based neural vocoders" (arXiv
2306.00814), with pulses and noise in place of invented phases (`neural/harmonic_head.py`).
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..neural.causal import StackConfig
from ..neural.compiled import Compiled, frame_decoder
from ..neural.harmonic_head import HarmonicHeadConfig
from ..neural.network import SpectralDecoder
from ..neural.tiles import TileDecoder
from ..streaming import DecoderStream
from .vocoder import MelVocoder

#: Frames in one call of the network.
TILE = 16
# What log10 mel amplitudes of speech are centred at and divided by.
_CENTRE, _SPREAD = -2.5, 1.5


@dataclass(frozen=True)
class NeuralVocoderConfig:
    """Configuration of `NeuralVocoder`.

    Attributes:
        num_mels: channels.
        stack: layers at the rate of the tokens' frames.
        head: from those to samples; its hop is the tokens'.
        look_ahead: token frames that the sound of a frame may depend on beside its own and those
            before. 0 is causal.
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
    """Levels of log-mel channels to speech.

    Args:
        config: see `NeuralVocoderConfig`.
    """

    def __init__(self, config: NeuralVocoderConfig) -> None:
        super().__init__()
        self.config = config
        self.hop = config.hop
        self.decoder = SpectralDecoder(config.num_mels + 1, config.stack, config.head)
        self._frame_decoder = Compiled(frame_decoder)
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

    def latents(self, levels: Tensor, present: Tensor | None = None) -> Tensor:
        """What the decoder takes: scaled levels, and a channel that says that there is a frame.

        Args:
            levels: (batch, frames, channels) log10 mel amplitudes.
            present: (batch, frames) bool; frames that are none become zeros. Default: all are.
        """
        scaled = torch.nn.functional.pad((levels - _CENTRE) / _SPREAD, (0, 1), value=1.0)
        return scaled if present is None else torch.where(present[..., None], scaled, 0.0)

    def start(self, levels: Tensor, batch_size: int) -> DecoderStream:
        compiled = levels.device.type == "cpu"
        decoder: Any = self._frame_decoder(self.decoder) if compiled else self.decoder
        return TileDecoder(
            partial(self._decode_tile, decoder, levels.T.float().contiguous()),
            decoder.init_state,
            batch_size=batch_size,
            num_codebooks=self.config.num_mels,
            hop=self.hop,
            delay=self.delay,
            tile=None if compiled else TILE,
            device=levels.device,
        )

    def _decode_tile(
        self, decoder: Any, table: Tensor, codes: Tensor, state: Any
    ) -> tuple[Tensor, Any]:
        """Samples (1, frames, hop) of codes (1, frames, channels)."""
        present = codes[..., 0] >= 0
        levels = table.gather(0, codes[0].clamp_min(0))[None]
        wave, after = decoder.wave(self.latents(levels, present), state)
        # Levels that no speech has may ask for any gain.
        return wave.clamp(-1, 1).unflatten(1, (-1, self.hop)), after
