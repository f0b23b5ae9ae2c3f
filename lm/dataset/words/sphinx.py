"""Times of a transcript's words by pocketsphinx with its US English model."""

import re
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from ....audio.resampling import resample
from ....errors import DatasetError
from ..items import AlignedWord

#: Hz: of the acoustic model. It has 100 frames a second, with windows of 25.6 ms.
_RATE, _FRAMES = 16000, 100
#: From a frame's start to the centre of its window, less half a frame.
_SHIFT = 0.0128 - 0.005


class SphinxAligner:
    """Forced alignment; the words keep the transcript's writing.

    Every utterance has a decoder of its own, so that none depends on those before it.

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
        self._dictionary: Any = pocketsphinx.Decoder(lm=None, loglevel="FATAL")

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
        samples = resample(wave, sample_rate, _RATE) if sample_rate != _RATE else wave
        pcm = np.clip(np.rint(np.asarray(samples) * 32768), -32768, 32767).astype(np.int16)
        spoken = [str(spelling) for spelling in spellings]
        times = self._times(pcm, spoken)
        if len(times) != len(written):
            raise DatasetError(f"{len(times)} of {len(written)} words were found")
        total = len(pcm) / _RATE
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
        decoder = self._decoder(spellings)
        try:
            decoder.set_align_text(" ".join(spellings))
            decoder.start_utt()
            try:
                decoder.process_raw(pcm.tobytes(), full_utt=True)
            finally:
                decoder.end_utt()
            if decoder.hyp() is None:
                raise RuntimeError("no path through the words")
            segments = list(decoder.seg())
        except RuntimeError as error:
            raise DatasetError(f"the audio does not fit the words: {error}") from None
        return [
            (
                max(0.0, segment.start_frame / _FRAMES + _SHIFT),
                (segment.end_frame + 1) / _FRAMES + _SHIFT,
            )
            for segment in segments
            if not segment.word.startswith(("<", "[", "+"))
        ]

    def _decoder(self, spellings: list[str]) -> Any:
        """A decoder with a dictionary of these words, in all their pronunciations."""
        lines = []
        for spelling in sorted(set(spellings)):
            form, number = spelling, 1
            while (pronunciation := self._dictionary.lookup_word(form)) is not None:
                lines.append(f"{form} {pronunciation}\n")
                number += 1
                form = f"{spelling}({number})"
        with tempfile.NamedTemporaryFile("w", suffix=".dict", encoding="utf-8") as file:
            file.writelines(lines)
            file.flush()
            return self._package.Decoder(
                dict=file.name,
                lm=None,
                samprate=_RATE,
                cmn="batch",
                bestpath=False,
                # Wide beams: a transcript has few paths, and the right one must not be pruned.
                beam=1e-200,
                wbeam=1e-200,
                pbeam=1e-200,
                loglevel="FATAL",
            )


def _bare(word: str) -> str:
    """The word without punctuation around it."""
    return re.sub(r"^\W+|\W+$", "", word) or word
