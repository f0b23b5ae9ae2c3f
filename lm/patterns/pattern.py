"""`Pattern`: how the codes of several codebooks become the steps of a language model, and back.

Every pattern in use is affine: frame t of an utterance of T frames stands, for each codebook, at
step ``start + per_utterance_frame × T + stride × t`` of one stream. So a pattern is a small table,
laying out is one strided copy a codebook, and the inverse, its stream, the lengths and the picture
all follow from the same table.
"""

from dataclasses import dataclass, fields, replace
from functools import cached_property
from operator import index
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar

import numpy as np

from ...errors import PatternError, TokenError
from ...typed_fields import to_json
from ..arrays import Array, Arrays

if TYPE_CHECKING:
    from .streams import FrameStream, StepStream

MAX_DELAY = 1 << 16
P = TypeVar("P", bound="Pattern")


class Place(NamedTuple):
    """Where the codes of one codebook stand.

    Attributes:
        stream: which of the parallel streams of ids.
        start: step of frame 0, but for what follows.
        stride: steps from one frame to the next.
        after: steps by which every frame of the utterance moves the start: 1 for what begins when
            all frames of something else are through.
    """

    stream: int
    start: int
    stride: int = 1
    after: int = 0


class Mark(NamedTuple):
    """An id that is neither code nor filling, at step ``start + after × frames``."""

    stream: int
    start: int
    after: int
    id: int


