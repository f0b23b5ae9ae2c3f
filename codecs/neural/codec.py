"""`NeuralCodec`: an encoder, a quantizer and a decoder, and the streams that run them."""

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ...quantizers.modules.interface import Quantizer
from ..checkpoint import config_to_json, inference_state
from ..interface import AudioTokenizer
from ..spec import TokenizerSpec
from ..streaming import DecoderStream, EncoderStream
from .compiled.cache import compiled_decoder, compiled_encoder, is_compilable, still
from .streams.decoding import TILE, in_tiles, start_decoding, together
from .streams.tiles import TileEncoder
from .trunks.raw_frames import FrameConfig
from .trunks.spectral import SpectralConfig
from .trunks.waveform import WaveformConfig
from .without_compiling import may_compile

if TYPE_CHECKING:
    from .compiled.scalar_levels import CompiledLevels

Array = np.ndarray[Any, Any]

#: Configurations of an encoder and decoder pair (the trunk).
TrunkConfig = SpectralConfig | WaveformConfig | FrameConfig


class NeuralCodec(AudioTokenizer):
    """A codec with a trained encoder and decoder (the trunk); subclasses add the quantizer.

    The encoder runs in float64: then the order of additions, which libraries choose by processor
    and thread count, changes no code. The decoder runs in float32. Inference uses copies of the
    networks in eval mode, made again after the weights have changed; an open stream keeps its
    copies.

    Args:
        config: has a field `network`, a `TrunkConfig`.
        name: the tokenizer's name.
    """

    def __init__(self, config: Any, name: str | None = None) -> None:
        super().__init__(config, name)
        network: TrunkConfig = config.network
        self.network = network
        self.encoder = network.make_encoder()
        self.decoder = network.make_decoder()
        self.quantizer: Any

    # --- to be implemented by a family ---------------------------------------------------------

    @abstractmethod
    def plain_quantizing(self) -> Callable[[Tensor, int], Tensor]:
        """Return `quantizing` in PyTorch."""

    @abstractmethod
    def plain_dequantizing(self) -> Callable[[Tensor], Tensor]:
        """Return `dequantizing` in PyTorch."""

    def quantizing_arrays(self) -> Callable[[Array, int], Array] | None:
        """Return `quantizing` in compiled code, for the CPU; None if there is none.

        It maps latents (frames, latent_dim) float32 to codes (frames, num_codebooks) int64.
        """
        return None

    def dequantizing_arrays(self) -> Callable[[Array], Array] | None:
        """Return `dequantizing` in compiled code, for the CPU; None if there is none.

        It maps codes (frames, codebooks) int64 to latents (frames, latent_dim) float32.
        """
        return None

    # --- quantization --------------------------------------------------------------------------

    def quantizing(self) -> Callable[[Tensor, int], Tensor]:
        """Return the quantization function for the current weights, compiled if it can be.

        It maps latents (1, frames, latent_dim) float32 and the number of codebooks to keep to codes
        (1, frames, num_codebooks) int64.
        """
        if in_arrays := self.quantizing_arrays():
            return lambda latents, kept: torch.from_numpy(in_arrays(latents[0].numpy(), kept))[None]
        return self.plain_quantizing()

    def dequantizing(self) -> Callable[[Tensor], Tensor]:
        """Return the function from codes (1, frames, codebooks) int64 to latents float32.

        Latents are (1, frames, latent_dim). A code of -1 adds nothing; -1 in all codebooks means
        that there is no frame, and its latents are 0.
        """
        if in_arrays := self.dequantizing_arrays():
            return lambda codes: torch.from_numpy(in_arrays(codes[0].numpy()))[None]
        return self.plain_dequantizing()

    def quantize(self, latents: Tensor, num_codebooks: int) -> Tensor:
        """Quantize latents; see `quantizing`."""
        return self.quantizing()(latents, num_codebooks)

    def dequantize(self, codes: Tensor) -> Tensor:
        """Convert codes to latents; see `dequantizing`."""
        return self.dequantizing()(codes)

    #: Whether `start_encoder` works within `without_compiling`.
    encodes_without_compiling = False

    # --- the interface -------------------------------------------------------------------------

    def token_tensors(self) -> dict[str, Tensor]:
        """Return all weights except the decoder's, which may be improved for the same codes."""
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
        """Create the spec from what only the family knows: its codebooks and its paper."""
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
            license=self.license,
            source=source,
            description=description,
            latent_channels=network.latent_dim,
            decodes_latents=True,
        )

    def embed_codes(self, codes: Tensor, differentiable: bool) -> Tensor:
        if not differentiable:
            return self.dequantize(codes[None])[0]
        quantizer: Quantizer = self.quantizer
        return quantizer.decode(codes.T[None])[0]

    def start_encoder(self, batch_size: int, num_codebooks: int) -> EncoderStream:
        encoder, tile = self._running_encoder()
        quantizing, in_arrays = self.quantizing(), self.quantizing_arrays()
        quantizer: Quantizer = self.still_quantizer()
        settings: dict[str, Any] = {
            "batch_size": batch_size,
            "hop": self.network.hop,
            "window": self.network.window,
            "look_ahead": self.network.encoder_look_ahead,
            "tile": tile,
            "channels": self.network.latent_dim,
            "unrounded": lambda latents: quantizer.unrounded(latents[None])[0],
            "num_codebooks": num_codebooks,
            "device": self.device,
        }

        def quantize(latents: Tensor) -> Tensor:
            return quantizing(latents[None], num_codebooks)[0]

        def quantize_array(latents: Array) -> Array:
            assert in_arrays is not None
            return in_arrays(latents, num_codebooks)

        if hasattr(encoder, "init_states"):
            from .streams.rows import RowEncoder  # imported here, since numba takes a while

            return RowEncoder(encoder, quantize, quantize_array if in_arrays else None, **settings)
        if tile is None:
            latents_of = together(lambda *given: encoder.latents(*given).float())
            return TileEncoder(latents_of, quantize, encoder.init_state, **settings)

        def tiles(windows: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
            latents, after = encoder.latents(windows.double(), state)
            return latents.float(), after

        if self._batches_tiles(batch_size):
            settings["tiles"] = tiles
        return TileEncoder(in_tiles(tiles), quantize, encoder.init_state, **settings)

    def start_decoder(self, batch_size: int) -> DecoderStream:
        decoder, compiled = self._running_decoder()
        dequantizing = self.dequantizing()
        return start_decoding(
            decoder,
            compiled,
            lambda codes: dequantizing(codes[None])[0],
            lambda latents: latents,
            input_arrays=self.dequantizing_arrays(),
            batch_size=batch_size,
            num_codebooks=self.spec.tokens.num_codebooks,
            in_features=self.network.latent_dim,
            hop=self.network.hop,
            delay=self.network.delay,
            device=self.device,
        )

    # --- derived from the weights, and cached --------------------------------------------------

    def prepared(self, make: Callable[[], Any]) -> Any:
        """Return the cached result of the method `make` for the current weights."""
        return self.identity(sampled=False).prepared(make)

    def still_quantizer(self) -> Any:
        """Return a copy of the quantizer that later weight changes don't affect."""
        return self.prepared(self._still_quantizer)

    def _running_encoder(self) -> tuple[Any, int | None]:
        """Return the encoder for this device, and its tile size (None if it has none)."""
        if is_compilable(self.encoder) and self.device.type == "cpu" and may_compile():
            return self.prepared(self._compiled_encoder), None
        return self.prepared(self._exact_encoder), TILE

    def _batches_tiles(self, rows: int) -> bool:
        """Whether the tiles of many rows are encoded together: see `streams/tile_batches.py`."""
        return rows > 1 and self.device.type != "cpu"

    def _running_decoder(self) -> tuple[nn.Module, Any]:
        """Return the decoder, and a function that compiles it if this device allows it."""
        if is_compilable(self.decoder) and self.device.type == "cpu":
            return self.decoder, lambda decoder: self.prepared(self._compiled_decoder)
        return self.prepared(self._still_decoder), None

    def _compiled_encoder(self) -> Any:
        return compiled_encoder(self.encoder)  # type: ignore[arg-type]

    def _compiled_decoder(self) -> Any:
        return compiled_decoder(self.decoder)  # type: ignore[arg-type]

    def _exact_encoder(self) -> nn.Module:
        return still(self.encoder).double()

    def _still_decoder(self) -> nn.Module:
        return still(self.decoder)

    def _still_quantizer(self) -> Any:
        return still(self.quantizer)

    def _compiled_levels(self) -> "CompiledLevels":
        """Scalar quantization in compiled code, for families that have it."""
        from .compiled.scalar_levels import (
            CompiledLevels,  # imported here, since numba takes a while to import
        )

        return CompiledLevels(self.still_quantizer())
