"""`UnitVocoder`: the interface of vocoders for units."""

from abc import abstractmethod

from ...codecs.streaming import DecoderStream
from ...codecs.streaming.vocoder import Vocoder


class UnitVocoder(Vocoder):
    """Turn units into speech.

    Attributes:
        sample_rate: of the speech, in Hz.
    """

    sample_rate: int

    @abstractmethod
    def start(self, batch_size: int) -> DecoderStream:
        """Create a decoder stream for `batch_size` rows of codes (codebooks, frames)."""