@dataclass(frozen=True)
class Pattern:
    """A way to lay out codes (codebooks, frames) as steps (streams, steps) of a language model.

    Attributes:
        sizes: number of codes of each codebook.
        base: id of code 0 of each codebook; without it 0, so that ids are codes.
        special: id that fills the steps of each stream that hold no code: one for each, or one for
            all. Without it, the id after the greatest of the stream: the codebook's size.

    Raises:
        PatternError: the settings don't agree with each other.
    """

    sizes: tuple[int, ...]
    base: tuple[int, ...] = ()
    special: tuple[int, ...] = ()

    #: In the registry and in JSON.
    name: ClassVar[str]

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(field.default, tuple) or field.name == "sizes":
                object.__setattr__(self, field.name, _integers(field.name, value))
        if not self.sizes or min(self.sizes) < 1:
            raise PatternError(f"sizes must be those of one or more codebooks, got {self.sizes}")
        if self.base and len(self.base) != self.num_codebooks:
            raise PatternError(
                f"base must have an id for each of {self.num_codebooks} codebooks, got {self.base}"
            )
        self._check()
        if len(self.special) not in (0, 1, self.streams):
            raise PatternError(
                f"special must be one id, or one for each of {self.streams} streams, got "
                f"{self.special}"
            )
        for codebook, place in enumerate(self.places):
            first = self.bases[codebook]
            if first <= self.specials[place.stream] < first + self.sizes[codebook]:
                raise PatternError(
                    f"special id {self.specials[place.stream]} of stream {place.stream} is also "
                    f"code {self.specials[place.stream] - first} of codebook {codebook}; "
                    "choose one that is no code"
                )

    # --- what each pattern says of itself --------------------------------------------------------

    def _check(self) -> None:
        """Look at the fields of a pattern before its table is made."""

    def _places(self) -> tuple[Place, ...]:
        """Where each codebook stands."""
        raise NotImplementedError

    def _steps(self) -> tuple[int, int]:
        """The length law: steps at no frames, and steps that each frame adds."""
        raise NotImplementedError

    def _marks(self) -> tuple[Mark, ...]:
        return ()

    @property
    def lost_frames(self) -> int:
        """Frames at the end whose codes don't all find a step, and don't come back."""
        return 0

    # --- facts that follow -----------------------------------------------------------------------

    @cached_property
    def places(self) -> tuple[Place, ...]:
        return self._places()

    @cached_property
    def marks(self) -> tuple[Mark, ...]:
        return self._marks()

    @property
    def num_codebooks(self) -> int:
        return len(self.sizes)

    @cached_property
    def streams(self) -> int:
        """Parallel ids in a step."""
        return 1 + max(place.stream for place in self.places)

    @property
    def bases(self) -> tuple[int, ...]:
        """Id of code 0 of each codebook."""
        return self.base or (0,) * self.num_codebooks

    @cached_property
    def specials(self) -> tuple[int, ...]:
        """The filling id of each stream."""
        if self.special:
            return (
                self.special if len(self.special) == self.streams else self.special * self.streams
            )
        ends = [0] * self.streams
        for place, first, size in zip(self.places, self.bases, self.sizes, strict=True):
            ends[place.stream] = max(ends[place.stream], first + size)
        return tuple(ends)

    @property
    def needs_length(self) -> bool:
        """Whether steps can't be told apart before the number of frames is known."""
        return any(place.after for place in self.places)

    def num_steps(self, frames: Any) -> Any:
        """Steps of an utterance of so many frames: an integer, or an array of them."""
        fixed, each = self._steps()
        return frames * each + fixed

    def num_frames(self, steps: Any) -> Any:
        """Frames that come back from so many steps: an integer, or an array of them.

        Raises:
            PatternError: no utterance has so many steps.
        """
        fixed, each = self._steps()
        frames = (steps - fixed) // each
        wrong = (frames < 0) | (frames * each + fixed != steps)
        if wrong if isinstance(wrong, bool) else bool(wrong.any()):
            raise PatternError(
                f"{self}: no utterance has {steps} steps; n frames have {self.law()}. Steps that "
                "are cut short go through stream(), which gives the frames that are whole"
            )
        if not self.lost_frames:
            return frames
        frames = frames - self.lost_frames
        return max(frames, 0) if isinstance(frames, int) else frames.clip(min=0)

    def law(self) -> str:
        """The length law in words."""
        fixed, each = self._steps()
        count = "n" if each == 1 else f"{each} × n"
        return f"{count} + {fixed} steps" if fixed else f"{count} steps"

    def __str__(self) -> str:
        shown = [
            f"{field.name}={getattr(self, field.name)}"
            for field in fields(self)
            if field.name != "sizes" and getattr(self, field.name) != field.default
        ]
        return f"{self.name}({', '.join([f'{self.num_codebooks} codebooks', *shown])})"

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
        self._check_codebooks(rows, codes)
        batch, _, frames = rows.shape
        counts = _lengths(make, lengths, batch, frames, "frames")
        valid = None if counts is None else make.arange(frames) < counts[:, None]
        if check:
            self._check_codes(make, rows, valid)
        shape = (batch, self.streams, self.num_steps(frames))
        steps, mask = make.full(shape, self.specials[0]), make.false(shape)
        for stream in range(1, self.streams):
            if self.specials[stream] != self.specials[0]:
                steps[:, stream] = self.specials[stream]
        for codebook, place in enumerate(self.places):
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
        self._check_streams(rows, steps)
        batch, _, total = rows.shape
        step_counts = _lengths(make, lengths, batch, total, "steps")
        counts: Any = None if step_counts is None else self.num_frames(step_counts)
        frames = self.num_frames(total) if counts is None else int(counts.max()) if batch else 0
        valid = None if counts is None else make.arange(frames) < counts[:, None]
        codes = make.full((batch, self.num_codebooks, frames), 0)
        for codebook, place in enumerate(self.places):
            if valid is None or not place.after:
                where = self._slice(place, frames)
                codes[:, codebook] = rows[:, place.stream, where]
            else:
                row, time = make.nonzero(valid)
                at = place.start + place.after * counts[row] + place.stride * time
                codes[row, codebook, time] = make.shifted(rows[row, place.stream, at], 0)
        codes = self._codes_of(make, codes, valid, holes)
        for mark in self.marks if not holes else ():
            at = mark.start + mark.after * (frames if counts is None else counts)
            found = rows[make.arange(batch), mark.stream, at]
            if bool((found != mark.id).any()):
                wrong = int(found[found != mark.id][0])
                raise TokenError(f"{self}: id {wrong} where the end, {mark.id}, belongs")
        codes = make.give(codes)
        return codes[0] if steps.ndim < 3 else codes

    def stream(self, batch_size: int = 1, frames: int | None = None) -> "FrameStream":
        """The inverse while a model generates: steps in, frames out as soon as they are whole.

        Args:
            batch_size: rows that generate together.
            frames: of each row, where known. Patterns in which one codebook waits for the whole of
                another (`needs_length`) need it, unless they mark the end.

        Raises:
            PatternError: the pattern needs the number of frames.
        """
        from .streams import FrameStream

        return FrameStream(self, batch_size, frames)

    def step_stream(self, batch_size: int = 1) -> "StepStream":
        """`lay` while frames come in, as from a microphone: steps out as soon as they are whole."""
        from .streams import StepStream

        return StepStream(self, batch_size)

    # --- checks ----------------------------------------------------------------------------------

    def _check_codebooks(self, rows: Array, given: Array) -> None:
        if rows.ndim != 3:
            raise PatternError(
                "codes must have shape (codebooks, frames) or (batch, codebooks, frames), got "
                f"{tuple(given.shape)}"
            )
        if rows.shape[1] != self.num_codebooks:
            fewer = rows.shape[1] > self.num_codebooks
            raise PatternError(
                f"{self} is for {self.num_codebooks} codebooks, got codes of {rows.shape[1]}: "
                + (
                    f"keep the first {self.num_codebooks}, or make"
                    if fewer
                    else "encode with more, or make"
                )
                + " the pattern with the sizes of these"
            )

    def _check_streams(self, rows: Array, given: Array) -> None:
        if rows.ndim != 3 or rows.shape[1] != self.streams:
            raise PatternError(
                f"steps of {self} must have shape ({self.streams}, steps) or "
                f"(batch, {self.streams}, steps), got {tuple(given.shape)}"
            )

    def _check_codes(self, make: Arrays, rows: Array, valid: Array | None) -> None:
        least, greatest = make.bounds(rows)
        if least >= 0 and greatest < min(self.sizes):
            return
        for codebook, size in enumerate(self.sizes):
            codes = rows[:, codebook]
            wrong = (codes < 0) | (codes >= size)
            if valid is not None:
                wrong = wrong & valid
            if bool(wrong.any()):
                row, time = (int(axis[0]) for axis in make.nonzero(wrong))
                raise TokenError(
                    f"code {int(codes[row, time])} of codebook {codebook}, which has {size} codes "
                    f"(row {row}, frame {time}): these codes are of another tokenizer, or damaged"
                )

    def _codes_of(
        self, make: Arrays, ids: Array, valid: Array | None, holes: bool, first: int = 0
    ) -> Array:
        """Codes of ids (batch, codebooks, frames), in place; `first` numbers the first frame."""
        for codebook, base in enumerate(self.base):
            codes = ids[:, codebook]
            codes -= base
        if valid is not None:
            ids *= valid[:, None]
        least, greatest = make.bounds(ids)
        if least >= 0 and greatest < min(self.sizes):
            return ids
        for codebook, (base, size) in enumerate(zip(self.bases, self.sizes, strict=True)):
            codes = ids[:, codebook]
            wrong = (codes < 0) | (codes >= size)
            if not bool(wrong.any()):
                continue
            if holes:
                codes[wrong] = -1
                continue
            row, time = (int(axis[0]) for axis in make.nonzero(wrong))
            raise TokenError(
                f"id {int(codes[row, time]) + base} where a code of codebook {codebook} belongs, "
                f"an id from {base} to {base + size - 1} (row {row}, frame {first + time}); "
                "holes=True gives -1 for these"
            )
        return ids


def _integers(name: str, values: Any) -> tuple[int, ...]:
    """A field of whole numbers as a tuple; one number is one of one."""
    try:
        return tuple(index(value) for value in np.atleast_1d(values).tolist())
    except (TypeError, ValueError):
        raise PatternError(f"{name} must be whole numbers, got {values!r}") from None


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
