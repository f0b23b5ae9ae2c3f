"""Two speakers at once, each with codes of their own, and the text of one or of both."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ...errors import InterleavingError
from ...typed_fields import to_json
from ..arrays import Array
from ..patterns.moshi import Moshi
from .words import Word


@dataclass(frozen=True)
class Dialogue:
    """Rows for a model that listens while it speaks: text, its codes, the other's codes.

    Moshi's rows (Défossez et al., 2024); with `texts` 0 those of dGSLM (Nguyen et al., 2022), and
    with 2 a monologue for each. `pattern` lays them out.

    Attributes:
        sizes: of a speaker's codebooks.
        text_size: ids of the text vocabulary, pads included.
        texts: rows of text, 0 to 2.
        silence: (codebooks,) codes that go on where one speaker's audio ends before the other's;
            without them, both must be as long.
    """

    name: ClassVar[str] = "dialogue"
    sizes: tuple[int, ...]
    text_size: int = 32000
    texts: int = 1
    silence: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for field in ("sizes", "silence"):
            object.__setattr__(self, field, tuple(map(int, getattr(self, field))))
        if not self.sizes or self.text_size < 1 or not 0 <= self.texts <= 2:
            raise InterleavingError(
                "a dialogue has codebooks, a text vocabulary, and 0 to 2 rows of text; got "
                f"{self.sizes}, {self.text_size} and {self.texts}"
            )
        if self.silence and (
            len(self.silence) != len(self.sizes)
            or any(not 0 <= c < size for c, size in zip(self.silence, self.sizes, strict=False))
        ):
            raise InterleavingError(f"silence must be a code of each codebook, got {self.silence}")

    def to_json(self) -> dict[str, Any]:
        return {"scheme": self.name, **to_json(self)}

    @property
    def rows(self) -> int:
        return self.texts + 2 * len(self.sizes)

    def pattern(self, delay: int = 1) -> Moshi:
        """How the rows become steps: all codebooks but each speaker's first are late by `delay`."""
        each = (0,) + (delay,) * (len(self.sizes) - 1)
        return Moshi(
            (self.text_size,) * self.texts + self.sizes * 2,
            delays=(0,) * self.texts + each * 2,
            speakers=2,
        )

    def join(self, main: Array, other: Array, *texts: Array) -> np.ndarray:
        """Rows (texts + 2 × codebooks, frames) int64.

        Args:
            main, other: (codebooks, frames) codes of the two.
            texts: (frames,) of each row of text, the main speaker's first; as
                `InnerMonologue.lay` gives them for `words_of` the speaker.

        Raises:
            InterleavingError: shapes that don't agree, missing text, or codes out of range.
        """
        speakers = [self._codes(codes, who) for codes, who in ((main, "main"), (other, "other"))]
        frames = max(codes.shape[1] for codes in speakers)
        rows = np.empty((self.rows, frames), np.int64)
        if len(texts) != self.texts:
            raise InterleavingError(f"{self.texts} rows of text are missing, got {len(texts)}")
        for number, text in enumerate(texts):
            row = np.asarray(text.cpu() if hasattr(text, "cpu") else text)
            if row.shape != (frames,) or row.dtype.kind not in "iu":
                raise InterleavingError(
                    f"text row {number} must be ids of shape ({frames},), got {row.dtype} "
                    f"{row.shape}"
                )
            if row.size and not 0 <= row.min() <= row.max() < self.text_size:
                raise InterleavingError(
                    f"text row {number} has ids up to {row.max()}; text_size is {self.text_size}"
                )
            rows[number] = row
        for number, codes in enumerate(speakers):
            first = self.texts + number * len(self.sizes)
            part = rows[first : first + len(self.sizes)]
            part[:, : codes.shape[1]] = codes
            if codes.shape[1] < frames:
                if not self.silence:
                    raise InterleavingError(
                        f"{codes.shape[1]} frames of one speaker and {frames} of the other: give "
                        "the codes of silence, or audio of the same length"
                    )
                part[:, codes.shape[1] :] = np.array(self.silence)[:, None]
        return rows

    def split(self, rows: Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Codes of the main speaker and of the other, and rows of text: the inverse of `join`."""
        array = np.asarray(rows.cpu() if hasattr(rows, "cpu") else rows)
        if array.ndim != 2 or array.shape[0] != self.rows:
            raise InterleavingError(
                f"expected rows of shape ({self.rows}, frames), got {array.shape}"
            )
        count = len(self.sizes)
        main, other = array[self.texts : self.texts + count], array[self.texts + count :]
        return main, other, array[: self.texts]

    def _codes(self, codes: Array, who: str) -> np.ndarray:
        array = np.asarray(codes.cpu() if hasattr(codes, "cpu") else codes)
        if array.ndim != 2 or array.shape[0] != len(self.sizes) or array.dtype.kind not in "iu":
            raise InterleavingError(
                f"{who}'s codes must be integers of shape ({len(self.sizes)}, frames), got "
                f"{array.dtype} {array.shape}"
            )
        top = np.array(self.sizes)[:, None]
        if ((array < 0) | (array >= top)).any():
            raise InterleavingError(f"{who}'s codes are out of the range of codebooks {self.sizes}")
        return array


def words_of(words: Sequence[Word], speaker: str) -> list[Word]:
    """The words of one speaker.

    Raises:
        InterleavingError: the speaker says none, and the others do.
    """
    found = [word for word in words if word.speaker == speaker]
    if words and not found:
        names = ", ".join(sorted({word.speaker for word in words}))
        raise InterleavingError(f"no words of speaker {speaker!r}; there are words of {names}")
    return found
