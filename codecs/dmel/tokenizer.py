"""The dMel tokenizer: no training, 80 codebooks of 16 codes, one per mel channel.

He Bai et al., "dMel: Speech Tokenization made Simple", arXiv 2407.15835.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ...audio.mel import MelSpectrogram, log_mel
from ...quantizers.levels import fit_levels, inner_edges, uniform_edges
from ..interface import AudioTokenizer
from ..spec import TokenizerSpec
from ..streaming import DecoderStream, EncoderStream
from ..windowed import WindowEncoder
from .analysis import analyse
from .config import DMelConfig
from .neural_vocoder import NeuralVocoder
from .phase_retrieval import PhaseRetrievalConfig, PhaseRetrievalVocoder
from .vocoder import MelVocoder

#: Windows in one call of the analysis: enough for an efficient FFT, and few enough that streaming
#: frame by frame, which computes a whole tile for each, takes far less than a millisecond.
TILE = 64


class DMel(AudioTokenizer):
    """A discretized log-mel spectrogram.

    Frame n's window is centred on its hop: it starts (window - hop) / 2 samples before the frame
    and ends as many after it. The analysis runs in float64 and compares mel amplitudes with
    thresholds, so that differences between FFT libraries, about 1e-15, practically never change a
    code.

    Args:
        config: see `DMelConfig`.
        name: the tokenizer's name.
        vocoder: turns levels into speech; overrides the configuration's vocoder.
    """

    family = "dmel"
    Config = DMelConfig

    levels: Tensor

    def __init__(
        self, config: DMelConfig, name: str | None = None, vocoder: MelVocoder | None = None
    ) -> None:
        super().__init__(config, name)
        self.mel = MelSpectrogram(
            config.sample_rate,
            config.n_fft,
            config.window_length,
            config.hop_length,
            config.num_mels,
            config.fmin,
            config.fmax,
            dtype=torch.float64,
        )
        edges = uniform_edges(config.minimum, config.maximum, config.num_levels)
        half = (config.maximum - config.minimum) / config.num_levels / 2
        centres = np.concatenate([edges - half, edges[-1:] + half])
        # Uniform levels follow from the configuration; fitted ones are weights.
        self.register_buffer(
            "levels",
            torch.from_numpy(centres).expand(config.num_mels, -1).clone(),
            persistent=config.levels == "fitted",
        )
        self.vocoder = vocoder or self._make_vocoder(config)

    def _make_vocoder(self, config: DMelConfig) -> MelVocoder:
        if config.vocoder:
            return NeuralVocoder(config.vocoder)
        return PhaseRetrievalVocoder(PhaseRetrievalConfig.for_dmel(config), self.mel.filters.T)

    # --- the interface -------------------------------------------------------------------------

    def token_tensors(self) -> dict[str, Tensor]:
        return {"levels": self.levels} if self.config.levels == "fitted" else {}

    def token_config(self) -> dict[str, Any]:
        return {name: v for name, v in super().token_config().items() if name != "vocoder"}

    def describe(self) -> TokenizerSpec:
        config = self.config
        frames = config.sample_rate / config.hop_length
        bins = config.n_fft // 2 + 1
        # A real FFT counts as 2.5 n log2 n operations, half of them multiply-accumulates.
        fft = 1.25 * config.n_fft * np.log2(config.n_fft)
        encode = frames * (fft + config.window_length + bins * config.num_mels)
        return TokenizerSpec(
            tokens=self.token_spec(
                config.hop_length, [config.num_levels] * config.num_mels, config.sample_rate
            ),
            family=self.family,
            causal=False,
            encoder_latency=config.hop_length + self._look_ahead,
            decoder_latency=self.vocoder.latency,
            min_codebooks=config.num_mels,
            parameters=self._learned_levels + sum(p.numel() for p in self.vocoder.parameters()),
            macs_per_second=round(encode + self.vocoder.macs_per_second),
            license=self.license if config.vocoder else "Apache-2.0",
            source="arXiv 2407.15835",
            description=(
                "fitted levels"
                if config.levels == "fitted"
                else f"levels in [{config.minimum:g}, {config.maximum:g}]"
            ),
            latent_channels=config.num_mels,
            decodes_latents=True,
            broken_promises=dict(self.vocoder.broken_promises),
        )

    @property
    def _learned_levels(self) -> int:
        return self.levels.numel() if self.config.levels == "fitted" else 0

    @property
    def _look_ahead(self) -> int:
        """Samples that a frame's window extends before, and after, the frame."""
        config: DMelConfig = self.config
        return (config.window_length - config.hop_length) // 2

    def start_encoder(self, batch_size: int, num_codebooks: int) -> EncoderStream:
        thresholds = (10.0 ** inner_edges(self.levels)).contiguous()
        floor = 10.0**self.config.minimum

        def encode_tile(windows: Tensor) -> Tensor:
            return torch.searchsorted(thresholds, analyse(self.mel, windows), right=True).T

        def latents_tile(windows: Tensor) -> Tensor:
            return log_mel(analyse(self.mel, windows), floor).T.float()

        return WindowEncoder(
            encode_tile,
            latents_tile=latents_tile,
            channels=self.config.num_mels,
            batch_size=batch_size,
            hop=self.config.hop_length,
            window=self.config.window_length,
            before=self._look_ahead,
            tile=TILE,
            num_codebooks=num_codebooks,
            device=self.device,
        )

    def codebook_vectors(self, codes: Tensor, differentiable: bool) -> list[Tensor]:
        """Return each frame's levels: those of a codebook in its channel, zeros elsewhere."""
        levels, channels = self.levels.float(), self.config.num_mels
        return [
            functional.pad(levels[index][column][:, None], (index, channels - index - 1))
            for index, column in enumerate(codes.T)
        ]

    def embed_codes(self, codes: Tensor, differentiable: bool) -> Tensor:
        return self.levels.float().gather(1, codes.T).T

    def start_decoder(self, batch_size: int) -> DecoderStream:
        return self.vocoder.start(self.levels, batch_size)

    # --- fitting -------------------------------------------------------------------------------

    @classmethod
    @torch.no_grad()
    def fit(
        cls, waves: Iterable[np.ndarray], config: DMelConfig, name: str | None = None
    ) -> "DMel":
        """Create a tokenizer with the levels of least squared error on the waves, per channel.

        Args:
            waves: each (samples,) float32 at the configuration's sample rate.
            config: all fields except `levels` are used.
            name: the tokenizer's name.

        Raises:
            ValueError: a channel has fewer distinct values than levels.
        """
        fitted = cls(replace(config, levels="fitted"), name)
        values = [
            log_mel(fitted.mel(torch.from_numpy(wave)), floor=10.0**config.minimum)
            for wave in waves
        ]
        channels = torch.cat(values, dim=-1).numpy()
        levels = np.stack([fit_levels(channel, config.num_levels) for channel in channels])
        # float32 is precise enough, and makes the digest the same on every computer.
        fitted.levels.copy_(torch.from_numpy(levels.astype(np.float32)))
        return fitted
