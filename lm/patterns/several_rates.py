"""Codebooks of several frame rates in one stream: SNAC's seven a frame, Step-Audio's 2:3."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...errors import PatternError
from ..arrays import Array, Arrays
from .pattern import Pattern
from .table import Place


@dataclass(frozen=True)
class SeveralRates(Pattern):
    """Levels with 1, 2, 4 … codes in a frame, one code a step.

    A frame is the time after which all levels are in step again. It has a slot for each of its
    codes, and `sizes` has the slots': codes laid are (slots, frames), which `from_levels` makes of
    codes of several lengths.

    Attributes:
        rates: codes of each level in a frame.
    """

    rates: tuple[int, ...] = ()

    def _check(self) -> None:
        if not self.rates or min(self.rates) < 1 or sum(self.rates) != self.num_codebooks:
            raise PatternError(
                f"{self.name} with rates {list(self.rates)} has {sum(self.rates)} slots in a "
                f"frame; got sizes of {self.num_codebooks}"
            )

    def order(self) -> tuple[tuple[int, int], ...]:
        """Level, and number within the frame, of each slot."""
        raise NotImplementedError

    def _places(self) -> tuple[Place, ...]:
        count = self.num_codebooks
        return tuple(Place(0, slot, stride=count) for slot in range(count))

    def _steps(self) -> tuple[int, int]:
        return 0, self.num_codebooks

    def from_levels(self, levels: list[Array], *, drop: bool = False) -> Array:
        """Codes of levels, (…, frames × rate) each, as (…, slots, frames).

        Args:
            levels: one array a level; leading axes alike.
            drop: leave out codes at the end that make no whole frame; `incomplete` counts them.

        Raises:
            PatternError: another number of levels, or codes that make no whole frame.
        """
        frames, over = self._frames(levels)
        if any(over) and not drop:
            raise PatternError(
                f"levels of {[level.shape[-1] for level in levels]} codes make {frames} whole "
                f"frames of {list(self.rates)} and leave {over} over; pad them, or let drop=True "
                "leave these out"
            )
        split = [
            level[..., : frames * rate].reshape(*level.shape[:-1], frames, rate)
            for level, rate in zip(levels, self.rates, strict=True)
        ]
        make = Arrays(levels[0])
        return make.rows([split[level][..., number] for level, number in self.order()])

    def incomplete(self, levels: list[Array]) -> tuple[int, ...]:
        """Codes of each level beyond the last whole frame."""
        return self._frames(levels)[1]

    def to_levels(self, codes: Array) -> list[Array]:
        """The inverse of `from_levels`."""
        slots = {place: slot for slot, place in enumerate(self.order())}
        make = Arrays(codes)
        levels = []
        for level, rate in enumerate(self.rates):
            parts = make.rows([codes[..., slots[level, n], :] for n in range(rate)])
            levels.append(parts.swapaxes(-1, -2).reshape(*codes.shape[:-2], -1))
        return levels

    def _frames(self, levels: list[Array]) -> tuple[int, tuple[int, ...]]:
        if len(levels) != len(self.rates):
            raise PatternError(f"{self.name} has {len(self.rates)} levels, got {len(levels)}")
        counts = [level.shape[-1] for level in levels]
        frames = min(count // rate for count, rate in zip(counts, self.rates, strict=True))
        over = (n - frames * rate for n, rate in zip(counts, self.rates, strict=True))
        return frames, tuple(over)


@dataclass(frozen=True)
class SNAC(SeveralRates):
    """SNAC's levels (Siuzdak, 2024) as Orpheus has them: each code before the finer ones below it.

    Levels of 1, 2 and 4 codes are seven a frame: c0[i], c1[2i], c2[4i], c2[4i+1], c1[2i+1],
    c2[4i+2], c2[4i+3]. `sizes` has those of the seven slots.
    """

    name: ClassVar[str] = "snac"
    rates: tuple[int, ...] = (1, 2, 4)

    def _check(self) -> None:
        super()._check()
        pairs = zip(self.rates, self.rates[1:], strict=False)
        if self.rates[0] != 1 or any(fine % coarse for coarse, fine in pairs):
            raise PatternError(
                f"snac's rates begin with 1 and each divides the next; got {list(self.rates)}"
            )

    def order(self) -> tuple[tuple[int, int], ...]:
        def below(level: int, number: int) -> list[tuple[int, int]]:
            found = [(level, number)]
            if level + 1 < len(self.rates):
                each = self.rates[level + 1] // self.rates[level]
                for child in range(number * each, (number + 1) * each):
                    found += below(level + 1, child)
            return found

        return tuple(below(0, 0))


@dataclass(frozen=True)
class StepAudio(SeveralRates):
    """Step-Audio's two tokenizers: 2 codes of one, then 3 of the other; any number of either."""

    name: ClassVar[str] = "step-audio"
    rates: tuple[int, ...] = (2, 3)

    def order(self) -> tuple[tuple[int, int], ...]:
        levels = np.repeat(np.arange(len(self.rates)), self.rates)
        numbers = np.concatenate([np.arange(rate) for rate in self.rates])
        return tuple(zip(levels.tolist(), numbers.tolist(), strict=True))
