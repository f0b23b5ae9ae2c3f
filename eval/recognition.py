"""What a speech recognizer still understands of decoded speech.

The recognizer is pocketsphinx with the US English acoustic and language models inside it, small,
the same everywhere and easily confused; or Whisper, or another model, where one is named. Errors
against a transcript say more of the recognizer than of a codec; so the figure to compare is dWER,
its errors on decoded speech against its own words on the original.

A recognizer that writes the same phrase again and again until its window is full adds a hundred
errors on one clip. So the errors of an utterance are capped at the number of its words, as if
nothing had been heard, and how often that happened is told beside the rate; an original on which it
does so is left out, and named.
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

from .metrics.cache import remembered
from .metrics.interface import MetricError
from .metrics.requirements import package
from .transcripts import words_of
from .unit_measures.alignment import SAMPLE_RATE, hear, sixteen_bits

#: Environment variable: the model that listens instead of pocketsphinx, as `find_model` takes it.
ASR = "SYLLABARY_ASR"

#: Bytes of a text over its bytes compressed by zlib, from which it is taken for a loop (Radford et
#: al., arXiv 2212.04356, section 4.5). Two sentences have about 1.5.
LOOP_RATIO = 2.4


class SpeechRecognizer(Protocol):
    """Anything that writes down what it hears.

    Attributes:
        name: with its version, for results.
        languages: that it knows, as ISO 639-1 has them; None: not told.
    """

    name: str
    languages: frozenset[str] | None

    def words(self, wave: np.ndarray, sample_rate: int, language: str | None = None) -> list[str]:
        """The words heard, in lower case and without punctuation; there may be none.

        Args:
            wave: (samples,), full scale at 1.
            sample_rate: 16000 Hz.
            language: that is spoken, one of `languages` where it has those; None: not known.

        Raises:
            MetricError: another rate or shape, or it gives up.
        """

    def language_of(self, wave: np.ndarray, sample_rate: int) -> str | None:
        """The language that it would hear there if it is told none; None where it has no choice.

        Raises:
            MetricError: as `words`.
        """


def default_recognizer() -> SpeechRecognizer:
    """One a process: the model that the environment variable SYLLABARY_ASR names, or pocketsphinx.

    Raises:
        MetricError: the model can't be loaded, or no package for it.
    """
    return open_recognizer(os.environ.get(ASR, ""))


@cache
def open_recognizer(model: str) -> SpeechRecognizer:
    """One a process and model.

    Args:
        model: as `find_model` takes it; empty: pocketsphinx.

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
    """Make a model the default for a while, in this process and those that it starts.

    Args:
        model: as `find_model` takes it; None leaves the default as it is.
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


def language_to_hear(
    listener: SpeechRecognizer, said: str | None, original: np.ndarray, sample_rate: int
) -> str | None:
    """The language in which an original and all that was made of it are listened to.

    Where nobody says it, the recognizer tells it by the original, once: what is left of a sentence
    must not be heard in another language because it is damaged.

    Args:
        listener: that will hear it.
        said: the language of the item, such as ``en`` or ``pt-BR``, if known.
        original: (samples,).
        sample_rate: Hz.

    Raises:
        MetricError: the recognizer does not know it.
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
    """What is heard in an original, to compare with.

    Raises:
        MetricError: nothing is, or the recognizer falls into a loop, or it gives up.
    """
    words = listener.words(original, sample_rate, language)
    if not words:
        raise MetricError("nothing is heard in the original")
    if in_a_loop(words):
        raise MetricError("the recognizer falls into a loop on the original")
    return words


def in_a_loop(words: Sequence[str]) -> bool:
    """Whether a recognizer wrote a phrase again and again, as speech does not."""
    text = " ".join(words).encode()
    return bool(text) and len(text) > LOOP_RATIO * len(zlib.compress(text))


