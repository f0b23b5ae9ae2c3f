"""Word and character errors of a recogniser: against the text, and against its own transcript.

The recogniser is pocketsphinx with the US English model inside its package, small and weak; or the
model named by the environment variable SYLLABARY_ASR, such as Whisper. Errors against the text
depend more on the recogniser than on a codec; to compare codecs, use those against its transcript
of the original. Each is a `Ratio`, so a mean is total edits over total words; the edits of an
utterance are capped at its length, since a recogniser that loops on one would add a hundred.
"""

from collections.abc import Sequence
from dataclasses import replace

from ...audio.transcripts import words_of
from ..recognition import (
    WordErrors,
    capped_errors,
    default_recognizer,
    recognition_language,
    word_errors,
    words_of_original,
)
from .interface import Clip, Metric, MetricError, Ratio
from .requirements import check_pair, package

_RATE = 16000


def word_error(clip: Clip) -> Ratio:
    """WER: word edits between the text and the transcript of the reconstruction, over the text's
    words.

    Raises:
        MetricError: another rate than 16000 Hz, no text, a language that the recogniser does not
            know, it fails, or a package is missing.
    """
    return _word_ratio(_words_of_text(clip), _words_of_estimate(clip))


def character_error(clip: Clip) -> Ratio:
    """CER: as `word_error`, in characters of the words with single spaces between them.

    Raises:
        MetricError: as `word_error`.
    """
    return _character_ratio(_words_of_text(clip), _words_of_estimate(clip))


def differential_word_error(clip: Clip) -> Ratio:
    """dWER: word edits between the transcripts of the original and of the reconstruction.

    Raises:
        MetricError: no words are recognised in the original, the two can't be compared, or as
            `word_error`.
    """
    return _word_ratio(_words_of_original(clip), _words_of_estimate(clip))


def differential_character_error(clip: Clip) -> Ratio:
    """dCER: as `differential_word_error`, in characters.

    Raises:
        MetricError: as `differential_word_error`.
    """
    return _character_ratio(_words_of_original(clip), _words_of_estimate(clip))


def _words_of_text(clip: Clip) -> list[str]:
    words = words_of(clip.text or "")
    if not words:
        raise MetricError("no text to compare with")
    return words


def _words_of_estimate(clip: Clip) -> list[str]:
    listener = default_recognizer()
    language = recognition_language(listener, clip.language, clip.reference, clip.sample_rate)
    return listener.words(clip.estimate, clip.sample_rate, language)


def _words_of_original(clip: Clip) -> list[str]:
    check_pair(clip)
    listener = default_recognizer()
    language = recognition_language(listener, clip.language, clip.reference, clip.sample_rate)
    return words_of_original(listener, clip.reference, clip.sample_rate, language)


def _word_ratio(expected: Sequence[str], recognised: Sequence[str]) -> Ratio:
    return _ratio(word_errors(list(expected), list(recognised)))


def _character_ratio(expected: Sequence[str], recognised: Sequence[str]) -> Ratio:
    reference = " ".join(expected)
    found = package("jiwer").process_characters(reference, " ".join(recognised))
    edits = found.substitutions + found.deletions + found.insertions
    return _ratio(capped_errors(edits, len(reference)))


def _ratio(errors: WordErrors) -> Ratio:
    whole = errors.edits + errors.excess
    return Ratio(errors.edits, errors.words, uncapped=whole if errors.capped else None)


def _variant() -> str:
    # Figures without this cap are not comparable.
    return f"{default_recognizer().name}, errors capped"


WER = Metric(
    name="wer",
    heading="WER",
    compute=word_error,
    description="Word errors of a recogniser on the reconstruction, against the text; "
    "of an utterance at most its words.",
    higher_is_better=False,
    bounds=(0, 1),
    needs=("text",),
    sample_rates=(_RATE,),
    package="jiwer",
    max_items=20,
    variant=_variant,
)

CER = replace(
    WER,
    name="cer",
    heading="CER",
    compute=character_error,
    description="Character errors of a recogniser on the reconstruction, against the text; "
    "of an utterance at most its characters.",
)

DWER = replace(
    WER,
    name="dwer",
    heading="dWER",
    compute=differential_word_error,
    description="Word errors of a recogniser, against what it recognises in the original; "
    "of an utterance at most its words.",
    prefers=("text",),
    needs=("reference",),
)

DCER = replace(
    WER,
    name="dcer",
    heading="dCER",
    compute=differential_character_error,
    description="Character errors of a recogniser, against what it recognises in the original; "
    "of an utterance at most its characters.",
    prefers=("text",),
    needs=("reference",),
)

#: Of the metrics that use the recogniser.
NAMES = frozenset(metric.name for metric in (WER, CER, DWER, DCER))
