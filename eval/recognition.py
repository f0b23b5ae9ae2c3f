"""Word errors of speech recognition on decoded speech.

The recogniser is pocketsphinx with its US English acoustic and language models, small, identical
everywhere and weak; or Whisper, or another model, if one is named. Errors against a transcript
depend more on the recogniser than on a codec, so the figure for comparisons is dWER: errors on
decoded speech against the recogniser's own transcript of the original.

A recogniser that repeats a phrase until its window is full would add a hundred errors on one clip.
So the errors of an utterance are capped at the number of its words, and the number of capped
utterances is reported beside the rate; an original on which it loops is left out, and named.
"""

import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from typing import Any, Protocol

import numpy as np

from ..audio.forced_alignment import SAMPLE_RATE, decode_utterance
from ..audio.transcripts import words_of
from .analysis_cache import remembered
from .requirements import MetricError, package
from .unit_measures.alignment import sixteen_bits

#: Environment variable with the model to use instead of pocketsphinx, as for `find_model`.
ASR = "SYLLABARY_ASR"

#: A text's size over its size compressed by zlib, from which it is regarded as a loop (Radford et
#: al., arXiv 2212.04356, section 4.5). Two sentences have about 1.5.
LOOP_RATIO = 2.4
# Characters that are looked at together, about as many as Whisper writes in its 30 s: the ratio
# rises with the length of any text.
_LOOP_WINDOW = 1000


class SpeechRecognizer(Protocol):
    """A speech recogniser.

    Attributes:
        name: with its version, for results.
        languages: supported languages in ISO 639-1; None: a language is not selected.
    """

    name: str
    languages: frozenset[str] | None

    def words(self, wave: np.ndarray, sample_rate: int, language: str | None = None) -> list[str]:
        """Recognise speech; return words in lower case and without punctuation, possibly none.

        Args:
            wave: (samples,), full scale at 1.
            sample_rate: 16000 Hz.
            language: spoken language, one of `languages` if it has those; None: unknown.

        Raises:
            MetricError: another rate or shape, or recognition fails.
        """

    def language_of(self, wave: np.ndarray, sample_rate: int) -> str | None:
        """Identify the language; None if the recogniser has a fixed language.

        Raises:
            MetricError: as `words`.
        """


def default_recognizer() -> SpeechRecognizer:
    """Return the model named by the environment variable SYLLABARY_ASR, or pocketsphinx; one per
    process.

    Raises:
        MetricError: the model can't be loaded, or no package for it.
    """
    return open_recognizer(os.environ.get(ASR, ""))


@cache
def open_recognizer(model: str) -> SpeechRecognizer:
    """Return a recogniser, one per process and model.

    Args:
        model: as for `find_model`; empty: pocketsphinx.

    Raises:
        MetricError: the model can't be loaded, or no package for it.
    """
    if not model:
        return Recognizer()
    from .pretrained_recognition import PretrainedRecognizer
    from .recogniser_folders import find_model
    from .whisper_recognition import WhisperRecognizer

    found = find_model(model)
    return PretrainedRecognizer(found) if found.kind == "other" else WhisperRecognizer(found)


@contextmanager
def listening_with(model: str | None) -> Iterator[None]:
    """Make a model the default inside a `with` block, in this process and its children.

    Args:
        model: as for `find_model`; None does not change the default.
    """
    before = os.environ.get(ASR)
    if model is not None:
        os.environ[ASR] = model
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(ASR, None)
        else:
            os.environ[ASR] = before


def recognition_language(
    listener: SpeechRecognizer, said: str | None, original: np.ndarray, sample_rate: int
) -> str | None:
    """Return the language for recognising an original and its reconstructions.

    If it is unknown, the recogniser identifies it once, from the original: a damaged reconstruction
    must not be recognised in another language.

    Args:
        listener: the recogniser.
        said: the language of the item, such as ``en`` or ``pt-BR``, if known.
        original: (samples,).
        sample_rate: Hz.

    Raises:
        MetricError: the recogniser does not support it.
    """
    if said is None:
        return listener.language_of(original, sample_rate)
    language = said.replace("_", "-").partition("-")[0].lower()
    known = listener.languages
    if known is not None and language not in known:
        if len(known) > 8:
            raise MetricError(f"{listener.name} does not know the language {language}")
        raise MetricError(f"{listener.name} knows {', '.join(sorted(known))}; this is {language}")
    return language


def words_of_original(
    listener: SpeechRecognizer, original: np.ndarray, sample_rate: int, language: str | None
) -> list[str]:
    """Recognise an original, as the reference for its reconstructions.

    Raises:
        MetricError: no words are recognised, the recogniser loops, or it fails.
    """
    words = listener.words(original, sample_rate, language)
    if not words:
        raise MetricError("nothing is recognised in the original")
    if in_a_loop(words):
        raise MetricError("the recognizer falls into a loop on the original")
    return words