class Recognizer:
    """Pocketsphinx, as if anew for every utterance.

    A decoder that is used again keeps estimates of the noise and of cepstral means, and scores a
    little differently after another utterance; so its front end starts again before each. Words
    depend on nothing but the utterance. Those of samples that were heard before are remembered, so
    that several codecs share the originals'.

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
        """The words heard. None at all is an answer too, and silence may be heard as a word.

        Args:
            wave: (samples,), full scale at 1; taken to 16 bits, samples beyond clamped.
            sample_rate: 16000 Hz.
            language: it hears English whatever this says.

        Raises:
            MetricError: another rate or shape, or the recognizer gives up.
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
            hear(self._decoder, samples)
        except RuntimeError as error:
            self._decoder = None  # whatever state that left it in
            raise MetricError(f"recognition: {error}") from None
        heard = self._decoder.hyp()
        return tuple(words_of(heard.hypstr)) if heard else ()


@dataclass(frozen=True)
class WordErrors:
    """Errors over many utterances.

    Attributes:
        edits: substitutions, deletions and insertions in all, of an utterance at most its words.
        words: of the references in all: the divisor.
        utterances: counted.
        capped: utterances that had more edits than words.
        excess: edits that were not counted for that.
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
    """Errors of one utterance of so many words (or characters), capped at that number."""
    excess = max(0, edits - length)
    return WordErrors(edits - excess, length, 1, int(excess > 0), excess)


def word_errors(reference: list[str], heard: list[str]) -> WordErrors:
    """Errors of one utterance, by `jiwer`, capped at the number of its words.

    Raises:
        MetricError: the reference has no words, or no `jiwer` package.
    """
    if not reference:
        raise MetricError("word error rate: the reference has no words")
    found = package("jiwer").process_words(" ".join(reference), " ".join(heard))
    edits = found.substitutions + found.deletions + found.insertions
    return capped_errors(edits, len(reference))


@dataclass
class RecognitionReport:
    """Word errors of decoded speech.

    Attributes:
        against_original: dWER: words heard in the decoded speech against those in the original.
        against_text: words heard in the decoded speech against transcripts, where there are any.
        original_against_text: words heard in the original against transcripts, of the same
            utterances as `against_text`.
        failures: by name of the utterance, why it is not counted.
    """

    against_original: WordErrors = field(default_factory=WordErrors)
    against_text: WordErrors = field(default_factory=WordErrors)
    original_against_text: WordErrors = field(default_factory=WordErrors)
    failures: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class DecodedUtterance:
    """What is compared.

    Attributes:
        name: for reports.
        original, decoded: (samples,) at 16 kHz.
        text: what was said, if known.
        language: that it was said in, if known.
    """

    name: str
    original: np.ndarray
    decoded: np.ndarray
    text: str | None = None
    language: str | None = None


def recognition_errors(
    utterances: Iterable[DecodedUtterance], recognizer: SpeechRecognizer | None = None
) -> RecognitionReport:
    """Word errors of decoded speech, total edits over total words.

    An utterance in whose original nothing is heard, or a loop, or on which the recognizer fails, is
    named in `failures` and counts nowhere; one in whose decoded form nothing is heard counts as all
    words deleted.

    Args:
        utterances: to be listened to.
        recognizer: default: `default_recognizer`.

    Raises:
        MetricError: no `pocketsphinx` or `jiwer` package.
    """
    listener = default_recognizer() if recognizer is None else recognizer
    package("jiwer")
    report = RecognitionReport()
    for item in utterances:
        try:
            language = language_to_hear(listener, item.language, item.original, SAMPLE_RATE)
            expected = words_of_original(listener, item.original, SAMPLE_RATE, language)
            heard = listener.words(item.decoded, SAMPLE_RATE, language)
        except MetricError as error:
            report.failures[item.name] = str(error)
            continue
        report.against_original += word_errors(expected, heard)
        if item.text is not None and (spoken := words_of(item.text)):
            report.against_text += word_errors(spoken, heard)
            report.original_against_text += word_errors(spoken, expected)
    return report
