"""Which phone is spoken when: forced alignment of a transcript by pocketsphinx."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..metrics.interface import MetricError
from ..metrics.requirements import package
from ..systems.samples import to_int16
from ..transcripts import words_of

#: Silence, breath and noise.
SILENCE = "SIL"

#: What labels index: silence, then the 39 phones of the CMU dictionary (ARPABET, no stress).
PHONES = (
    SILENCE,
    *("AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY", "F", "G", "HH"),
    *("IH", "IY", "JH", "K", "L", "M", "N", "NG", "OW", "OY", "P", "R", "S", "SH", "T", "TH"),
    *("UH", "UW", "V", "W", "Y", "Z", "ZH"),
)
_INDEX = {phone: index for index, phone in enumerate(PHONES)}

#: Hz: the only sample rate that the acoustic model knows, and its frames a second.
SAMPLE_RATE = 16000
ALIGNMENT_RATE = 100

# The recognizer's window is 25.6 ms long and begins at the frame's start; what a frame hears is
# centred 12.8 ms after it, not 5 ms.
_WINDOW_CENTRE = 0.0128


class AlignmentError(MetricError):
    """An utterance can't be aligned, and why."""


@dataclass(frozen=True, eq=False)
class PhoneAlignment:
    """Phones of one utterance, one after the other, without gaps.

    Attributes:
        phones: (segments,) int64, indices into `PHONES`.
        starts: (segments,) int64, the first frame of each, in frames of 10 ms.
        num_frames: frames of 10 ms in all.
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
        """(segments, 2) float64: seconds at which each begins and ends.

        Borders lie midway between the centres of the windows that the recognizer heard, so they
        are 7.8 ms later than frame numbers × 10 ms; the first begins at 0 and the last ends with
        the audio.
        """
        shift = _WINDOW_CENTRE - 0.5 / ALIGNMENT_RATE
        total = self.num_samples / SAMPLE_RATE
        borders = np.append(self.starts, self.num_frames) / ALIGNMENT_RATE + shift
        borders = np.clip(borders, 0, total)
        borders[0], borders[-1] = 0, total
        return np.stack([borders[:-1], borders[1:]], axis=1)

    def labels(
        self, frame_rate: float, num_frames: int | None = None, centre: float | None = None
    ) -> np.ndarray:
        """The phone at the centre of every frame.

        Args:
            frame_rate: frames a second.
            num_frames: how many; default: as many as begin within the audio. Frames centred beyond
                the audio take the last phone.
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
        # A nanosecond decides centres that fall on a border in favour of the later phone.
        segment = np.searchsorted(self.intervals()[:, 0], times + 1e-9, side="right") - 1
        return self.phones[np.maximum(segment, 0)]

    def __repr__(self) -> str:
        names = " ".join(PHONES[index] for index in self.phones[:12])
        more = " …" if len(self.phones) > 12 else ""
        return f"PhoneAlignment({self.num_samples / SAMPLE_RATE:.2f} s: {names}{more})"


class PhoneAligner:
    """Forced alignment with pocketsphinx and the US English model and dictionary inside it.

    Two passes over the utterance: the first finds words, pauses between them and, for words with
    several pronunciations, which one was spoken; the second finds phones. Every utterance has a
    decoder of its own, whose dictionary has its words only (11 ms): one that is used again keeps
    enough of what it heard before to move a border now and then.

    Raises:
        MetricError: no `pocketsphinx` package.
    """

    def __init__(self) -> None:
        self._pocketsphinx = package("pocketsphinx")
        self._dictionary: Any = self._pocketsphinx.Decoder(lm=None, loglevel="FATAL")

    def missing_words(self, text: str) -> list[str]:
        """Words that the dictionary does not have; an utterance with any can't be aligned."""
        return [word for word in words_of(text) if self._spelling(word) is None]

    def _spelling(self, word: str) -> str | None:
        """The word as the dictionary has it: quotation marks around it may be apostrophes."""
        for spelling in (word, word.strip("'")):
            if self._dictionary.lookup_word(spelling) is not None:
                return spelling
        return None

    def align(self, wave: np.ndarray, sample_rate: int, text: str) -> PhoneAlignment:
        """Align a transcript with its audio.

        Args:
            wave: (samples,), full scale at 1; taken to 16 bits, samples beyond clamped.
            sample_rate: 16000 Hz.
            text: what was said, in English. Case and punctuation don't matter; numbers have to be
                written as words.

        Raises:
            AlignmentError: no words, words that the dictionary does not have (all are named), or
                audio that the words don't fit.
            MetricError: another rate or shape.
        """
        samples = sixteen_bits(wave, sample_rate)
        words = words_of(text)
        if not words:
            raise AlignmentError("alignment: the transcript has no words")
        if missing := self.missing_words(text):
            raise AlignmentError(f"alignment: not in the dictionary: {', '.join(missing)}")
        spellings = [self._spelling(word) or word for word in words]
        decoder = self._decoder_of(spellings)
        try:
            decoder.set_align_text(" ".join(spellings))
            hear(decoder, samples)
            if decoder.hyp() is None:
                raise RuntimeError("no path through the words")
            decoder.set_alignment()
            hear(decoder, samples)
            entries = [
                (phone.name, phone.start, phone.duration)
                for phone in decoder.get_alignment().phones()
            ]
        except RuntimeError as error:
            raise AlignmentError(f"alignment: the audio does not fit the words: {error}") from None
        return _alignment(entries, samples.size)

    def _decoder_of(self, spellings: Sequence[str]) -> Any:
        """A decoder that knows these words, in all their pronunciations."""
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
            return self._pocketsphinx.Decoder(
                dict=file.name,
                lm=None,
                samprate=SAMPLE_RATE,
                cmn="batch",
                # The lattice's best path has words of no duration, which the second pass refuses.
                bestpath=False,
                # A transcript has few paths: the model's beams for dictation lose the right one
                # where a speaker hesitates, and squeeze the rest of the words into what is left.
                beam=1e-200,
                wbeam=1e-200,
                pbeam=1e-200,
                loglevel="FATAL",
            )


def hear(decoder: Any, samples: np.ndarray) -> None:
    """Give pocketsphinx a whole utterance, (samples,) int16.

    Raises:
        RuntimeError: it gives up.
    """
    decoder.start_utt()
    try:
        decoder.process_raw(samples.tobytes(), full_utt=True)
    finally:
        decoder.end_utt()


def sixteen_bits(wave: np.ndarray, sample_rate: int) -> np.ndarray:
    """(samples,) int16, for pocketsphinx.

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
        # Fillers other than silence (+SPN+, +NSN+) are sounds, but none of a phone.
        phones.append(_INDEX.get(name, 0))
        starts.append(start)
        at = start + duration
    if not phones:
        raise AlignmentError("alignment: the audio does not fit the words: no phones")
    return PhoneAlignment(np.array(phones), np.array(starts), at, num_samples)
