"""What a speech recognizer still understands of decoded speech.

The recognizer is pocketsphinx with the US English acoustic and language models inside it: small,
fast and the same everywhere, and easily confused. Its errors against a transcript say more of it
than of a codec; so the figure to compare is dWER, its errors on decoded speech against its own
words on the original.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from typing import Any, Protocol

import numpy as np

from .metrics.interface import MetricError
from .metrics.remembered import remembered
from .metrics.requirements import package
from .transcripts import words_of
from .units.phones import SAMPLE_RATE, hear, sixteen_bits

#: Environment variable: a directory or hub id of a CTC or Whisper model to listen instead.
ASR = "SYLLABARY_ASR"


class SpeechRecognizer(Protocol):
    """Anything that writes down what it hears.

    Attributes:
        name: with its version, for results.
        languages: that it knows, as ISO 639-1 has them; None: not told.
    """

    name: str
    languages: frozenset[str] | None

    def words(self, wave: np.ndarray, sample_rate: int) -> list[str]:
        """The words heard, in lower case and without punctuation; there may be none.

        Args:
            wave: (samples,), full scale at 1.
            sample_rate: 16000 Hz.

        Raises:
            MetricError: another rate or shape, or it gives up.
        """


def default_recognizer() -> SpeechRecognizer:
    """One a process: the model that the environment variable SYLLABARY_ASR names, or pocketsphinx.

    Raises:
        MetricError: the model can't be loaded, or no package for it.
    """
    return _recognizer(os.environ.get(ASR, ""))


@cache
def _recognizer(model: str) -> SpeechRecognizer:
    if not model:
        return Recognizer()
    from .pretrained_recognition import PretrainedRecognizer

    return PretrainedRecognizer(model)


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

    def words(self, wave: np.ndarray, sample_rate: int) -> list[str]:
        """The words heard. None at all is an answer too, and silence may be heard as a word.

        Args:
            wave: (samples,), full scale at 1; taken to 16 bits, samples beyond clamped.
            sample_rate: 16000 Hz.

        Raises:
            MetricError: another rate or shape, or the recognizer gives up.
        """
        return list(self._recall(wave, sample_rate))

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
        edits: substitutions, deletions and insertions in all.
        words: of the references in all: the divisor.
        utterances: counted.
    """

    edits: int = 0
    words: int = 0
    utterances: int = 0

    @property
    def rate(self) -> float:
        """Edits over words, which may exceed 1.

        Raises:
            MetricError: there are no words.
        """
        if not self.words:
            raise MetricError("word error rate: the references have no words")
        return self.edits / self.words

    def __add__(self, other: "WordErrors") -> "WordErrors":
        return WordErrors(
            self.edits + other.edits, self.words + other.words, self.utterances + other.utterances
        )


def word_errors(reference: list[str], heard: list[str]) -> WordErrors:
    """Errors of one utterance, by `jiwer`.

    Raises:
        MetricError: the reference has no words, or no `jiwer` package.
    """
    if not reference:
        raise MetricError("word error rate: the reference has no words")
    found = package("jiwer").process_words(" ".join(reference), " ".join(heard))
    edits = found.substitutions + found.deletions + found.insertions
    return WordErrors(edits, len(reference), 1)


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
    """

    name: str
    original: np.ndarray
    decoded: np.ndarray
    text: str | None = None


def recognition_errors(
    utterances: Iterable[DecodedUtterance], recognizer: SpeechRecognizer | None = None
) -> RecognitionReport:
    """Word errors of decoded speech, total edits over total words.

    An utterance in whose original nothing is heard, or on which the recognizer fails, is named in
    `failures` and counts nowhere; one in whose decoded form nothing is heard counts as all words
    deleted.

    Args:
        utterances: to be listened to.
        recognizer: default: `Recognizer`, a new one.

    Raises:
        MetricError: no `pocketsphinx` or `jiwer` package.
    """
    listener: SpeechRecognizer = Recognizer() if recognizer is None else recognizer
    package("jiwer")
    report = RecognitionReport()
    for item in utterances:
        try:
            expected = listener.words(item.original, SAMPLE_RATE)
            heard = listener.words(item.decoded, SAMPLE_RATE)
            if not expected:
                raise MetricError("nothing is heard in the original")
        except MetricError as error:
            report.failures[item.name] = str(error)
            continue
        report.against_original += word_errors(expected, heard)
        if item.text is not None and (spoken := words_of(item.text)):
            report.against_text += word_errors(spoken, heard)
            report.original_against_text += word_errors(spoken, expected)
    return report
