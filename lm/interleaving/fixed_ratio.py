"""n ids of text, m of speech, and so on: IST-LM, GLM-4-Voice; CosyVoice 2 with fill tokens."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from ...errors import InterleavingError
from ..arrays import Array
from .sequence import IGNORE, MARKER, SPEECH, TEXT, Interleaved, Kind, Scheme


@dataclass(frozen=True)
class FixedRatio(Scheme):
    """n ids of text and m frames of speech in turn; when one ends, the rest of the other.

    IST-LM (Yang et al., 2024); GLM-4-Voice (Zeng et al., 2024) with 13 and 26.

    Attributes:
        n, m: ids of text, and ids of speech (frames, where speech comes as (frames, k) ids), in a
            block.
        begin, end: markers of the whole sequence.
        text_marker, speech_marker: before each block.
        text_end: after the last id of text.
        tail: "rest" writes what remains of the longer one; "drop" ends with the block in which the
            shorter one ends, and counts what is lost.
    """

    name: ClassVar[str] = "fixed-ratio"
    marker_fields: ClassVar[tuple[str, ...]] = (
        "begin", "end", "text_marker", "speech_marker", "text_end",
    )  # fmt: skip
    n: int = 13
    m: int = 26
    begin: int | None = None
    end: int | None = None
    text_marker: int | None = None
    speech_marker: int | None = None
    text_end: int | None = None
    tail: Literal["rest", "drop"] = "rest"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n < 1 or self.m < 1:
            raise InterleavingError(f"the ratio must be of 1 or more, got {self.n}:{self.m}")

    def join(self, text: Array, speech: Array) -> Interleaved:
        """One sequence of text (ids,) and speech (ids,) or (frames, k).

        Raises:
            InterleavingError: no text, or ids of the wrong kind.
        """
        words, frames = self._text(text), self._speech(speech)
        lost = 0
        if self.tail == "drop":
            blocks = min(-(-len(words) // self.n), -(-len(frames) // self.m))
            kept = words[: blocks * self.n], frames[: blocks * self.m]
            lost = len(words) - len(kept[0]) + frames.size - kept[1].size
            words, frames = kept
        # Blocks are sorted by number, text before speech.
        order = np.concatenate(
            [
                np.arange(len(words)) // self.n * 2,
                np.repeat(np.arange(len(frames)) // self.m * 2 + 1, frames.shape[1]),
            ]
        ).argsort(kind="stable")
        ids = np.concatenate([words, frames.reshape(-1)])[order]
        kinds = np.repeat(np.array([TEXT, SPEECH], np.int8), [len(words), frames.size])[order]
        ids, kinds = self._marked(ids, kinds)
        return self._with_targets(ids, kinds, lost)

    def _marked(self, ids: np.ndarray, kinds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        at: list[int] = []
        marks: list[int] = []
        last_text = np.flatnonzero(kinds == TEXT)[-1:]
        if self.text_end is not None:
            at += (last_text + 1).tolist()
            marks += [self.text_end] * len(last_text)
        for kind, marker in ((TEXT, self.text_marker), (SPEECH, self.speech_marker)):
            if marker is not None:
                begins = np.flatnonzero((kinds == kind) & (np.append(-1, kinds[:-1]) != kind))
                at += begins.tolist()
                marks += [marker] * len(begins)
        if self.begin is not None:
            at, marks = [0, *at], [self.begin, *marks]
        if self.end is not None:
            at, marks = [*at, len(ids)], [*marks, self.end]
        return np.insert(ids, at, marks), np.insert(kinds, at, np.int8(MARKER))


@dataclass(frozen=True)
class CosyVoice(Scheme):
    """CosyVoice 2's streaming synthesis (Du et al., 2024): 5 ids of text, 15 of speech, in turn.

    After each full block of speech the model should say `fill`, which is never read: more text is
    read in its place. What remains of the text comes last, then `task`, the rest of the speech, and
    `end`. Text is not learned. Where text is long for its speech, all of it comes first.

    Attributes:
        begin, task, end, fill: ids of the markers.
        n, m: ids of text and of speech in a block.
    """

    name: ClassVar[str] = "cosyvoice"
    marker_fields: ClassVar[tuple[str, ...]] = ("begin", "task", "end", "fill")
    learn: tuple[Kind, ...] = ("speech", "marker")
    begin: int = -1
    task: int = -1
    end: int = -1
    fill: int = -1
    n: int = 5
    m: int = 15

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n < 1 or self.m < 1:
            raise InterleavingError(f"the ratio must be of 1 or more, got {self.n}:{self.m}")
        if len(self.markers) < 4:
            raise InterleavingError("begin, task, end and fill must be four different ids")

    def streams(self, text: int, speech: int) -> bool:
        """Whether an utterance of so many ids is long enough to be written in blocks."""
        return speech * self.n > text * self.m

    def join(self, text: Array, speech: Array) -> Interleaved:
        """One sequence of text (ids,) and speech (ids,); `targets` differ from the next ids.

        Raises:
            InterleavingError: no text, or ids of the wrong kind.
        """
        words, units = self._text(text), self._speech(speech).reshape(-1)
        blocks = len(words) // self.n if self.streams(len(words), len(units)) else 0
        block_words = words[: blocks * self.n].reshape(blocks, self.n)
        block_units = units[: blocks * self.m].reshape(blocks, self.m)
        rest, more = words[blocks * self.n :], units[blocks * self.m :]
        # In a block, the last id of text is followed by speech, and the last of speech by `fill`.
        silent = np.full((blocks, self.n - 1), IGNORE)
        fill = np.full((blocks, 1), self.fill)
        ids = np.concatenate(
            [
                [self.begin],
                np.concatenate([block_words, block_units], 1).reshape(-1),
                rest,
                [self.task],
                more,
            ]
        )
        targets = np.concatenate(
            [
                [IGNORE],
                np.concatenate([silent, block_units, fill], 1).reshape(-1),
                np.full(len(rest), IGNORE),
                more,
                [self.end],
            ]
        )
        return Interleaved(ids, targets, self.kinds_of(ids))
