"""The content encoder as a `SpeechEncoder`: streaming, with results independent of the batch."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...codecs.neural.compiled.cache import Compiled
from ...codecs.neural.streams.decoding import TILE, in_tiles, together
from ...codecs.neural.streams.tiles import TileLatents
from ..content.encoder import ContentConfig, ContentEncoder
from .interface import FeatureStream, SpeechEncoder


class Content(SpeechEncoder):
    """Features of a small network that was trained to predict units of masked frames.

    It runs in float64, compiled on a CPU, so a frame's features depend neither on the batch nor on
    the chunks of the audio.

    Args:
        config: see `ContentConfig`.
    """

    kind = "content"
    Config = ContentConfig
    source = "arXiv 2106.07447"
    description = "content"

    def __init__(self, config: ContentConfig | None = None) -> None:
        config = config or ContentConfig()
        super().__init__(config)
        self.sample_rate, self.hop = config.sample_rate, config.hop
        self.dims = (config.dim,)
        self.causal = config.look_ahead == 0
        self.latency = (1 + config.look_ahead) * config.hop
        self.network = ContentEncoder(config)
        self.macs_per_second = round(self.network.macs_per_frame * config.sample_rate / config.hop)
        self._compiled = Compiled(compiled_content)
        self._exact = Compiled(_in_float64)

    @classmethod
    def of(cls, network: ContentEncoder) -> "Content":
        """Create an encoder with a copy of a network's weights."""
        made = cls(network.config)
        made.network.load_state_dict(network.state_dict())
        return made.eval()

    def start(self, batch_size: int) -> FeatureStream:
        if self.device.type == "cpu":
            running: Any = self._compiled(self.network)
            tile, features_of = None, together(running.latents)
        else:
            running, tile = self._exact(self.network), TILE
            features_of = in_tiles(lambda windows, state: running.latents(windows.double(), state))

        def features(windows: Tensor, edges: Any, states: list[Any]) -> tuple[Tensor, list[Any]]:
            found, after = features_of(windows, edges, states)
            return found.float(), after

        return _ContentStream(
            features,
            running.init_state,
            batch_size=batch_size,
            hop=self.hop,
            window=self.config.window,
            look_ahead=self.config.look_ahead,
            tile=tile,
            channels=self.dim,
            device=self.device,
        )

    def hidden_states(self, waves: Tensor) -> dict[int, Tensor]:
        return self.network.hidden_states(waves)


class _ContentStream(TileLatents, FeatureStream):
    """`TileLatents` as a stream of features."""

    def push(self, rows: Sequence[Tensor], final: bool | Sequence[bool]) -> list[Tensor]:
        return TileLatents.push_latents(self, rows, final)


def compiled_content(network: ContentEncoder) -> Any:
    """Compile the network."""
    from ..content.compiled import CompiledContent  # here, since numba takes a while to import

    return CompiledContent(network)


def _in_float64(network: ContentEncoder) -> ContentEncoder:
    with torch.no_grad():
        return copy.deepcopy(network).double().eval().requires_grad_(False)
