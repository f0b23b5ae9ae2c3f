"""The trained unit vocoder, with a voice taken from a recording.

Units of speech lack most information on speaker and pitch, which a vocoder has to add: the voice is
a small embedding (Polyak et al., "Speech Resynthesis from Discrete Disentangled Self-Supervised
Representations", arXiv 2104.00355), and the pitch is predicted from units and voice. The layers and
the head, with pulses and noise, are those of the trained codecs.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...codecs.neural.compiled.cache import Compiled, compiled_decoder
from ...codecs.neural.streams.decoding import start_decoding
from ...codecs.neural.trunks.spectral import SpectralDecoder
from ...codecs.streaming import DecoderStream
from .config import SpeakingConfig
from .durations import DurationPredictor
from .interface import UnitVocoder
from .voices import VoiceEncoder


class SpeakingVocoder(UnitVocoder):
    """Synthesize speech from units.

    Args:
        config: see `SpeakingConfig`.
        num_units: number of units.

    Attributes:
        voice: (voice_dim,) float32, the voice embedding in use.
    """

    voice: Tensor

    def __init__(self, config: SpeakingConfig, num_units: int) -> None:
        super().__init__()
        self.config, self.num_units = config, num_units
        self.sample_rate, self.hop = config.head.sample_rate, config.hop
        self.units = nn.Embedding(num_units, config.latent_dim)
        self.voicing = nn.Linear(config.voice_dim, config.latent_dim, bias=False)
        self.decoder = SpectralDecoder(config.latent_dim, config.stack, config.head)
        self.hearing = VoiceEncoder(config.hearing, config.hearing_width, config.voice_dim)
        self.durations = DurationPredictor(num_units, config.duration_width)
        self.register_buffer("voice", torch.zeros(config.voice_dim))
        self._frame_decoder = Compiled(compiled_decoder)
        self.macs_per_second = (
            self.decoder.macs_per_frame * config.head.sample_rate / config.head.hop
        )

    @property
    def latency(self) -> int:
        return self.config.delay

    def latents(self, units: Tensor, voices: Tensor) -> Tensor:
        """Return the decoder's input (batch, frames, latent_dim).

        Args:
            units: (batch, frames).
            voices: (batch, voice_dim).
        """
        return self.units(units) + self.voicing(voices)[:, None]

    @torch.no_grad()
    def start(self, batch_size: int) -> DecoderStream:
        # In float64, since the order of a product's sum differs between processors, and the phase
        # of the pulses accumulates the difference.
        voice = self.voicing.weight.double() @ self.voice.double()
        # A row of zeros first, for "no frame".
        table = functional.pad((self.units.weight + voice).float(), (0, 0, 1, 0))
        return start_decoding(
            self.decoder,
            self._frame_decoder,
            partial(_look_up, table.detach()),
            None,
            batch_size=batch_size,
            num_codebooks=1,
            in_features=table.shape[1],
            hop=self.hop,
            delay=self.config.delay,
            device=self.voice.device,
        )


def _look_up(table: Tensor, codes: Tensor) -> Tensor:
    """Look up inputs (frames, channels) of codes (frames, 1), where -1 means none."""
    return functional.embedding(codes[..., 0] + 1, table)
