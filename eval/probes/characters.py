"""Character alphabets, greedy CTC decoding, and character edits."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

from ...audio.transcripts import words_of
from ..metrics.requirements import package

BLANK = 0


def normalise(text: str) -> str:
    """Normalise a text into words, as for word errors, separated by single spaces."""
    return " ".join(words_of(text))


class Alphabet:
    """The characters of some texts, numbered from 1; 0 is the blank.

    Args:
        texts: normalised.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self.characters = sorted(set("".join(texts)))
        self._number = {c: number for number, c in enumerate(self.characters, 1)}

    def __len__(self) -> int:
        """Number of classes, including the blank."""
        return len(self.characters) + 1

    def numbers(self, text: str) -> list[int]:
        """Return its characters' numbers; characters that are not in the alphabet are left out."""
        return [self._number[c] for c in text if c in self._number]

    def decode(self, best: Sequence[int] | np.ndarray) -> str:
        """Decode the best class of each frame: repetitions are merged, then blanks removed."""
        text = []
        last = BLANK
        for number in best:
            if number not in (last, BLANK):
                text.append(self.characters[int(number) - 1])
            last = number
        return "".join(text)


def frames_needed(numbers: Sequence[int]) -> int:
    """Return the minimal frames for CTC to write these characters: equal neighbours need a
    blank.
    """
    return len(numbers) + sum(a == b for a, b in pairwise(numbers))


def edits(reference: str, hypothesis: str) -> int:
    """Count insertions, deletions and substitutions of characters.

    Raises:
        MetricError: no `rapidfuzz` package.
    """
    levenshtein = package("rapidfuzz.distance.Levenshtein")
    return int(levenshtein.distance(reference, hypothesis))
