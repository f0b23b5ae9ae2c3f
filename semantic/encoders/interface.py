"""The interface of speech encoders, which turn samples into features per frame."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from ...codecs import checkpoint
from ...codecs.streaming.protocol import LatentStream
from ...errors import CheckpointError
from ...plain_torch import PlainModule, plainly


class FeatureStream(LatentStream):
    """A stateful stream from samples to features, over several rows.

    Features are the latents of unit tokenizers.
    """

    @abstractmethod
    def push(self, rows: Sequence[Tensor], final: bool | Sequence[bool]) -> list[Tensor]:
        """Take more samples and return the features that they complete.

        Args:
            rows, final: see `codecs.streaming.EncoderStream.push`.

        Returns:
            (frames, dim) float32 for each row.
        """

    def push_latents(self, rows: Sequence[Tensor], final: bool | Sequence[bool]) -> list[Tensor]:
        return self.push(rows, final)


class SpeechEncoder(PlainModule):
    """Compute features of frames of speech; always in eval mode, without dropout.

    A subclass sets `kind` and `Config` (a frozen dataclass whose fields are JSON values), is
    created by ``kind(config)``, and implements `start`. `catalogue.py` lists the kinds by name.

    Attributes:
        sample_rate: of the waves, in Hz.
        hop: samples per frame; n samples give ceil(n / hop) frames.
        dims: dimensions of each group of features; unit tokenizers have one codebook per group.
        causal: whether a frame's features depend on no sample after that frame.
        latency: samples from the first sample of a frame to the last one that its features depend
            on; None if that is the whole utterance.
        macs_per_second: multiply-accumulates per second of audio, or None if not counted.
        license: of the weights.
        source: paper or URL.
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
        self._anchor: Tensor  # its device is the module's device
        self.register_buffer("_anchor", torch.empty(0), persistent=False)

    @abstractmethod
    def start(self, batch_size: int) -> FeatureStream:
        """Create a stream of `batch_size` rows."""

    def train(self, mode: bool = True) -> Self:
        """Do nothing: when a module that contains this one is trained, this one is not."""
        return super().train(False)

    @property
    def broken_promises(self) -> dict[str, str]:
        return {}

    @property
    def dim(self) -> int:
        """Total dimensions of all groups."""
        return sum(self.dims)

    @property
    def device(self) -> torch.device:
        return self._anchor.device

    def fields(self) -> dict[str, Any]:
        """Return configuration and kind as JSON values, for `catalogue.build`."""
        return {"kind": self.kind, **checkpoint.config_to_json(self.config)}

    @plainly
    def features(self, rows: Sequence[Tensor]) -> list[Tensor]:
        """Compute features (frames, dim) of whole utterances (samples,), one by one; float32."""
        with torch.autocast(self.device.type, enabled=False):
            return self.start(len(rows)).push(rows, True)

    def hidden_states(self, waves: Tensor) -> dict[int, Tensor]:
        """Return the layers' outputs for a batch, differentiable with respect to the waves; for
        losses.

        Rows run together without a mask, so padding affects them, and a model for windows of one
        length (Whisper: 30 s) gets fewer positions. Features for tokens come from `features`, which
        has neither drawback.

        Args:
            waves: (batch, samples) float32 at `sample_rate`, at least one frame.

        Returns:
            Outputs (batch, frames, width) by layer, counted as in `LayerChoice`; n samples have
            about n / hop frames.

        Raises:
            CheckpointError: this kind's analysis is not differentiable.
        """
        raise CheckpointError(
            f"{self.description}: no gradient passes through its analysis, so nothing can be "
            "trained against it"
        )
