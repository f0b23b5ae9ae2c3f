"""Documents of text and speech: each item of a data set through a scheme of `lm.interleaving`."""

import hashlib
import zlib
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import DatasetError, InterleavingError, VocabularyError
from ..interleaving.fixed_ratio import CosyVoice, FixedRatio
from ..interleaving.turns import TextThenSpeech
from ..interleaving.words import Word, WordAligned, draw_spans
from ..patterns.flatten import Flatten
from ..patterns.pattern import Pattern
from ..vocabulary import Vocabulary

if TYPE_CHECKING:
    from ..dataset.items import Item
    from ..dataset.stored import StoredDataset


class MissingTextError(DatasetError):
    """An item lacks the text, or the times of words, that a scheme needs."""


class Documents:
    """Makes a document of each item.

    Args:
        dataset: whose items they are.
        pattern: of one stream, with the ids of the vocabulary.
        vocabulary: of speech.
        scheme: how text and speech are joined.
        text: tokenizer of the text, or its file; None: the ids that the data set has.

    Raises:
        DatasetError, VocabularyError: they don't fit together.
    """

    def __init__(
        self,
        dataset: "StoredDataset",
        pattern: Pattern,
        vocabulary: Vocabulary | None,
        scheme: Any,
        text: Any,
    ) -> None:
        if vocabulary is None:
            raise VocabularyError("text and speech in one sequence need a vocabulary")
        if pattern.streams > 1:
            raise VocabularyError(
                f"{pattern} has {pattern.streams} streams; text and speech in one sequence need a "
                "pattern of one stream, such as flatten"
            )
        if not isinstance(scheme, TextThenSpeech | FixedRatio | CosyVoice | WordAligned):
            raise DatasetError(
                f"a reader joins text and speech by TextThenSpeech, SpeechThenText, FixedRatio, "
                f"CosyVoice or WordAligned, not by {scheme!r}"
            )
        if scheme.speech != vocabulary.speech:
            raise VocabularyError(
                f"the scheme's speech has ids {list(scheme.speech)}, the vocabulary's "
                f"{list(vocabulary.speech)}: give the scheme Vocabulary.speech"
            )
        rate = dataset.spec.frame_rate
        if isinstance(scheme, WordAligned) and Fraction(*scheme.frame_rate) != rate:
            raise DatasetError(
                f"{dataset.folder}: {float(rate):g} frames a second, but {scheme.name} counts "
                f"{float(Fraction(*scheme.frame_rate)):g}: give it frame_rate={float(rate):g}"
            )
        self._pattern, self._vocabulary, self._scheme = pattern, vocabulary, scheme
        self._text = _tokenizer(text)
        self._folder = dataset.folder

    @property
    def description(self) -> dict[str, Any]:
        """What determines the documents, besides the data set."""
        made_by = None if self._text is None else self._text.to_str()
        return {
            "pattern": self._pattern.to_json(),
            "vocabulary": self._vocabulary.to_json(),
            "scheme": self._scheme.to_json(),
            "text": None if made_by is None else hashlib.sha256(made_by.encode()).hexdigest(),
        }

    def make(self, item: "Item") -> tuple[np.ndarray, np.ndarray]:
        """Ids (n,) and targets (n,) of one item; none of one without frames.

        Raises:
            MissingTextError: it has no text, or no times of words.
            DatasetError: its text has no ids.
            InterleavingError: it can't be joined.
        """
        if not item.frames:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        steps, _ = self._pattern.lay(item.codes[: self._pattern.num_codebooks])
        speech = steps[0]
        if isinstance(self._pattern, Flatten) and not self._pattern.start:
            speech = speech.reshape(item.frames, -1)  # frames, which no scheme tears
        try:
            if isinstance(self._scheme, WordAligned):
                words = self._words(item)
                spoken = draw_spans(len(words), zlib.crc32(item.id.encode()))
                joined, _ = self._scheme.join(words, speech, spoken, item.durations)
            else:
                joined = self._scheme.join(self._ids(item), speech)
        except InterleavingError as error:
            raise InterleavingError(f"{self._folder}: item {item.id}: {error}") from None
        return joined.ids, joined.targets

    def _ids(self, item: "Item") -> np.ndarray:
        if item.text is None and (item.text_ids is None or self._text is not None):
            raise MissingTextError(
                f"{self._folder}: item {item.id} has no text, which {self._scheme.name} needs: "
                "build the data set with transcripts in the manifest, or read it without a scheme"
            )
        if self._text is not None:
            return np.array(self._text.encode(item.text, add_special_tokens=False).ids, np.int64)
        if item.text_ids is None:
            raise DatasetError(
                f"{self._folder}: item {item.id} has text but no ids of it: give text=, the text's "
                "tokenizer"
            )
        return np.array(item.text_ids, np.int64)

    def _words(self, item: "Item") -> list[Word]:
        if not item.alignment:
            raise MissingTextError(
                f"{self._folder}: item {item.id} has no times of words, which "
                f"{self._scheme.name} needs: build the data set with an alignment"
            )
        found = []
        for word in item.alignment:
            ids = word.ids
            if self._text is not None:
                # As it stands within a sentence, where a space comes before it.
                ids = self._text.encode(f" {word.word}", add_special_tokens=False).ids
            if not len(ids):
                raise DatasetError(
                    f"{self._folder}: item {item.id}: the word {word.word!r} has no ids: give "
                    "text=, the text's tokenizer"
                )
            found.append(Word(ids, word.start, word.end))
        return found


def _tokenizer(text: Any) -> Any:
    """A `tokenizers.Tokenizer`, of a path or of what wraps one."""
    if isinstance(text, str | Path):
        from tokenizers import Tokenizer

        try:
            text = Tokenizer.from_file(str(text))
        except Exception as error:  # the library raises Exception itself
            raise DatasetError(f"{text}: no tokenizer can be read there: {error}") from None
    if text is None:
        return None
    # A copy, without what a file may ask for besides: cut texts, or padding to learn.
    given = getattr(text, "backend_tokenizer", text)
    own = type(given).from_str(given.to_str())
    own.no_truncation()
    own.no_padding()
    return own
