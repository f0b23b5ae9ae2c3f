"""Where words and their times come from: given ones, or an aligner."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ....errors import DatasetError
from ..items import AlignedWord
from ..plan import Planned
from .files import words_beside, words_of_json

#: Names that `open_aligner` takes, beside `whisper:MODEL`.
ALIGNERS = ("pocketsphinx", "whisper")
_GIVEN = ("words", "alignment", "alignments")


class WordAligner(Protocol):
    """Finds when the words of a transcript are said."""

    def align(
        self, wave: np.ndarray, sample_rate: int, text: str | None, language: str | None
    ) -> tuple[Sequence[AlignedWord], str | None]:
        """Words with their times, and the text, which an aligner that recognises speech gives.

        Raises:
            SyllabaryError: the audio does not fit the text, or there is none.
        """


class Aligner:
    """Given words where there are any, else those of an aligner.

    Given are: the manifest's ``words`` or ``alignment``; those of a CTM, which the plan has; files
    in a folder that are called like the items.
    """

    def __init__(self, aligner: WordAligner | None, folder: Path | None) -> None:
        self._aligner, self._folder = aligner, folder

    def words(
        self,
        planned: Planned,
        extra: dict[str, Any],
        text: str | None,
        wave: np.ndarray | None,
        sample_rate: int,
    ) -> tuple[tuple[AlignedWord, ...] | None, str | None]:
        """Words of an utterance, None if there are none, and its text.

        Raises:
            SyllabaryError: what was given is damaged, or the aligner fails.
        """
        given = self._given(planned, extra)
        if given is not None:
            return tuple(given), text
        if self._aligner is None:
            return None, text
        if wave is None:
            raise DatasetError("too long to align in one piece: give it as segments")
        found, recognised = self._aligner.align(wave, sample_rate, text, planned.source.language)
        return tuple(found), text if text is not None else recognised

    def _given(self, planned: Planned, extra: dict[str, Any]) -> Sequence[AlignedWord] | None:
        import json

        source = planned.source
        if planned.words:
            return words_of_json(json.loads(planned.words), source.id)
        for name in _GIVEN:
            if isinstance(extra.get(name), list | dict):
                return words_of_json(extra[name], source.id)
        if self._folder is not None:
            return words_beside(self._folder, source.id, source.name)
        return None


def open_aligner(name: str | None, words: str | None) -> Aligner:
    """The aligner of a name, and the folder of given words.

    Args:
        name: ``pocketsphinx`` (US English), ``whisper:MODEL``, or None.
        words: a folder; a file is read with the plan.

    Raises:
        DatasetError: there is no such aligner, or its package is missing.
    """
    folder = Path(words) if words is not None and Path(words).is_dir() else None
    if name is None:
        return Aligner(None, folder)
    kind, _, model = name.partition(":")
    if kind == "pocketsphinx" and not model:
        from .sphinx import SphinxAligner

        return Aligner(SphinxAligner(), folder)
    if kind == "whisper" and model:
        from .whisper import WhisperAligner

        return Aligner(WhisperAligner(model), folder)
    raise DatasetError(f"no aligner {name!r}: expected pocketsphinx or whisper:MODEL")
