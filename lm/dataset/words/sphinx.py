"""Times of a transcript's words by pocketsphinx with its US English model."""

import re
from collections.abc import Sequence

import numpy as np

from ....audio.forced_alignment import (
    FRAME_RATE,
    SAMPLE_RATE,
    WINDOW_SHIFT,
    dictionary,
    fitted_to_words,
)
from ....audio.resampling import resample
from ....errors import DatasetError
from ..items import AlignedWord


class SphinxAligner:
    """Forced alignment; the words keep the transcript's writing.

    Raises:
        DatasetError: no such package.
    """

    def __init__(self) -> None:
        try:
            import pocketsphinx
        except ImportError:
            raise DatasetError(
                "the aligner pocketsphinx needs its package: pip install pocketsphinx"
            ) from None
        self._package = pocketsphinx
        self._dictionary = dictionary(pocketsphinx)

    def align(
        self, wave: np.ndarray, sample_rate: int, text: str | None, language: str | None
    ) -> tuple[Sequence[AlignedWord], str | None]:
        """See `WordAligner.align`."""
        if language is not None and not language.lower().startswith("en"):
            raise DatasetError(f"pocketsphinx aligns English, not {language}")
        written = [part for part in (text or "").split() if any(map(str.isalnum, part))]
        if not written:
            raise DatasetError("there is no text to align")
        spellings = [self._spelling(part) for part in written]
        missing = [part for part, found in zip(written, spellings, strict=True) if found is None]
        if missing:
            raise DatasetError(f"not in pocketsphinx's dictionary: {', '.join(missing)}")
        samples = resample(wave, sample_rate, SAMPLE_RATE) if sample_rate != SAMPLE_RATE else wave
        pcm = np.clip(np.rint(np.asarray(samples) * 32768), -32768, 32767).astype(np.int16)
        spoken = [str(spelling) for spelling in spellings]
        times = self._times(pcm, spoken)
        if len(times) != len(written):
            raise DatasetError(f"{len(times)} of {len(written)} words were found")
        total = len(pcm) / SAMPLE_RATE
        return [
            AlignedWord(
                _bare(word), round(min(start, total), 4), round(min(max(end, start), total), 4)
            )
            for word, (start, end) in zip(written, times, strict=True)
        ], text

    def _spelling(self, word: str) -> str | None:
        plain = re.sub(r"[^\w'’-]+", "", word.lower()).replace("’", "'").strip("-")
        for spelling in (plain, plain.strip("'")):
            if spelling and self._dictionary.lookup_word(spelling) is not None:
                return spelling
        return None

    def _times(self, pcm: np.ndarray, spellings: list[str]) -> list[tuple[float, float]]:
        try:
            decoder = fitted_to_words(self._package, self._dictionary, spellings, pcm)
            segments = list(decoder.seg())
        except RuntimeError as error:
            raise DatasetError(f"the audio does not fit the words: {error}") from None
        return [
            (
                max(0.0, segment.start_frame / FRAME_RATE + WINDOW_SHIFT),
                (segment.end_frame + 1) / FRAME_RATE + WINDOW_SHIFT,
            )
            for segment in segments
            if not segment.word.startswith(("<", "[", "+"))
        ]


def _bare(word: str) -> str:
    """The word without punctuation around it."""
    return re.sub(r"^\W+|\W+$", "", word) or word
