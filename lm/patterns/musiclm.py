"""Coarse codebooks of the whole utterance, then the finer ones: MusicLM, AudioLM."""

from dataclasses import dataclass
from typing import ClassVar

from ...errors import PatternError
from .pattern import Pattern
from .table import Place


@dataclass(frozen=True)
class MusicLM(Pattern):
    """Groups of codebooks one after the other, each flattened over all frames, in one stream.

    AudioLM (Borsos et al., 2022) and MusicLM (Agostinelli et al., 2023): the coarse model's
    sequence, then the fine one's. As audiocraft's `MusicLMPattern`, without what fills its other
    codebooks.

    Attributes:
        group: codebooks that are flattened together; the last group may have fewer.
    """

    name: ClassVar[str] = "musiclm"
    group: int = 2

    def _check(self) -> None:
        if self.group < 1:
            raise PatternError(f"group must be 1 or more codebooks, got {self.group}")

    def _places(self) -> tuple[Place, ...]:
        places = []
        for first in range(0, self.num_codebooks, self.group):
            count = min(self.group, self.num_codebooks - first)
            places += [Place(0, inner, stride=count, after=first) for inner in range(count)]
        return tuple(places)

    def _steps(self) -> tuple[int, int]:
        return 0, self.num_codebooks
