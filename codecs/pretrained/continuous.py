"""Autoencoders without codebooks, for language models that predict vectors: they have latents only.

`tokenizer.latents` and `decode` work; `encode` says that there are no codes.
"""

from typing import Any

from torch import Tensor

from ...errors import CheckpointError
from .adapter import ContinuousAdapter


class PocketTTS(ContinuousAdapter):
    """The tokenizer of Kyutai's Pocket TTS: Mimi's layers around 32 channels at 12.5 Hz."""

    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        if settings.encoder_config is None or settings.decoder_config is None:
            raise CheckpointError("has an encoder or a decoder only; expected both")
        self.causal = settings.use_causal_conv
        self.latent_channels = settings.latent_dim

    def find_hop(self) -> int:
        return int(self.settings.frame_size)

    def latents(self, model: Any, wave: Tensor) -> Tensor:
        vectors: Tensor = model.encode(wave[None, None], use_streaming=False).latents[0]
        return vectors

    def decode_latents(self, model: Any, vectors: Tensor) -> Tensor:
        wave: Tensor = model.decode(vectors[None]).audio_values
        return wave.flatten()


class VibeVoice(ContinuousAdapter):
    """The acoustic tokenizer of VibeVoice: 64 channels at 7.5 Hz.

    Its feature extractor brings each utterance to -25 dB of full scale and fills up the last frame,
    so decoded speech has that level. Latents are the means, to which the library's `encode` adds
    noise for training.
    """

    whole_frames = False
    _RATE = 24_000  # of the feature extractor: the configuration has none

    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        if settings.channels != 1:
            raise CheckpointError(f"{settings.channels} channels; expected 1")
        self.latent_channels = settings.hidden_size

    def find_sample_rate(self) -> int:
        return self._RATE

    def latents(self, model: Any, wave: Tensor) -> Tensor:
        from transformers import VibeVoiceAcousticTokenizerFeatureExtractor as Extractor

        extractor = Extractor(pad_to_multiple_of=self.hop)
        found = extractor(wave.cpu().numpy(), sampling_rate=self._RATE)
        values = found["input_values"].to(wave.device)
        vectors: Tensor = model.encode(values, sample=False).latents[0]
        return vectors

    def decode_latents(self, model: Any, vectors: Tensor) -> Tensor:
        wave: Tensor = model.decode(vectors[None]).audio
        return wave.flatten()
