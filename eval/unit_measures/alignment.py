"""Phone boundaries: forced alignment of a transcript by pocketsphinx."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...audio.forced_alignment import (
    FRAME_RATE,
    SAMPLE_RATE,
    WINDOW_SHIFT,
    decode_utterance,
    dictionary,
    fitted_to_words,
)
from ...audio.transcripts import words_of
from ..requirements import MetricError, package
from ..systems.samples import to_int16

#: Silence, breath and noise.
SILENCE = "SIL"

#: Indexed by labels: silence, then the 39 phones of the CMU dictionary (ARPABET, no stress).
PHONES = (
    SILENCE,
    *("AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY", "F", "G", "HH"),
    *("IH", "IY", "JH", "K", "L", "M", "N", "NG", "OW", "OY", "P", "R", "S", "SH", "T", "TH"),
    *("UH", "UW", "V", "W", "Y", "Z", "ZH"),
)
_INDEX = {phone: index for index, phone in enumerate(PHONES)}


class AlignmentError(MetricError):
    """An utterance can't be aligned; the message has the reason."""


@dataclass(frozen=True, eq=False)
class PhoneAlignment:
    """Phones of one utterance, consecutive and without gaps.

    Attributes:
        phones: (segments,) int64, indices into `PHONES`.
        starts: (segments,) int64, the first frame of each, in frames of 10 ms.
        num_frames: total frames of 10 ms.
        num_samples: of the utterance, at 16 kHz.
    """

    phones: np.ndarray
    starts: np.ndarray
    num_frames: int
    num_samples: int

    @property
    def ends(self) -> np.ndarray:
        """(segments,) int64, the frame after the last of each."""
        return np.append(self.starts[1:], self.num_frames)

    def intervals(self) -> np.ndarray:
        """Start and end of each segment in seconds, (segments, 2) float64.

        Boundaries are midway between the centres of the recogniser's windows, 7.8 ms later than
        frame numbers × 10 ms; the first starts at 0 and the last ends with the audio.
        """
        total = self.num_samples / SAMPLE_RATE
        borders = np.append(self.starts, self.num_frames) / FRAME_RATE + WINDOW_SHIFT
        borders = np.clip(borders, 0, total)
        borders[0], borders[-1] = 0, total
        return np.stack([borders[:-1], borders[1:]], axis=1)

    def labels(
        self, frame_rate: float, num_frames: int | None = None, centre: float | None = None
    ) -> np.ndarray:
        """Return the phone at the centre of every frame.

        Args:
            frame_rate: frames a second.
            num_frames: number of frames; default: as many as begin within the audio. Frames centred
                beyond the audio get the last phone.
            centre: seconds from the start of the audio to the centre of frame 0; default: half a
                frame. An encoder without padding, such as HuBERT's, has its first frame centred
                at half its receptive field: 0.0125.

        Returns:
            (num_frames,) int64, indices into `PHONES`.

        Raises:
            MetricError: the frame rate is not positive.
        """
        if not frame_rate > 0:
            raise MetricError(f"frame rate {frame_rate}: expected more than 0 Hz")
        if num_frames is None:
            num_frames = int(np.ceil(self.num_samples / SAMPLE_RATE * frame_rate - 1e-9))
        first = 0.5 / frame_rate if centre is None else centre
        times = first + np.arange(num_frames) / frame_rate
        # A nanosecond is added, so that centres on a boundary get the later phone.
        segment = np.searchsorted(self.intervals()[:, 0], times + 1e-9, side="right") - 1
        return self.phones[np.maximum(segment, 0)]

    def __repr__(self) -> str:
        names = " ".join(PHONES[index] for index in self.phones[:12])
        more = " …" if len(self.phones) > 12 else ""
        return f"PhoneAlignment({self.num_samples / SAMPLE_RATE:.2f} s: {names}{more})"


class PhoneAligner:
    """Forced alignment with pocketsphinx and the US English model and dictionary inside it.

    Two passes over the utterance: the first finds words, pauses between them and the pronunciation
    of words with several; the second finds phones.

    Raises:
        MetricError: no `pocketsphinx` package.
    """

    def __init__(self) -> None:
        self._pocketsphinx = package("pocketsphinx")
        self._dictionary = dictionary(self._pocketsphinx)

    def missing_words(self, text: str) -> list[str]:
        """Return words that are not in the dictionary; an utterance with any can't be aligned."""
        return [word for word in words_of(text) if self._spelling(word) is None]

    def _spelling(self, word: str) -> str | None:
        """Return the word as in the dictionary: quotation marks around it may be apostrophes."""
        for spelling in (word, word.strip("'")):
            if self._dictionary.lookup_word(spelling) is not None:
                return spelling
        return None

    def align(self, wave: np.ndarray, sample_rate: int, text: str) -> PhoneAlignment:
        """Align a transcript with its audio.

        Args:
            wave: (samples,), full scale at 1; converted to 16 bits, samples beyond clamped.
            sample_rate: 16000 Hz.
            text: transcript, in English. Case and punctuation don't matter; numbers have to be
                written as words.

        Raises:
            AlignmentError: no words, words that are not in the dictionary (all are named), or
                audio that does not fit the words.
            MetricError: another rate or shape.
        """
        samples = sixteen_bits(wave, sample_rate)
        words = words_of(text)
        if not words:
            raise AlignmentError("alignment: the transcript has no words")
        if missing := self.missing_words(text):
            raise AlignmentError(f"alignment: not in the dictionary: {', '.join(missing)}")
        spellings = [self._spelling(word) or word for word in words]
        try:
            decoder = fitted_to_words(self._pocketsphinx, self._dictionary, spellings, samples)
            decoder.set_alignment()
            decode_utterance(decoder, samples)
            entries = [
                (phone.name, phone.start, phone.duration)
                for phone in decoder.get_alignment().phones()
            ]
        except RuntimeError as error:
            raise AlignmentError(f"alignment: the audio does not fit the words: {error}") from None
        return _alignment(entries, samples.size)


def sixteen_bits(wave: np.ndarray, sample_rate: int) -> np.ndarray:
    """Convert to (samples,) int16, for pocketsphinx.

    Raises:
        MetricError: not (samples,) with at least one, NaN or infinity, or not 16 kHz.
    """
    if sample_rate != SAMPLE_RATE:
        raise MetricError(f"pocketsphinx needs {SAMPLE_RATE} Hz, got {sample_rate}")
    if wave.ndim != 1 or not wave.size or not np.isfinite(wave).all():
        raise MetricError(f"pocketsphinx: expected finite (samples,), got shape {wave.shape}")
    return to_int16(wave)


def _alignment(entries: Sequence[tuple[str, int, int]], num_samples: int) -> PhoneAlignment:
    phones, starts, at = [], [], 0
    for name, start, duration in entries:
        if start != at or duration < 1:
            raise AlignmentError(f"alignment: the audio does not fit the words: gap at frame {at}")
        # Fillers other than silence (+SPN+, +NSN+) are sounds, but not phones.
        phones.append(_INDEX.get(name, 0))
        starts.append(start)
        at = start + duration
    if not phones:
        raise AlignmentError("alignment: the audio does not fit the words: no phones")
    return PhoneAlignment(np.array(phones), np.array(starts), at, num_samples)
