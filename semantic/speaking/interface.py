"""`UnitVocoder`: the interface of vocoders for units."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType

from torch import nn

from ...codecs.streaming import DecoderStream


class UnitVocoder(nn.Module, ABC):
    """Turn units into speech.

    Attributes:
        sample_rate: of the speech, in Hz.
        hop: samples per frame.
        macs_per_second: multiply-accumulates per second of audio.
        broken_promises: for `TokenizerSpec.broken_promises`: what this vocoder can't guarantee.
    """

    sample_rate: int
    hop: int
    macs_per_second: float
    broken_promises: Mapping[str, str] = MappingProxyType({})

    @property
    @abstractmethod
    def latency(self) -> int:
        """Samples that the streamed output lags behind the codes."""

    @abstractmethod
    def start(self, batch_size: int) -> DecoderStream:
        """Create a decoder stream for `batch_size` rows of codes (codebooks, frames)."""
