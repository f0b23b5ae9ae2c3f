"""Text, then speech; or speech, then text: synthesis and recognition as one sequence."""

from dataclasses import dataclass
from typing import ClassVar

from ..arrays import Array
from .sequence import MARKER, SPEECH, TEXT, Interleaved, Scheme


@dataclass(frozen=True)
class TextThenSpeech(Scheme):
    """``[text_begin] text [text_end] [speech_begin] speech [speech_end]``, markers as given.

    With ``learn=("speech", "marker")`` it is synthesis; Llasa, VALL-E and Orpheus train so.
    """

    name: ClassVar[str] = "text-then-speech"
    marker_fields: ClassVar[tuple[str, ...]] = (
        "text_begin", "text_end", "speech_begin", "speech_end",
    )  # fmt: skip
    text_begin: int | None = None
    text_end: int | None = None
    speech_begin: int | None = None
    speech_end: int | None = None

    def join(self, text: Array, speech: Array) -> Interleaved:
        """One sequence of text (n,) and speech (m,) ids.

        Raises:
            InterleavingError: no text, or ids of the wrong kind.
        """
        return self._sequence([*self._text_part(text), *self._speech_part(speech)])

    def _text_part(self, text: Array) -> list[tuple[int, object]]:
        return [(MARKER, self.text_begin), (TEXT, self._text(text)), (MARKER, self.text_end)]

    def _speech_part(self, speech: Array) -> list[tuple[int, object]]:
        return [
            (MARKER, self.speech_begin),
            (SPEECH, self._speech(speech)),
            (MARKER, self.speech_end),
        ]


@dataclass(frozen=True)
class SpeechThenText(TextThenSpeech):
    """``[speech_begin] speech [speech_end] [text_begin] text [text_end]``, markers as given.

    With ``learn=("text", "marker")`` it is recognition.
    """

    name: ClassVar[str] = "speech-then-text"

    def join(self, text: Array, speech: Array) -> Interleaved:
        return self._sequence([*self._speech_part(speech), *self._text_part(text)])
