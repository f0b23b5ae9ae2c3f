"""What a speech encoder does: a running machine that turns samples into features of frames."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from ...codecs import checkpoint
from ...codecs.streaming.protocol import RowStream
from ...errors import CheckpointError
from ...plain_torch import PlainModule, plainly


class FeatureStream(RowStream[Any]):
    """An encoder at work on several rows."""

    @abstractmethod
    def push(self, rows: Sequence[Tensor], final: bool | Sequence[bool]) -> list[Tensor]:
        """Take more samples and give the features that they settle.

        Args:
            rows: (samples,) float32 for each row; lengths may differ and may be 0.
            final: of each row, or of all: no more samples will come. The row must then have given
                ceil(n / hop) frames in all, where n is the number of samples that it ever took,
                and is as if it had heard nothing.

        Returns:
            (frames, dim) float32 for each row.
        """


class SpeechEncoder(PlainModule):
    """Speech to features of frames, always in eval mode: nothing is dropped by chance.

    A kind sets `kind` and `Config` (a frozen dataclass whose fields are JSON values), is made by
    ``kind(config)``, and supplies `start`. `catalogue.py` knows the kinds by name.

    Attributes:
        sample_rate: of the waves, in Hz.
        hop: samples per frame; n samples give ceil(n / hop) frames.
        dims: dimensions of each group of features; units get a codebook for each group.
        causal: a frame's features depend on no sample after that frame.
        latency: samples between the first sample of a frame and the last one that its features
            depend on, or None where that is the whole utterance.
        macs_per_second: multiply-accumulates per second of audio, or None if not counted.
        license: of the weights.
        source: paper or address.
        description: a few words.
        broken_promises: as in `TokenizerSpec`.
    """

    kind: ClassVar[str]
    Config: ClassVar[type]

    sample_rate: int
    hop: int
    dims: tuple[int, ...]
    causal: bool = False
    latency: int | None
    macs_per_second: int | None = None
    license: str = "Apache-2.0"
    source: str
    description: str

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self._anchor: Tensor  # says where this module is
        self.register_buffer("_anchor", torch.empty(0), persistent=False)

    @abstractmethod
    def start(self, batch_size: int) -> FeatureStream:
        """A fresh machine for `batch_size` rows."""

    def train(self, mode: bool = True) -> Self:
        """Does nothing; a module that holds this is trained without it."""
        return super().train(False)

    @property
    def broken_promises(self) -> dict[str, str]:
        return {}

    @property
    def dim(self) -> int:
        """Dimensions of all groups together."""
        return sum(self.dims)

    @property
    def device(self) -> torch.device:
        return self._anchor.device

    def fields(self) -> dict[str, Any]:
        """The configuration as JSON values, with the kind: what `catalogue.build` takes."""
        return {"kind": self.kind, **checkpoint.config_to_json(self.config)}

    @plainly
    def features(self, rows: Sequence[Tensor]) -> list[Tensor]:
        """Features (frames, dim) float32 of whole utterances (samples,) float32, each by itself."""
        with torch.autocast(self.device.type, enabled=False):
            return self.start(len(rows)).push(rows, True)

    def hidden_states(self, waves: Tensor) -> dict[int, Tensor]:
        """What the layers give for a batch, with a gradient for the waves; for losses.

        Rows run together and as long as they are, so padding is heard, and a model that was made
        for windows of one length (Whisper: 30 s) gets fewer positions. Features for tokens come
        from `features`, which has neither fault.

        Args:
            waves: (batch, samples) float32 at `sample_rate`, at least one frame.

        Returns:
            By layer, as `LayerChoice` counts them, (batch, frames, width); n samples have about
            n / hop frames.

        Raises:
            CheckpointError: no gradient passes through this kind's analysis.
        """
        raise CheckpointError(
            f"{self.description}: no gradient passes through its analysis, so nothing can be "
            "trained against it"
        )