def in_a_loop(words: Sequence[str]) -> bool:
    """Whether a recogniser repeated a phrase far more often than speech does.

    Every character counts as one byte, or two where there are more than 256, so that a script whose
    letters have three bytes in UTF-8 is not taken for a loop.
    """
    text = " ".join(words)
    numbers = {character: number for number, character in enumerate(dict.fromkeys(text))}
    width = 1 if len(numbers) <= 256 else 2
    starts = range(0, max(1, len(text) - _LOOP_WINDOW // 2), _LOOP_WINDOW // 2)
    for start in starts:
        window = text[start : start + _LOOP_WINDOW]
        content = b"".join(numbers[character].to_bytes(width) for character in window)
        if len(content) > LOOP_RATIO * len(zlib.compress(content)):
            return True
    return False


class Recognizer:
    """Pocketsphinx, reset before every utterance.

    A reused decoder keeps estimates of noise and cepstral means, which change the next utterance's
    scores slightly; so its front end is restarted, and words depend only on the utterance.
    Transcripts are cached by the samples, so that several codecs share the originals'.

    Raises:
        MetricError: no `pocketsphinx` package.
    """

    languages: frozenset[str] | None = frozenset({"en"})

    def __init__(self) -> None:
        self._pocketsphinx = package("pocketsphinx")
        self.name = f"pocketsphinx {version('pocketsphinx')}, US English"
        self._decoder: Any = None
        self._recall = remembered(self._listen)

    def words(self, wave: np.ndarray, sample_rate: int, language: str | None = None) -> list[str]:
        """Recognise speech; there may be no words, and silence may be recognised as a word.

        Args:
            wave: (samples,), full scale at 1; converted to 16 bits, samples beyond clamped.
            sample_rate: 16000 Hz.
            language: ignored; the model is English.

        Raises:
            MetricError: another rate or shape, or recognition fails.
        """
        return list(self._recall(wave, sample_rate))

    def language_of(self, wave: np.ndarray, sample_rate: int) -> str | None:
        return "en"

    def _listen(self, wave: np.ndarray, sample_rate: int) -> tuple[str, ...]:
        samples = sixteen_bits(wave, sample_rate)
        if self._decoder is None:
            self._decoder = self._pocketsphinx.Decoder(
                samprate=SAMPLE_RATE, cmn="batch", loglevel="FATAL"
            )
        self._decoder.reinit_feat()
        try:
            decode_utterance(self._decoder, samples)
        except RuntimeError as error:
            self._decoder = None  # its state is unknown after an error
            raise MetricError(f"recognition: {error}") from None
        recognised = self._decoder.hyp()
        return tuple(words_of(recognised.hypstr)) if recognised else ()


@dataclass(frozen=True)
class WordErrors:
    """Word errors over many utterances.

    Attributes:
        edits: total substitutions, deletions and insertions, per utterance at most its words.
        utterances: counted.
        words: total of the references: the divisor.
        capped: utterances that had more edits than words.
        excess: edits above the cap, which are not counted.
    """

    edits: int = 0
    words: int = 0
    utterances: int = 0
    capped: int = 0
    excess: int = 0

    @property
    def rate(self) -> float:
        """Edits over words, from 0 to 1.

        Raises:
            MetricError: there are no words.
        """
        if not self.words:
            raise MetricError("word error rate: the references have no words")
        return self.edits / self.words

    def __add__(self, other: "WordErrors") -> "WordErrors":
        return WordErrors(
            self.edits + other.edits,
            self.words + other.words,
            self.utterances + other.utterances,
            self.capped + other.capped,
            self.excess + other.excess,
        )


def capped_errors(edits: int, length: int) -> WordErrors:
    """Cap the errors of an utterance at its number of words (or characters)."""
    excess = max(0, edits - length)
    return WordErrors(edits - excess, length, 1, int(excess > 0), excess)


def word_errors(reference: list[str], recognised: list[str]) -> WordErrors:
    """Count the errors of one utterance by `jiwer`, capped at the number of its words.

    Raises:
        MetricError: the reference has no words, or no `jiwer` package.
    """
    if not reference:
        raise MetricError("word error rate: the reference has no words")
    found = package("jiwer").process_words(" ".join(reference), " ".join(recognised))
    edits = found.substitutions + found.deletions + found.insertions
    return capped_errors(edits, len(reference))


@dataclass
class RecognitionReport:
    """Word errors of decoded speech.

    Attributes:
        against_original: dWER: transcripts of decoded speech against those of the original.
        against_text: transcripts of decoded speech against reference texts, if there are any.
        original_against_text: transcripts of the original against reference texts, for the same
            utterances as `against_text`.
        failures: by name of the utterance, why it is not counted.
    """

    against_original: WordErrors = field(default_factory=WordErrors)
    against_text: WordErrors = field(default_factory=WordErrors)
    original_against_text: WordErrors = field(default_factory=WordErrors)
    failures: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class DecodedUtterance:
    """An original with its reconstruction.

    Attributes:
        name: for reports.
        original, decoded: (samples,) at 16 kHz.
        text: reference text, if known.
        language: spoken language, if known.
    """

    name: str
    original: np.ndarray
    decoded: np.ndarray
    text: str | None = None
    language: str | None = None


def recognition_errors(
    utterances: Iterable[DecodedUtterance], recognizer: SpeechRecognizer | None = None
) -> RecognitionReport:
    """Compute word errors of decoded speech, total edits over total words.

    An utterance is listed in `failures` and excluded if no words, or a loop, are recognised in its
    original, or if the recogniser fails; if no words are recognised in its reconstruction, all are
    counted as deleted.

    Args:
        utterances: to be recognised.
        recognizer: default: `default_recognizer`.

    Raises:
        MetricError: no `pocketsphinx` or `jiwer` package.
    """
    listener = default_recognizer() if recognizer is None else recognizer
    package("jiwer")
    report = RecognitionReport()
    for item in utterances:
        try:
            language = recognition_language(listener, item.language, item.original, SAMPLE_RATE)
            expected = words_of_original(listener, item.original, SAMPLE_RATE, language)
            recognised = listener.words(item.decoded, SAMPLE_RATE, language)
        except MetricError as error:
            report.failures[item.name] = str(error)
            continue
        report.against_original += word_errors(expected, recognised)
        if item.text is not None and (spoken := words_of(item.text)):
            report.against_text += word_errors(spoken, recognised)
            report.original_against_text += word_errors(spoken, expected)
    return report
