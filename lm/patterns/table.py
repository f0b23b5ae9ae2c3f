"""`PatternTable`: where the codes of each codebook stand among the steps of a language model.

Every pattern in use is affine: frame t of an utterance of T frames stands, for each codebook, at
step ``start + per_utterance_frame × T + stride × t`` of one stream. So a pattern is a small table;
laying out, its inverse, the streams, the lengths and the picture all follow from it.
"""

from dataclasses import dataclass, fields
from functools import cached_property
from operator import index
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ...errors import PatternError, TokenError
from ..arrays import Array, Arrays

MAX_DELAY = 1 << 16


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
class PatternTable:
    """Where codes (codebooks, frames) stand among the steps (streams, steps) of a language model.

    `Pattern` adds what lays them out; streams need only the table.

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

    @cached_property
    def even(self) -> tuple[tuple[int, int], tuple[int, int]] | None:
        """How far codebooks, and frames, are apart: in streams and steps. None where that is not
        the same for all, depends on the number of frames, or frames are lost.
        """
        first, *_ = self.places
        moves = {
            (b.stream - a.stream, b.start - a.start)
            for a, b in zip(self.places, self.places[1:], strict=False)
        } or {(0, 0)}
        if len(moves) > 1 or self.lost_frames or min(min(moves)) < 0:
            return None
        if any(place.after or place.stride != first.stride for place in self.places):
            return None
        return moves.pop(), (0, first.stride)

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

    # --- checks ----------------------------------------------------------------------------------

    def check_codebooks(self, rows: Array, given: Array) -> None:
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

    def check_streams(self, rows: Array, given: Array) -> None:
        if rows.ndim != 3 or rows.shape[1] != self.streams:
            raise PatternError(
                f"steps of {self} must have shape ({self.streams}, steps) or "
                f"(batch, {self.streams}, steps), got {tuple(given.shape)}"
            )

    def check_codes(self, make: Arrays, rows: Array, valid: Array | None) -> None:
        if make.within(rows, min(self.sizes)):
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

    def codes_of(
        self, make: Arrays, ids: Array, valid: Array | None, holes: bool, first: int = 0
    ) -> Array:
        """Codes of ids (batch, codebooks, frames), in place; `first` numbers the first frame."""
        if any(self.base):
            ids -= make.column(self.base)
        if valid is not None:
            ids *= valid[:, None]
        if make.within(ids, min(self.sizes)):
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
