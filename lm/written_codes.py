"""Frames of codes out of the ids that a language model writes, right or wrong.

A model may write what no utterance has: text in the middle of a frame, a code of another codebook,
an end before the last frame is whole. `WrittenCodes` either refuses these, by name, or repairs them
and counts the repairs. A repair only looks at what was written before, so that frames can be given
while the model still writes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import PatternError, TokenError
from .arrays import Array
from .patterns.pattern import Pattern
from .vocabulary import Vocabulary


@dataclass
class Repairs:
    """What was not as an utterance has it.

    Attributes:
        skipped: ids of text and markers between frames. They are no fault.
        wrong: ids that are no code of the codebook that belongs there.
        filled: codes that were missing, and replaced by those of the frame before.
        cut: codes of frames at the end that are not whole, and were left out.
    """

    skipped: int = 0
    wrong: int = 0
    filled: int = 0
    cut: int = 0

    @property
    def any(self) -> bool:
        """Whether anything was repaired."""
        return bool(self.wrong or self.filled or self.cut)


class WrittenCodes:
    """Codes of the frames that are whole, from ids in pieces of any size.

    Where one stream has frame after frame, an id of another codebook than the expected one is taken
    for that other's: the codes between are missing, and the frames that follow are in step again.
    In other patterns, an id that does not belong to its position is missing.

    Args:
        vocabulary: of the ids.
        pattern: as in `Vocabulary.encode`.
        repair: whether to repair what is wrong; else it is an error.
        fill: (codebooks,) codes for what is missing before the first frame; default: 0.
        frames: number of frames, for patterns that need it (`Pattern.needs_length`).

    Attributes:
        repairs: so far.
        num_frames: given so far.
        global_codes: (global codebooks,) codes of the whole utterance, once they were written.

    Raises:
        VocabularyError: the pattern is for other codebooks than the vocabulary's.
        PatternError: the pattern needs `frames`.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        pattern: Pattern | None = None,
        *,
        repair: bool = False,
        fill: Sequence[int] | None = None,
        frames: int | None = None,
    ) -> None:
        self.vocabulary, self.repair = vocabulary, repair
        self.pattern = vocabulary.bound(pattern)
        self.repairs = Repairs()
        self.num_frames = 0
        self.global_codes: list[int] = []
        self._count = self.pattern.num_codebooks
        self._before = np.array([0] * self._count if fill is None else fill, np.int64)
        self._in_step = self._cycle()
        self._open: list[int] = []  # codes of the frame that has begun, where `_in_step`
        self._ended = False
        self._stream = None
        if self._in_step is None:
            self._stream = self.pattern.stream(frames=frames)

    def push(self, ids: Array) -> np.ndarray:
        """Take ids, and give the frames that are whole with them.

        Args:
            ids: (n,) of one stream; (streams, n), or (streams,) for a single step, of several.

        Returns:
            (codebooks, frames) int64 codes.

        Raises:
            TokenError: without `repair`, an id that is no code of the codebook that belongs there;
                or this utterance has ended; or no integers.
            PatternError: another shape, or more steps than the utterance has.
        """
        if self._ended:
            raise TokenError("this utterance has ended; begin another")
        written = np.asarray(ids.cpu() if hasattr(ids, "cpu") else ids)
        if written.size and written.dtype.kind not in "iu":
            raise TokenError(f"ids must be integers, got {written.dtype}")
        written = written.astype(np.int64)
        if self.pattern.streams > 1:
            return self._fill(self._steps(written))
        if written.ndim == 2 and len(written) == 1:
            written = written[0]
        if written.ndim > 1:
            raise PatternError(f"ids of one stream have shape (n,), got {written.shape}")
        written = self._head(np.atleast_1d(written))
        if self._in_step is not None:
            return self._fill(self._resynchronised(written))
        return self._fill(self._steps(self._codes_and_marks(written)[None]))

    def finish(self) -> None:
        """End the utterance.

        Raises:
            TokenError: without `repair`, it ends within a frame or before the global codes.
        """
        self._ended = True
        heads = len(self.vocabulary.global_base)
        if self.pattern.streams == 1 and len(self.global_codes) < heads:
            raise TokenError(
                f"ends after {len(self.global_codes)} of the {heads} ids of global codes that "
                f"{self.vocabulary.spec.tokenizer} begins with"
            )
        left = sum(code >= 0 for code in self._open)
        if self._stream is not None:
            left = self._stream.incomplete_codes
        if left and not self.repair:
            raise TokenError(
                f"ends within frame {self.num_frames}, of which there are {left} codes of "
                f"{self._count}; repair=True leaves it out"
            )
        self.repairs.cut += left

    # --- one stream, frame after frame -----------------------------------------------------------

    def _cycle(self) -> tuple[np.ndarray, np.ndarray] | None:
        """First id and number of ids of each position in a frame, if frames follow one another."""
        places = self.pattern.places
        order = sorted(range(self._count), key=lambda codebook: places[codebook].start)
        apart = [places[codebook].start for codebook in order] != list(range(self._count))
        if self.pattern.streams > 1 or apart or self.pattern.needs_length:
            return None
        if any(place.stride != self._count for place in places) or order != sorted(order):
            return None
        return np.array(self.pattern.bases), np.array(self.pattern.sizes)

    def _resynchronised(self, ids: np.ndarray) -> np.ndarray:
        """Frames (codebooks, frames), with -1 for what is missing."""
        assert self._in_step is not None
        first, sizes = self._in_step
        count = self._count
        position = (np.arange(len(ids)) + len(self._open)) % count
        codes = ids - first[position]
        if ((codes >= 0) & (codes < sizes[position])).all():
            joined = np.concatenate([np.array(self._open, np.int64), codes])
            whole = len(joined) // count * count
            self._open = joined[whole:].tolist()
            return joined[:whole].reshape(-1, count).T
        frames = []
        for number in ids.tolist():
            for codes_of_frame in self._one_more(number):
                frames.append(codes_of_frame)
        return np.array(frames, np.int64).reshape(-1, count).T

    def _one_more(self, number: int) -> list[list[int]]:
        """Frames that are whole with one more id."""
        assert self._in_step is not None
        first, sizes = self._in_step
        at, count = len(self._open), self._count
        fits = (number >= first) & (number < first + sizes)
        if not fits.any():
            if at == 0 and not self._is_code(number):
                self.repairs.skipped += 1
            else:
                self._wrong(number, at)
            return []
        whole = []
        if not fits[at]:
            self._wrong(number, at)
            later = np.flatnonzero(fits[at:])
            if not len(later):  # a code of an earlier codebook: the next frame has begun
                whole.append(self._open + [-1] * (count - at))
                self._open, at = [], 0
                later = np.flatnonzero(fits)
            self._open += [-1] * int(later[0])
            at = len(self._open)
        self._open.append(number - int(first[at]))
        if len(self._open) == count:
            whole.append(self._open)
            self._open = []
        return whole

    def _wrong(self, number: int, codebook: int) -> None:
        first, sizes = self.pattern.bases[codebook], self.pattern.sizes[codebook]
        if not self.repair:
            raise TokenError(
                f"{self._called(number)} where a code of codebook {codebook} belongs, an id from "
                f"{first} to {first + sizes - 1} (frame {self.num_frames}); repair=True goes on"
            )
        self.repairs.wrong += 1

    # --- other patterns --------------------------------------------------------------------------

    def _steps(self, steps: np.ndarray) -> np.ndarray:
        """Frames (codebooks, frames), with -1 for what is missing, of steps (streams, n)."""
        assert self._stream is not None
        if steps.ndim == 1 and len(steps) == self.pattern.streams:
            steps = steps[:, None]
        codes = self._stream.push(steps[None], holes=self.repair)[0]
        wrong = int((codes < 0).sum())
        self.repairs.wrong += wrong
        return np.asarray(codes)

    def _codes_and_marks(self, ids: np.ndarray) -> np.ndarray:
        """Ids (n,) without the text and the markers that the pattern does not use."""
        low, high = self.vocabulary.speech
        used = [*self.pattern.specials, *(mark.id for mark in self.pattern.marks)]
        kept = ((ids >= low) & (ids < high)) | np.isin(ids, used)
        self.repairs.skipped += int((~kept).sum())
        return ids[kept]

    # --- both ------------------------------------------------------------------------------------

    def _head(self, ids: np.ndarray) -> np.ndarray:
        """Take the global codes that an utterance begins with; give the ids after them."""
        bases, sizes = self.vocabulary.global_base, self.vocabulary.spec.global_codebook_sizes
        taken = 0
        for number in ids.tolist():
            known = len(self.global_codes)
            if known == len(bases):
                break
            taken += 1
            code = number - bases[known]
            if 0 <= code < sizes[known]:
                self.global_codes.append(code)
            elif known == 0 and not self._is_code(number):
                self.repairs.skipped += 1
            else:
                raise TokenError(
                    f"{self._called(number)} where global code {known} of "
                    f"{self.vocabulary.spec.tokenizer} belongs, an id from {bases[known]} to "
                    f"{bases[known] + sizes[known] - 1}: an utterance begins with them"
                )
        return ids[taken:]

    def _fill(self, codes: np.ndarray) -> np.ndarray:
        """Replace what is missing by the codes of the frame before."""
        missing = codes < 0
        if missing.any():
            self.repairs.filled += int(missing.sum())
            codes = np.concatenate([self._before[:, None], codes], axis=1)
            known = np.where(codes < 0, 0, np.arange(codes.shape[1]))
            codes = np.take_along_axis(codes, np.maximum.accumulate(known, axis=1), axis=1)[:, 1:]
        if codes.shape[1]:
            self._before = codes[:, -1]
        self.num_frames += codes.shape[1]
        return codes

    def _is_code(self, number: int) -> bool:
        low, high = self.vocabulary.speech
        return low <= number < high

    def _called(self, number: int) -> str:
        inside = self.vocabulary.first <= number < self.vocabulary.stop - 1
        return f"id {number}" + (f" ({self.vocabulary.name(number)})" if inside else " (text)")
