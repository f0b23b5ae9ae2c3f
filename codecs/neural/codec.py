"""`NeuralCodec`: an encoder, a quantizer, a decoder, and the streams that run them."""

import copy
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

from torch import Tensor

from ..checkpoint import config_to_json
from ..interface import AudioTokenizer
from ..shipped import inference_state
from ..spec import TokenizerSpec
from ..streaming import DecoderStream, EncoderStream
from .compiled import Compiled, frame_decoder, frame_encoder, is_compilable
from .frames import FrameConfig, SampleEncoder
from .network import SpectralConfig, SpectralEncoder
from .running import TILE, in_tiles, start_decoding, together
from .tiles import TileEncoder
from .waveform import WaveformConfig, WaveformEncoder

#: What an encoder and a decoder are made from, and what is known of them before.
TrunkConfig = SpectralConfig | WaveformConfig | FrameConfig


class NeuralCodec(AudioTokenizer):
    """A codec of a trained encoder and decoder, the trunk; families differ in the quantizer.

    The encoder runs in float64: then no order of additions, which libraries choose by processor
    and by number of threads, moves a code. The decoder runs in float32.

    Args:
        config: has a field `network`, a `TrunkConfig`.
        name: what it is called.
    """

    def __init__(self, config: Any, name: str | None = None) -> None:
        super().__init__(config, name)
        network: TrunkConfig = config.network
        self.network = network
        self.encoder = network.make_encoder()
        self.decoder = network.make_decoder()
        self._prepared: dict[Callable[[], Any], Any] = {}
        self._frame_encoder = Compiled(frame_encoder)
        self._frame_decoder = Compiled(frame_decoder)

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
        tensors = inference_state(self)
        return {name: t for name, t in tensors.items() if not name.startswith("decoder.")}

    def token_config(self) -> dict[str, Any]:
        fields = config_to_json(self.config)
        decoding = self.network.decoding
        fields["network"] = {k: v for k, v in fields["network"].items() if k not in decoding}
        return fields

    def neural_spec(
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
        encoder, tile = self._running_encoder()
        if tile is None:
            latents_of = together(encoder.latents)
        else:
            latents_of = in_tiles(lambda windows, state: encoder.latents(windows.double(), state))

        def encode(windows: Tensor, edges: Any, states: list[Any]) -> tuple[Tensor, list[Any]]:
            latents, after = latents_of(windows, edges, states)
            return self.quantize(latents.float()[None], num_codebooks)[0], after

        return TileEncoder(
            encode,
            encoder.init_state,
            batch_size=batch_size,
            hop=self.network.hop,
            window=self.network.window,
            look_ahead=self.network.encoder_look_ahead,
            tile=tile,
            num_codebooks=num_codebooks,
            device=self.device,
        )

    def start_decoder(self, batch_size: int) -> DecoderStream:
        return start_decoding(
            self.decoder,
            self._frame_decoder,
            self.dequantize,
            batch_size=batch_size,
            num_codebooks=self.spec.tokens.num_codebooks,
            hop=self.network.hop,
            delay=self.network.delay,
            device=self.device,
        )

    # --- what is made of the weights once --------------------------------------------------------

    def prepared(self, make: Callable[[], Any]) -> Any:
        """What `make`, a method, returned at first; made again after weights were loaded or moved.

        A tokenizer's weights stay as they are once it is used: see `AudioTokenizer.spec`.
        """
        if make not in self._prepared:
            self._prepared[make] = make()
        return self._prepared[make]

    def _running_encoder(self) -> tuple[Any, int | None]:
        """The encoder as it runs on this device, and the frames in one call of it."""
        encoder: Any = self.encoder
        if is_compilable(encoder) and self.device.type == "cpu":
            return self._frame_encoder(encoder), None
        return self.prepared(self._exact_encoder), TILE

    def _exact_encoder(self) -> SpectralEncoder | WaveformEncoder | SampleEncoder:
        return copy.deepcopy(self.encoder).double().eval().requires_grad_(False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "NeuralCodec":
        self._prepared.clear()
        same: NeuralCodec = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return same

    def load_state_dict(self, *args: Any, **options: Any) -> Any:
        self._prepared.clear()
        return super().load_state_dict(*args, **options)

    def __deepcopy__(self, memo: dict[int, Any]) -> "NeuralCodec":
        other = type(self)(self.config, self.name)
        other.load_state_dict(self.state_dict())
        return other.to(self.device).train(self.training)
