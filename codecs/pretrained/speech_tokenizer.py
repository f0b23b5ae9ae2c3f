"""SpeechTokenizer, through its authors' package: residual codes whose first is semantic.

X. Zhang et al., "SpeechTokenizer: Unified Speech Tokenizer for Speech Language Models",
arXiv 2308.16692.
"""

from typing import Any

from torch import Tensor, nn

from .adapter import Adapter


class SpeechTokenizer(Adapter):
    """`settings` is the model itself. A recurrent layer hears both directions, so it isn't causal.

    The package fills up the last frame itself.
    """

    whole_frames = False

    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        self.latent_channels = settings.quantizer.dimension

    @staticmethod
    def make(fields: dict[str, Any]) -> nn.Module:
        """Make the model, untrained, of the fields of its `config.json`."""
        from speechtokenizer import SpeechTokenizer as Model

        made: nn.Module = Model(fields)
        return made

    def find_hop(self) -> int:
        return int(self.settings.downsample_rate)

    def find_codebook_sizes(self) -> list[int]:
        return [self.settings.quantizer.bins] * self.settings.n_q

    def encode(self, model: Any, wave: Tensor) -> Tensor:
        codes: Tensor = model.encode(wave[None, None])[:, 0]
        return codes

    def decode(self, model: Any, codes: Tensor) -> Tensor:
        wave: Tensor = model.decode(codes[:, None])
        return wave.flatten()

    def latents(self, model: Any, wave: Tensor) -> Tensor:
        vectors: Tensor = model.encoder(wave[None, None])[0]
        return vectors.T

    def embed(self, model: Any, codes: Tensor) -> list[Tensor]:
        layers = model.quantizer.vq.layers[: len(codes)]
        return [layer.decode(code[None])[0].T for layer, code in zip(layers, codes, strict=True)]

    def decode_latents(self, model: Any, vectors: Tensor) -> Tensor:
        wave: Tensor = model.decoder(vectors.T[None])
        return wave.flatten()
