"""`Pattern`: how the codes of several codebooks become the steps of a language model, and back.

Laying out is one strided copy a codebook, by the table of `PatternTable`.
"""

from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from ...errors import TokenError
from ...typed_fields import to_json
from ..arrays import Array, Arrays
from .streams import FrameStream, StepStream
from .table import PatternTable, Place

P = TypeVar("P", bound="Pattern")


@dataclass(frozen=True)
class Pattern(PatternTable):
    """A way to lay out codes (codebooks, frames) as steps (streams, steps) of a language model.

    The fields are those of `PatternTable`.
    """

    def with_ids(self: P, base: tuple[int, ...], special: tuple[int, ...] | int) -> P:
        """The same pattern, writing these ids: as a `Vocabulary` has them."""
        return replace(self, base=base, special=special)  # type: ignore[arg-type]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `pattern_from_json` reads them."""
        return {"pattern": self.name, **to_json(self)}

    def layout(self, frames: int) -> tuple[np.ndarray, np.ndarray]:
        """Which code stands where in an utterance of so many frames.

        Returns:
            codebook and frame, each (streams, steps) int64; -1 where no code stands.
        """
        shape = (self.streams, self.num_steps(frames))
        codebooks, times = np.full(shape, -1), np.full(shape, -1)
        for codebook, place in enumerate(self.places):
            where = self._slice(place, frames)
            row = codebooks[place.stream, where]
            row[:] = codebook
            times[place.stream, where] = np.arange(len(row))
        return codebooks, times

    def _slice(self, place: Place, frames: int) -> slice:
        start = place.start + place.after * frames
        return slice(start, start + place.stride * frames, place.stride)

    def _view(self, make: Arrays, steps: Array, frames: int) -> Array:
        """Where the codes (batch, codebooks, frames) stand in (batch, streams, steps)."""
        assert self.even is not None
        first, shape = self.places[0], (steps.shape[0], self.num_codebooks, frames)
        return make.view(steps, (first.stream, first.start), shape, self.even)

    # --- there and back --------------------------------------------------------------------------

    def lay(
        self, codes: Array, lengths: Array | None = None, *, check: bool = True
    ) -> tuple[Array, Array]:
        """Codes as steps.

        Args:
            codes: (codebooks, frames) or (batch, codebooks, frames), integers of any dtype, in
                NumPy or torch.
            lengths: (batch,) valid frames of each row; default: all.
            check: look whether every code is one of its codebook.

        Returns:
            steps, (streams, steps) or (batch, streams, steps) int64, and a mask of the same shape
            that is true where there is something to learn: codes, and the end that a pattern has.
            Rows are filled with the special id beyond `num_steps(length)`.

        Raises:
            PatternError: other codebooks than the pattern's.
            TokenError: a code out of range, no integers, or lengths that can't be.
        """
        make = Arrays(codes)
        codes = make.integers(codes, "codes")
        rows = codes[None] if codes.ndim == 2 else codes
        self.check_codebooks(rows, codes)
        batch, _, frames = rows.shape
        counts = _lengths(make, lengths, batch, frames, "frames")
        valid = None if counts is None else make.arange(frames) < counts[:, None]
        if check:
            self.check_codes(make, rows, valid)
        shape = (batch, self.streams, self.num_steps(frames))
        steps, mask = make.full(shape, self.specials[0]), make.false(shape)
        for stream in range(1, self.streams):
            if self.specials[stream] != self.specials[0]:
                steps[:, stream] = self.specials[stream]
        if self.even is not None:
            # All codebooks at once.
            given = make.shifted(rows, make.column(self.bases)) if any(self.bases) else rows
            self._view(make, mask, frames)[...] = True if valid is None else valid[:, None]
            if valid is not None:
                filling = [self.specials[place.stream] for place in self.places]
                given = make.where(valid[:, None], given, make.column(filling))
            self._view(make, steps, frames)[...] = given
        for codebook, place in enumerate(self.places if self.even is None else ()):
            given, first = rows[:, codebook], self.bases[codebook]
            if first:
                given = make.shifted(given, first)
            if valid is None or not place.after:
                where = self._slice(place, frames)
                target = steps[:, place.stream, where]
                kept = target.shape[-1]  # fewer where the pattern cuts
                if valid is None:
                    target[...] = given[:, :kept]
                    mask[:, place.stream, where] = True
                else:
                    seen = valid[:, :kept]
                    target[...] = make.where(seen, given[:, :kept], self.specials[place.stream])
                    mask[:, place.stream, where] = seen
            else:
                row, time = make.nonzero(valid)
                at = place.start + place.after * counts[row] + place.stride * time
                steps[row, place.stream, at] = given[row, time]
                mask[row, place.stream, at] = True
        for mark in self.marks:
            row = make.arange(batch)
            at = mark.start + mark.after * (frames if counts is None else counts)
            steps[row, mark.stream, at] = mark.id
            mask[row, mark.stream, at] = True
        if valid is not None and self.lost_frames:
            # What a cut drops from the longest row is dropped from every row.
            inside = make.arange(shape[-1]) < self.num_steps(counts)[:, None]
            mask &= inside[:, None]
            for stream in range(self.streams):
                steps[:, stream] = make.where(inside, steps[:, stream], self.specials[stream])
        steps, mask = make.give(steps), make.give(mask)
        return (steps[0], mask[0]) if codes.ndim == 2 else (steps, mask)

    def restore(self, steps: Array, lengths: Array | None = None, *, holes: bool = False) -> Array:
        """The codes of steps: the inverse of `lay`.

        Args:
            steps: (streams, steps) or (batch, streams, steps), integers; for patterns of one
                stream also (steps,).
            lengths: (batch,) valid steps of each row; default: all.
            holes: give -1 for what is no code of the codebook that stands there, where a language
                model wrote something else, in place of an error.

        Returns:
            codes (codebooks, frames) or (batch, codebooks, frames) int64, of `num_frames(steps)`
            frames, 0 beyond those of a row.

        Raises:
            PatternError: other streams than the pattern's, or a number of steps that it can't have.
            TokenError: an id that is no code of its codebook, no integers, or impossible lengths.
        """
        make = Arrays(steps)
        steps = make.integers(steps, "steps")
        rows = steps[None] if steps.ndim == 2 else steps
        if steps.ndim == 1 and self.streams == 1:
            rows = steps[None, None]
        self.check_streams(rows, steps)
        batch, _, total = rows.shape
        step_counts = _lengths(make, lengths, batch, total, "steps")
        counts: Any = None if step_counts is None else self.num_frames(step_counts)
        frames = self.num_frames(total) if counts is None else int(counts.max()) if batch else 0
        valid = None if counts is None else make.arange(frames) < counts[:, None]
        shape = (batch, self.num_codebooks, frames)
        codes = make.empty(shape) if self.even else make.full(shape, 0)
        if self.even is not None:
            codes[...] = self._view(make, rows, frames)
        for codebook, place in enumerate(self.places if self.even is None else ()):
            if valid is None or not place.after:
                where = self._slice(place, frames)
                codes[:, codebook] = rows[:, place.stream, where]
            else:
                row, time = make.nonzero(valid)
                at = place.start + place.after * counts[row] + place.stride * time
                codes[row, codebook, time] = make.shifted(rows[row, place.stream, at], 0)
        codes = self.codes_of(make, codes, valid, holes)
        for mark in self.marks if not holes else ():
            at = mark.start + mark.after * (frames if counts is None else counts)
            found = rows[make.arange(batch), mark.stream, at]
            if bool((found != mark.id).any()):
                wrong = int(found[found != mark.id][0])
                raise TokenError(f"{self}: id {wrong} where the end, {mark.id}, belongs")
        codes = make.give(codes)
        return codes[0] if steps.ndim < 3 else codes

    def stream(self, batch_size: int = 1, frames: int | None = None) -> FrameStream:
        """The inverse while a model generates: steps in, frames out as soon as they are whole.

        Args:
            batch_size: rows that generate together.
            frames: of each row, where known. Patterns in which one codebook waits for the whole of
                another (`needs_length`) need it, unless they mark the end.

        Raises:
            PatternError: the pattern needs the number of frames.
        """
        return FrameStream(self, batch_size, frames)

    def step_stream(self, batch_size: int = 1) -> StepStream:
        """`lay` while frames come in, as from a microphone: steps out as soon as they are whole."""
        return StepStream(self, batch_size)


def _lengths(make: Arrays, lengths: Array | None, batch: int, most: int, what: str) -> Any:
    if lengths is None:
        return None
    counts = make.integers(lengths, "lengths")
    if tuple(counts.shape) != (batch,):
        raise TokenError(f"lengths must have shape ({batch},), got {tuple(counts.shape)}")
    least, greatest = make.bounds(counts)
    if least < 0 or greatest > most:
        raise TokenError(f"lengths must lie in 0..{most} {what}, got {counts.tolist()}")
    return make.shifted(counts, 0)
