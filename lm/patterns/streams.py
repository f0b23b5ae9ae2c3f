"""Patterns while they run: `FrameStream` from steps to frames, `StepStream` from frames to steps.

Both keep what is not yet through and nothing else, so that a stream may run for hours.
"""

import numpy as np

from ...errors import PatternError, TokenError
from ..arrays import Array, Arrays
from .table import Mark, PatternTable, Place


class FrameStream:
    """Frames out of the steps that a language model generates, each as soon as it is whole.

        stream = pattern.stream(batch_size=4)
        while True:
            ids = sample(logits)                       # (4, streams)
            ids = where(stream.expected < 0, stream.filling, ids)
            codes = stream.push(ids)                   # (4, codebooks, frames that are whole now)

    Made by `Pattern.stream`.

    Attributes:
        num_steps: seen so far.
        num_frames: given so far.
    """

    def __init__(
        self, pattern: PatternTable, batch_size: int = 1, frames: int | None = None
    ) -> None:
        self.pattern, self.batch_size = pattern, batch_size
        self.num_steps = self.num_frames = 0
        self._kept: list[Array] = []
        self._kept_from = 0  # step of the first that is kept
        self._frames: int | None = None
        self._places: tuple[Place, ...] | None = None if pattern.needs_length else pattern.places
        self._end: Mark | None = next((m for m in pattern.marks), None)
        if frames is not None:
            self._settle(frames)
        elif self._places is None and (self._end is None or batch_size > 1):
            raise PatternError(
                f"{pattern} must know how many frames there will be: stream(…, frames=n)"
                + (", the same for every row" if batch_size > 1 else "")
            )

    @property
    def frames(self) -> int | None:
        """Of each row, once known."""
        return self._frames

    @property
    def done(self) -> bool:
        """Whether all steps are in."""
        return self._frames is not None and self.num_steps == self.pattern.num_steps(self._frames)

    @property
    def expected(self) -> np.ndarray:
        """(streams,) the codebook of each id of the next step; -1 where none belongs there.

        While the number of frames is open, the utterance is taken to go on.
        """
        found = np.full(self.pattern.streams, -1)
        step = self.num_steps
        places = self._places
        if places is None:  # before the end of what all others wait for
            places = tuple(p for p in self.pattern.places if not p.after)
            codebooks = [q for q, p in enumerate(self.pattern.places) if not p.after]
        else:
            codebooks = list(range(len(places)))
        for codebook, place in zip(codebooks, places, strict=True):
            time, apart = divmod(step - place.start, place.stride)
            if time >= 0 and not apart and (self._frames is None or time < self._frames):
                found[place.stream] = codebook
        return found

    @property
    def filling(self) -> np.ndarray:
        """(streams,) the special id of each stream, for where none is `expected`."""
        return np.array(self.pattern.specials)

    @property
    def allowed(self) -> np.ndarray:
        """(streams, 2) the ids that may come next in each stream, half-open, to mask logits with.

        The special id alone where no codebook is `expected`. An end that the pattern has is
        allowed besides, while its codebook is expected.
        """
        first, count = self.filling, np.ones(self.pattern.streams, np.int64)
        for stream, codebook in enumerate(self.expected.tolist()):
            if codebook >= 0:
                first[stream] = self.pattern.bases[codebook]
                count[stream] = self.pattern.sizes[codebook]
        return np.stack([first, first + count], -1)

    @property
    def incomplete_codes(self) -> int:
        """Codes that have come of frames that are not whole, in all rows."""
        places = self._places or tuple(p for p in self.pattern.places if not p.after)
        count = 0
        for codebook, place in enumerate(places):
            first = self.pattern.bases[codebook]
            start = place.start + place.stride * self.num_frames - self._kept_from
            kept = Arrays(self._kept[0]).join(self._kept) if self._kept else None
            if kept is None:
                break
            ids = kept[:, place.stream, start :: place.stride]
            count += int(((ids >= first) & (ids < first + self.pattern.sizes[codebook])).sum())
        return count

    def push(self, steps: Array, *, holes: bool = False) -> Array:
        """Take steps, give the frames that are whole with them.

        Args:
            steps: (batch, streams) one step, or (batch, streams, n) some; for a batch of one also
                without the batch, (streams,).
            holes: as `Pattern.restore` has it.

        Returns:
            codes (batch, codebooks, frames) int64; of no frames while none is whole.

        Raises:
            PatternError: another shape, or more steps than the utterance has.
            TokenError: an id that is no code of its codebook. The stream is as it was before.
        """
        make = Arrays(steps)
        new = make.integers(steps, "steps")
        if new.ndim == 1 and self.batch_size == 1:
            new = new[None]
        if new.ndim == 2:
            new = new[..., None]
        if tuple(new.shape[:2]) != (self.batch_size, self.pattern.streams):
            raise PatternError(
                f"steps must have shape ({self.batch_size}, {self.pattern.streams}) or "
                f"({self.batch_size}, {self.pattern.streams}, n), got {tuple(steps.shape)}"
            )
        undo = self._frames, self._places
        end = self.num_steps + new.shape[-1]
        try:
            self._look_for_end(new)
            if self._frames is not None and end > self.pattern.num_steps(self._frames):
                raise PatternError(
                    f"{end} steps; {self.pattern} has {self.pattern.num_steps(self._frames)} for "
                    f"{self._frames} frames"
                )
            whole = self._whole(end)
            parts = [*self._kept, new]
            if whole > self.num_frames:
                assert self._places is not None
                parts = [make.join(parts)]
                codes = self._take(make, parts[0], whole, holes)
            else:
                codes = make.full((self.batch_size, self.pattern.num_codebooks, 0), 0)
        except (PatternError, TokenError):
            self._frames, self._places = undo
            raise
        self.num_steps, self.num_frames = end, whole
        self._kept = parts
        self._forget()
        return make.give(codes)

    def _settle(self, frames: int) -> None:
        if frames < 0:
            raise PatternError(f"frames must be 0 or more, got {frames}")
        self._frames = frames
        self._places = tuple(
            place._replace(start=place.start + place.after * frames, after=0)
            for place in self.pattern.places
        )

    def _look_for_end(self, new: Array) -> None:
        """Where one codebook ends with a mark, its length is that of all others."""
        mark = self._end
        if mark is None or self._frames is not None:
            return
        found = (new[0, mark.stream] == mark.id).nonzero()
        places = found[0] if isinstance(found, tuple) else found[:, 0]
        if len(places):
            step = self.num_steps + int(places[0])
            self._settle((step - mark.start) // mark.after)

    def _whole(self, end: int) -> int:
        """Frames of which every code is among the first `end` steps."""
        if self._places is None:
            return 0
        whole = min((end - 1 - place.start) // place.stride + 1 for place in self._places)
        if self._frames is not None:
            whole = min(whole, self._frames)
        return max(whole, self.num_frames)

    def _take(self, make: Arrays, kept: Array, whole: int, holes: bool) -> Array:
        first, count = self.num_frames, whole - self.num_frames
        shape = (self.batch_size, self.pattern.num_codebooks, count)
        codes = make.full(shape, 0)
        assert self._places is not None
        for codebook, place in enumerate(self._places):
            start = place.start + place.stride * first - self._kept_from
            stop = start + place.stride * (count - 1) + 1
            codes[:, codebook] = kept[:, place.stream, start : stop : place.stride]
        return self.pattern.codes_of(make, codes, None, holes, first)

    def _forget(self) -> None:
        if self._places is None or len(self._kept) > 1:
            return
        needed = min(place.start + place.stride * self.num_frames for place in self._places)
        needed = min(max(needed, self._kept_from), self.num_steps)
        self._kept = [self._kept[0][..., needed - self._kept_from :]]
        self._kept_from = needed


class StepStream:
    """Steps out of frames as they come, each as soon as all that it holds is known.

        stream = pattern.step_stream()
        steps, mask = stream.push(frames)          # (1, codebooks, n)
        steps, mask = stream.flush()               # what remains when the utterance ends

    Joined, they are what `lay` gives. Made by `Pattern.step_stream`.
    """

    def __init__(self, pattern: PatternTable, batch_size: int = 1) -> None:
        self.pattern, self.batch_size = pattern, batch_size
        self.num_frames = self.num_steps = 0
        self._kept: Array | None = None
        self._make: Arrays | None = None
        self._kept_from = 0
        self._closed = False

    def push(self, codes: Array) -> tuple[Array, Array]:
        """Take frames, give the steps that are whole with them.

        Args:
            codes: (batch, codebooks, n); for a batch of one also (codebooks, n).

        Returns:
            steps and mask as `Pattern.lay` has them, (batch, streams, steps).

        Raises:
            PatternError: another shape, or the stream was flushed.
            TokenError: a code out of range, or no integers.
        """
        if self._closed:
            raise PatternError("this stream was flushed; start another for the next utterance")
        make = Arrays(codes)
        new = make.integers(codes, "codes")
        rows = new[None] if new.ndim == 2 else new
        self.pattern.check_codebooks(rows, new)
        if rows.shape[0] != self.batch_size:
            raise PatternError(f"a batch of {rows.shape[0]}; the stream has {self.batch_size}")
        self.pattern.check_codes(make, rows, None)
        self._make = make
        self._kept = rows if self._kept is None else make.join([self._kept, rows])
        self.num_frames += rows.shape[-1]
        count = self.num_frames
        # No utterance of these frames or more has fewer steps than this, nor knows more of them.
        stop = self.pattern.num_steps(count)
        for place in self.pattern.places:
            stop = min(stop, place.start + (place.after or place.stride) * count)
        for mark in self.pattern.marks:
            stop = min(stop, mark.start + mark.after * count)
        return self._give(make, max(stop, self.num_steps), None)

    def flush(self) -> tuple[Array, Array]:
        """The remaining steps. The stream is closed then.

        Raises:
            PatternError: it was flushed before.
        """
        if self._closed:
            raise PatternError("this stream was flushed already")
        self._closed = True
        kept = self._kept
        if kept is None:
            kept = np.zeros((self.batch_size, self.pattern.num_codebooks, 0), np.int64)
            self._kept = kept
        return self._give(
            self._make or Arrays(kept), self.pattern.num_steps(self.num_frames), self.num_frames
        )

    def _give(self, make: Arrays, stop: int, total: int | None) -> tuple[Array, Array]:
        """Steps from those given before to `stop`; `total` frames, once known."""
        pattern, begin = self.pattern, self.num_steps
        assert self._kept is not None
        shape = (self.batch_size, pattern.streams, stop - begin)
        steps, mask = make.full(shape, 0), make.false(shape)
        for stream, special in enumerate(pattern.specials):
            steps[:, stream] = special
        needed = self.num_frames
        for codebook, place in enumerate(pattern.places):
            if place.after and total is None:
                needed = 0  # all of it comes later
                continue
            start = place.start + place.after * (total or 0)
            first, last = (
                min(max(-(-(step - start) // place.stride), 0), self.num_frames)
                for step in (begin, stop)
            )
            needed = min(needed, last)
            if first < last:
                at = start + place.stride * first - begin
                where = slice(at, at + place.stride * (last - first - 1) + 1, place.stride)
                given = self._kept[:, codebook, first - self._kept_from : last - self._kept_from]
                steps[:, place.stream, where] = make.shifted(given, pattern.bases[codebook])
                mask[:, place.stream, where] = True
        for mark in pattern.marks:
            if total is None:
                continue
            at = mark.start + mark.after * total - begin
            steps[:, mark.stream, at] = mark.id
            mask[:, mark.stream, at] = True
        self._kept = self._kept[..., needed - self._kept_from :]
        self._kept_from = needed
        self.num_steps = stop
        return make.give(steps), make.give(mask)
