"""ESPnet-SpeechLM's delay: no start, and ids of one vocabulary with a padding id a codebook."""

from dataclasses import dataclass
from itertools import accumulate
from typing import ClassVar

from .delay import Delay


@dataclass(frozen=True)
class ESPnet(Delay):
    """Delays 0, 1, 2, … without a first step; codebook q has ids of its own, padding first.

    With codebooks of n codes, codebook q is filled with id ``q (n + 1)`` and its code c has id
    ``q (n + 1) + 1 + c``.
    """

    name: ClassVar[str] = "espnet"
    start: int = 0

    def __post_init__(self) -> None:
        firsts = (0, *accumulate(size + 1 for size in self.sizes[:-1]))
        if not self.base and not self.special:
            object.__setattr__(self, "base", tuple(first + 1 for first in firsts))
            object.__setattr__(self, "special", firsts)
        super().__post_init__()
