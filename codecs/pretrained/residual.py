"""Codecs that are convolutions around a residual quantizer: EnCodec, Mimi, DAC, and WavTokenizer.

Their codebooks are nested, so the first so many can be decoded without the others. The codes are
those of the models' own `encode`; most fill up the last frame themselves, each in its own way.
"""

from math import prod
from typing import Any

import torch
from torch import Tensor

from ...errors import CheckpointError
from .adapter import Adapter


class Encodec(Adapter):
    """EnCodec at 24 kHz and its like: one channel, no chunks, no scale."""

    whole_frames = False

    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        self.causal = settings.use_causal_conv
        if settings.audio_channels != 1:
            raise CheckpointError(f"{settings.audio_channels} channels; expected 1")
        if settings.normalize:
            raise CheckpointError("scales loudness, which codes alone can't carry")
        self.latent_channels = settings.codebook_dim

    def encode(self, model: Any, wave: Tensor) -> Tensor:
        codes: Tensor = model.quantizer.encode(model.encoder(wave[None, None]), None)[:, 0]
        return codes

    def decode(self, model: Any, codes: Tensor) -> Tensor:
        wave: Tensor = model.decoder(model.quantizer.decode(codes[:, None]))
        return wave.flatten()

    def latents(self, model: Any, wave: Tensor) -> Tensor:
        vectors: Tensor = model.encoder(wave[None, None])[0]
        return vectors.T

    def embed(self, model: Any, codes: Tensor) -> list[Tensor]:
        layers = model.quantizer.layers[: len(codes)]
        return [layer.decode(code[None])[0].T for layer, code in zip(layers, codes, strict=True)]

    def decode_latents(self, model: Any, vectors: Tensor) -> Tensor:
        wave: Tensor = model.decoder(vectors.T[None])
        return wave.flatten()


class Mimi(Adapter):
    """Mimi, whose frames of 80 ms are two of its convolutions' frames.

    The library computes codebooks from sums and counts once and keeps them, whatever becomes of the
    weights; here they follow the weights.
    """

    whole_frames = False

    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        self.causal = settings.use_causal_conv
        self.latent_channels = settings.hidden_size

    def find_hop(self) -> int:
        hop: int = round(self.settings.sampling_rate / self.settings.frame_rate)
        return hop

    def encode(self, model: Any, wave: Tensor) -> Tensor:
        self._renew(model)
        codes: Tensor = model.encode(wave[None, None]).audio_codes[0]
        return codes

    def decode(self, model: Any, codes: Tensor) -> Tensor:
        self._renew(model)
        wave: Tensor = model.decode(codes[None]).audio_values
        return wave.flatten()

    def latents(self, model: Any, wave: Tensor) -> Tensor:
        vectors: Tensor = model.encoder(wave[None, None]).latents[0]
        return vectors.T

    def embed(self, model: Any, codes: Tensor) -> list[Tensor]:
        self._renew(model)
        quantizer, count = model.quantizer, model.quantizer.num_semantic_quantizers
        parts = (
            (quantizer.semantic_residual_vector_quantizer, codes[:count]),
            (quantizer.acoustic_residual_vector_quantizer, codes[count:]),
        )
        found = []
        for residual, given in parts:
            for layer, code in zip(residual.layers, given, strict=False):
                vectors = layer.decode(code[None])
                if residual.output_proj is not None:
                    vectors = residual.output_proj(vectors)
                found.append(vectors[0].T)
        return found

    def embed_all(self, model: Any, codes: Tensor) -> Tensor:
        self._renew(model)
        vectors: Tensor = model.quantizer.decode(codes[None])[0]
        return vectors.T

    def decode_latents(self, model: Any, vectors: Tensor) -> Tensor:
        wave: Tensor = model.decoder(vectors.T[None]).audio_values
        return wave.flatten()

    def _renew(self, model: Any) -> None:
        for part in model.quantizer.modules():
            if hasattr(part, "embed_sum"):
                counts = part.cluster_usage.clamp(min=part.epsilon)
                part._embed = part.embed_sum / counts[:, None]


class Dac(Adapter):
    """DAC. Its feature extractor pads to whole frames; with odd strides, its decoder returns
    slightly less than whole frames.
    """

    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        self.latent_channels = settings.hidden_size

    def find_hop(self) -> int:
        return prod(self.settings.downsampling_ratios)

    def find_codebook_sizes(self) -> list[int]:
        return [self.settings.codebook_size] * self.settings.n_codebooks

    def encode(self, model: Any, wave: Tensor) -> Tensor:
        codes: Tensor = model.encode(wave[None, None]).audio_codes[0]
        return codes

    def decode(self, model: Any, codes: Tensor) -> Tensor:
        wave: Tensor = model.decode(audio_codes=codes[None]).audio_values
        return wave.flatten()

    def latents(self, model: Any, wave: Tensor) -> Tensor:
        vectors: Tensor = model.encoder(wave[None, None])[0]
        return vectors.T

    def embed(self, model: Any, codes: Tensor) -> list[Tensor]:
        layers = model.quantizer.quantizers[: len(codes)]
        return [
            layer.out_proj(layer.codebook(code[None]).transpose(1, 2))[0].T
            for layer, code in zip(layers, codes, strict=True)
        ]

    def decode_latents(self, model: Any, vectors: Tensor) -> Tensor:
        wave: Tensor = model.decode(vectors.T[None]).audio_values
        return wave.flatten()


class WavTokenizer(Adapter):
    """WavTokenizer, which has one codebook.

    Levels that its feature extractor would normalize (`normalize_audio`, which the original model
    does not) are left as they are.
    """

    whole_frames = False

    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        self.latent_channels = settings.codebook_dim

    def find_codebook_sizes(self) -> list[int]:
        return [self.settings.codebook_size]

    def encode(self, model: Any, wave: Tensor) -> Tensor:
        codes: Tensor = model.encode(wave[None, None]).audio_codes[0]
        return codes

    def decode(self, model: Any, codes: Tensor) -> Tensor:
        wave: Tensor = model.decode(codes[None]).audio_values
        return wave.flatten()

    def latents(self, model: Any, wave: Tensor) -> Tensor:
        vectors: Tensor = model.encoder_model.encoder(wave[None, None])[0]
        return vectors.T

    def embed(self, model: Any, codes: Tensor) -> list[Tensor]:
        return [model.encoder_model.quantizer.decode(codes)[0].T]

    def decode_latents(self, model: Any, vectors: Tensor) -> Tensor:
        condition = torch.zeros(1, dtype=torch.long, device=vectors.device)
        wave: Tensor = model.head(model.backbone(vectors.T[None], condition))
        return wave.flatten()
