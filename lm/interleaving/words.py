"""Spans of words as text or as units, along the words' times: SpiritLM, slamkit."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, NamedTuple

import numpy as np

from ...errors import InterleavingError
from ..arrays import Array
from .sequence import MARKER, SPEECH, TEXT, Interleaved, Scheme

#: Times are compared in frames, after rounding to this many decimals: 0.2 s at 12.5 frames a
#: second is 2.5, whatever its last bit.
_DECIMALS = 6


class Word(NamedTuple):
    """A word of a transcript.

    Attributes:
        ids: of the word in the text vocabulary.
        start, end: in seconds.
        speaker: who says it.
    """

    ids: Sequence[int]
    start: float
    end: float
    speaker: str = ""


@dataclass(frozen=True)
class Span:
    """Words, and the units spoken with them, half-open: every unit is in exactly one span.

    Attributes:
        speech: whether it is written as units, or as text.
        words: first and last + 1.
        units: first and last + 1.
    """

    speech: bool
    words: tuple[int, int]
    units: tuple[int, int]


@dataclass(frozen=True)
class WordAligned(Scheme):
    """Spans of words, each as text or as units, with a marker at each change.

    SpiritLM (Nguyen et al., 2024). Between two spans, the cut falls into the middle of the pause
    (or of the overlap) between their words, and a unit belongs to the side of its own middle, a tie
    to the later. So units are divided: none is said twice, and none is left out.

    Attributes:
        frame_rate: units a second, where each is a frame; frames a second, where they have
            durations. A pair of whole numbers is a fraction.
        text_marker, speech_marker: before each span; None for none.
    """

    name: ClassVar[str] = "word-aligned"
    marker_fields: ClassVar[tuple[str, ...]] = ("text_marker", "speech_marker")
    frame_rate: tuple[int, int] = (25, 1)
    text_marker: int | None = None
    speech_marker: int | None = None

    def __post_init__(self) -> None:
        rate = self.frame_rate
        if isinstance(rate, int | float | Fraction):
            object.__setattr__(self, "frame_rate", Fraction(rate).as_integer_ratio())
        super().__post_init__()
        if min(self.frame_rate) < 1:
            raise InterleavingError(f"frame_rate must be positive, got {self.frame_rate}")

    def join(
        self,
        words: Sequence[Word],
        speech: Array,
        as_speech: Array,
        durations: Array | None = None,
    ) -> tuple[Interleaved, list[Span]]:
        """One sequence, and its spans.

        Args:
            words: in order, with times.
            speech: (units,) ids, or (frames, k).
            as_speech: (words,) bool: which words are written as units; `draw_spans` draws them.
            durations: (units,) frames of each, where units are merged; default: 1 each.

        Raises:
            InterleavingError: no words, times out of order, or arrays that don't agree.
        """
        units = self._speech(speech)
        spoken = np.asarray(as_speech, bool)
        check_words(words)
        if spoken.shape != (len(words),):
            raise InterleavingError(f"as_speech has shape {spoken.shape} for {len(words)} words")
        begins = np.flatnonzero(np.diff(spoken)) + 1
        cuts = cut_units(
            self._pauses(words, begins), len(units), Fraction(*self.frame_rate), durations
        )
        word_ends = [0, *begins.tolist(), len(words)]
        unit_ends = [0, *cuts.tolist(), len(units)]
        spans, parts = [], []
        for number in range(len(word_ends) - 1):
            span = Span(
                bool(spoken[word_ends[number]]),
                (word_ends[number], word_ends[number + 1]),
                (unit_ends[number], unit_ends[number + 1]),
            )
            spans.append(span)
            if span.speech:
                parts += [(MARKER, self.speech_marker), (SPEECH, units[slice(*span.units)])]
            else:
                text = [i for word in words[slice(*span.words)] for i in word.ids]
                parts += [(MARKER, self.text_marker), (TEXT, self._text(text))]
        return self._sequence(parts), spans

    def _pauses(self, words: Sequence[Word], begins: np.ndarray) -> np.ndarray:
        """The middle of the pause before each of these words, in seconds."""
        times = [(words[at - 1].end + words[at].start) / 2 for at in begins.tolist()]
        return np.maximum.accumulate(np.array(times)) if times else np.empty(0)


def cut_units(
    times: Array, count: int, frame_rate: Fraction, durations: Array | None = None
) -> np.ndarray:
    """How many units come before each time: those whose middle does.

    Args:
        times: (n,) seconds, in order.
        count: of units.
        frame_rate: frames a second.
        durations: (count,) frames of each unit; default: 1 each.

    Returns:
        (n,) int64, in order.

    Raises:
        InterleavingError: durations of another number, or none of at least 1.
    """
    lasting = np.ones(count, np.int64) if durations is None else np.asarray(durations, np.int64)
    if lasting.shape != (count,) or (count and lasting.min() < 1):
        raise InterleavingError(
            f"durations must be frames, 1 or more, for each of {count} units; got "
            f"{lasting.shape[0] if lasting.ndim else 'one number'}"
        )
    ends = np.cumsum(lasting)
    middles = ends - lasting + ends  # twice, to be whole
    twice = np.round(2 * np.asarray(times, np.float64) * float(frame_rate), _DECIMALS)
    return np.searchsorted(middles, twice, side="left")


def draw_spans(words: int, seed: int, mean_text: float = 10, mean_speech: float = 10) -> np.ndarray:
    """Spans of words at random, text and speech in turn: (words,) bool, true where speech.

    Lengths are one and a Poisson number, as slamkit and "Scaling Speech-Text Pre-training with
    Synthetic Interleaved Data" (Zeng et al., 2024) have them; which comes first is a coin's fall.
    The same seed gives the same spans.
    """
    if mean_text < 1 or mean_speech < 1:
        raise InterleavingError("a span has 1 word or more on average")
    rng = np.random.default_rng(seed)
    spoken = bool(rng.integers(2))
    kinds = np.zeros(words, bool)
    at = 0
    while at < words:
        length = 1 + int(rng.poisson((mean_speech if spoken else mean_text) - 1))
        kinds[at : at + length] = spoken
        at, spoken = at + length, not spoken
    return kinds


def check_words(words: Sequence[Word]) -> None:
    """Raise `InterleavingError` unless there are words whose times are in order."""
    if not len(words):
        raise InterleavingError(
            "there are no words: give an alignment (CTM, TextGrid, or a forced alignment), or "
            "leave the utterance out"
        )
    last = 0.0
    for number, word in enumerate(words):
        if not (last <= word.start <= word.end < float("inf")):
            raise InterleavingError(
                f"word {number} lasts from {word.start} to {word.end} s, after one that starts at "
                f"{last} s: words must be in order, with times in seconds"
            )
        last = word.start
