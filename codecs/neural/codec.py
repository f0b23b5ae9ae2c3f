"""`SpectralCodec`: an encoder, a quantizer, a decoder, and the streams that run them."""

import copy
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..checkpoint import config_to_json
from ..interface import AudioTokenizer
from ..spec import TokenizerSpec
from ..streaming import DecoderStream, EncoderStream
from .network import DecoderState, SpectralConfig, SpectralDecoder, SpectralEncoder
from .tiles import TileDecoder, TileEncoder

#: Frames in one call of the networks. A stream of single frames computes a whole tile for each.
TILE = 16


class SpectralCodec(AudioTokenizer):
    """A codec whose encoder and decoder are the spectral ones; families differ in the quantizer.

    The encoder runs in float64: then no order of additions, which libraries choose by processor
    and by number of threads, moves a code. The decoder runs in float32.

    Args:
        config: has a field `network`, a `SpectralConfig`.
        name: what it is called.
    """

    def __init__(self, config: Any, name: str | None = None) -> None:
        super().__init__(config, name)
        network: SpectralConfig = config.network
        self.network = network
        self.encoder = SpectralEncoder(network)
        self.decoder = SpectralDecoder(network.latent_dim, network.decoder, network.head)
        self._prepared: dict[Callable[[], Any], Any] = {}

    # --- what a family supplies ----------------------------------------------------------------

    @abstractmethod
    def quantize(self, latents: Tensor, num_codebooks: int) -> Tensor:
        """Codes (1, frames, num_codebooks) int64 of latents (1, frames, latent_dim) float32."""

    @abstractmethod
    def dequantize(self, codes: Tensor) -> Tensor:
        """Latents (1, frames, latent_dim) float32 of codes (1, frames, codebooks) int64.

        A code of -1 adds nothing: in all codebooks, there is no frame, and latents are 0.
        """

    # --- the interface -------------------------------------------------------------------------

    def token_tensors(self) -> dict[str, Tensor]:
        """All but the decoder: another decoder may make better sound of the same codes."""
        tensors = super().token_tensors()
        return {name: t for name, t in tensors.items() if not name.startswith("decoder.")}

    def token_config(self) -> dict[str, Any]:
        fields = config_to_json(self.config)
        decoding = ("decoder", "head", "decoder_look_ahead")
        fields["network"] = {k: v for k, v in fields["network"].items() if k not in decoding}
        return fields

    def spectral_spec(
        self, codebook_sizes: list[int], min_codebooks: int, source: str, description: str
    ) -> TokenizerSpec:
        """The spec, of which a family knows its codebooks and its paper."""
        network = self.network
        frames = network.sample_rate / network.hop
        return TokenizerSpec(
            tokens=self.token_spec(network.hop, codebook_sizes, network.sample_rate),
            family=self.family,
            causal=network.encoder_look_ahead == 0,
            encoder_latency=(1 + network.encoder_look_ahead) * network.hop,
            decoder_latency=network.delay,
            min_codebooks=min_codebooks,
            parameters=sum(p.numel() for p in self.parameters()),
            macs_per_second=round(
                frames * (self.encoder.macs_per_frame + self.decoder.macs_per_frame)
            ),
            license="Apache-2.0",
            source=source,
            description=description,
        )

    def start_encoder(self, batch_size: int, num_codebooks: int) -> EncoderStream:
        encoder: SpectralEncoder = self.prepared(self._exact_encoder)

        def encode_tile(windows: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
            latents, _, after = encoder(windows.double(), state)
            return self.quantize(latents.float(), num_codebooks), after

        return TileEncoder(
            encode_tile,
            encoder.init_state,
            batch_size=batch_size,
            hop=self.network.hop,
            window=self.network.analysis.window,
            look_ahead=self.network.encoder_look_ahead,
            tile=TILE,
            num_codebooks=num_codebooks,
            device=self.device,
        )

    def start_decoder(self, batch_size: int) -> DecoderStream:
        hop = self.network.hop

        def decode_tile(codes: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
            rendered, after = self.decoder(self.dequantize(codes), state)
            return rendered.wave.unflatten(1, (-1, hop)), after

        return TileDecoder(
            decode_tile,
            self.decoder.init_state,
            batch_size=batch_size,
            num_codebooks=self.spec.tokens.num_codebooks,
            hop=hop,
            delay=self.network.delay,
            tile=TILE,
            device=self.device,
        )

    # --- what is made of the weights once --------------------------------------------------------

    def prepared(self, make: Callable[[], Any]) -> Any:
        """What `make`, a method, returned when it was first called with the present weights."""
        if make not in self._prepared:
            self._prepared[make] = make()
        return self._prepared[make]

    def _exact_encoder(self) -> SpectralEncoder:
        return copy.deepcopy(self.encoder).double().eval().requires_grad_(False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "SpectralCodec":
        self._prepared.clear()
        return super()._apply(fn, recurse)  # type: ignore[no-any-return]

    def load_state_dict(self, *args: Any, **options: Any) -> Any:
        self._prepared.clear()
        return super().load_state_dict(*args, **options)

    def __deepcopy__(self, memo: dict[int, Any]) -> "SpectralCodec":
        other = type(self)(self.config, self.name)
        other.load_state_dict(self.state_dict())
        return other.to(self.device).train(self.training)
