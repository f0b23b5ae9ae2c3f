"""Moshi's inner monologue: a row of text beside the codes, a token a frame."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from ...errors import InterleavingError
from ...typed_fields import to_json
from ..arrays import Array
from .words import _DECIMALS, Word, check_words


@dataclass(frozen=True, eq=False)
class Monologue:
    """A row of text.

    Attributes:
        ids: (frames,) int64.
        lost: tokens that found no frame.
        late: frames by which tokens come after their time, at most.
    """

    ids: np.ndarray
    lost: int
    late: int


@dataclass(frozen=True)
class InnerMonologue:
    """Each word's tokens from the frame in which it starts, one a frame (Défossez et al., 2024).

    Frame t takes the words that start before (t + 1) / frame_rate seconds. Elsewhere is `pad`, and
    `end_pad` in place of a pad just before a word.

    Attributes:
        frame_rate: frames a second.
        pad, end_pad: ids that are no words.
        when_full: where a word is not yet through when the next starts: "shift" the next, so that
            nothing is lost but what is left at the end; or "drop" what was not said of the word, as
            the original does.
    """

    name: ClassVar[str] = "inner-monologue"
    frame_rate: float = 12.5
    pad: int = 3
    end_pad: int = 0
    when_full: Literal["shift", "drop"] = "shift"

    def __post_init__(self) -> None:
        if not 0 < self.frame_rate < float("inf"):
            raise InterleavingError(f"frame_rate must be positive, got {self.frame_rate}")
        if self.pad == self.end_pad:
            raise InterleavingError(f"pad and end_pad must differ, both are {self.pad}")

    def to_json(self) -> dict[str, Any]:
        return {"scheme": self.name, **to_json(self)}

    def lay(self, words: Sequence[Word], frames: int) -> Monologue:
        """The row of some words, in order, for so many frames.

        Raises:
            InterleavingError: no words, times out of order, or a word that has a pad's id.
        """
        check_words(words)
        counts = np.array([len(word.ids) for word in words])
        tokens = np.array([i for word in words for i in word.ids], np.int64)
        if np.isin(tokens, (self.pad, self.end_pad)).any():
            raise InterleavingError(
                f"a word has the id of pad ({self.pad}) or end_pad ({self.end_pad}): choose ids "
                "that the text tokenizer doesn't give"
            )
        seconds = np.array([word.start for word in words], np.float64)
        starts = np.floor(np.round(seconds * self.frame_rate, _DECIMALS)).astype(np.int64)
        if self.when_full == "shift":
            before = np.cumsum(counts) - counts
            begins = before + np.maximum.accumulate(starts - before)
            room = counts
        else:
            begins = starts
            room = np.minimum(counts, np.diff(starts, append=max(frames, int(starts[-1]))))
        offsets = np.arange(len(tokens)) - np.repeat(np.cumsum(counts) - counts, counts)
        at = np.repeat(begins, counts) + offsets
        said = (offsets < np.repeat(room, counts)) & (at < frames)
        row = np.full(frames, self.pad, np.int64)
        row[at[said]] = tokens[said]
        heads = at[said & (offsets == 0)]
        heads = heads[heads > 0] - 1
        row[heads[row[heads] == self.pad]] = self.end_pad
        late = np.repeat(begins - starts, counts)[said]
        return Monologue(row, int(len(tokens) - said.sum()), int(late.max(initial=0)))

    def restore(self, ids: Array) -> tuple[np.ndarray, np.ndarray]:
        """The text of a row: its ids, and the frame of each. Pieces of a row give pieces."""
        row = np.asarray(ids.cpu() if hasattr(ids, "cpu") else ids)
        if row.ndim != 1 or (row.size and row.dtype.kind not in "iu"):
            raise InterleavingError(
                f"a row of text is integers of shape (frames,), got {row.shape}"
            )
        at = np.flatnonzero((row != self.pad) & (row != self.end_pad))
        return row[at].astype(np.int64), at
