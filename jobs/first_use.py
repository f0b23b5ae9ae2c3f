"""The first use of a tokenizer on a machine: what compiles, and when that pays off."""

from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING

from ..audio.manifests import Utterance
from ..codecs.neural.codec import NeuralCodec
from ..codecs.neural.without_compiling import without_compiling

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from ..codecs.interface import AudioTokenizer

#: Seconds of audio that PyTorch encodes in less time than compiling takes.
PAYS_OFF = 60.0


class FirstUse:
    """Decides for each file whether to encode it before the kernels are compiled.

    Where they are not, the first files are encoded by PyTorch, with the same codes, so that the
    first output is there in seconds and few short files need no compiling at all.

    Args:
        tokenizer: that encodes.
    """

    def __init__(self, tokenizer: "AudioTokenizer") -> None:
        self.seconds = 0.0
        #: Whether the next file may still be encoded without compiled kernels.
        self.waits = (
            isinstance(tokenizer, NeuralCodec)
            and tokenizer.encodes_without_compiling
            and tokenizer.device.type == "cpu"
            and not _is_compiled()
        )

    def of(self, item: Utterance) -> "AbstractContextManager[None]":
        """Return the context in which to encode an utterance."""
        if not self.waits:
            return nullcontext()
        seconds = item.duration_s if item.duration_s is not None else _seconds_of(item)
        if seconds is None or self.seconds + seconds > PAYS_OFF:
            self.waits = False
            return nullcontext()
        self.seconds += seconds
        return without_compiling()


def _is_compiled() -> bool:
    from ..codecs.neural.compiled.spectral_encoder import _layer_and
    from ..kernels.cache import is_compiled

    return is_compiled(_layer_and)


def _seconds_of(item: Utterance) -> float | None:
    """Return a file's duration by its header; None if it has none that can be read quickly."""
    import soundfile

    with suppress(Exception):  # of libsndfile, for whatever it can't read: the reader will say
        if not item.stream:
            return float(soundfile.info(str(item.path)).duration)
    return None
