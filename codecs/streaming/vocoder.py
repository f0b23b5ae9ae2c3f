"""`Vocoder`: what the vocoders for dMel and for units have in common."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType

from torch import nn


class Vocoder(nn.Module, ABC):
    """Turn frames into speech.

    Attributes:
        hop: samples per frame.
        macs_per_second: multiply-accumulates per second of audio.
        broken_promises: for `TokenizerSpec.broken_promises`: what this vocoder can't guarantee.
    """

    hop: int
    macs_per_second: float
    broken_promises: Mapping[str, str] = MappingProxyType({})

    @property
    @abstractmethod
    def latency(self) -> int:
        """Samples that the streamed output lags behind the codes."""
