"""The vocabulary of a unit BPE: its pieces in order, and the kind of model."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from ..errors import BPEError
from .alphabet import MAX_UNITS

#: Kind of model: merges in the order in which they were learned (Sennrich et al., 2016), or the
#: most probable segmentation under piece frequencies (Kudo, 2018).
Kind = Literal["bpe", "unigram"]
KINDS: tuple[Kind, ...] = ("bpe", "unigram")

#: Published unit vocabularies have 1,000 to 32,000 pieces; this limits the size of files to load.
MAX_VOCAB_SIZE = 1 << 18
MAX_PIECE_LENGTH = 256
MAX_TOTAL_LENGTH = 1 << 22
_MAX_SPECIALS = 1024

#: Unigram scores are integer multiples of 1 / SCORE_SCALE. sentencepiece adds scores in float32 and
#: Hugging Face in float64; on this grid both sums are exact as long as they are above
#: -2^24 / SCORE_SCALE, so that both decide near ties alike.
SCORE_SCALE = 256
LOWEST_SCORE = -(1 << 14)


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Pieces by id: the single units first, then the longer ones, then the specials.

    Attributes:
        kind: of the model.
        num_units: for u below it, piece u is the single unit u, so nothing is unknown.
        units: (total,) int64, concatenated units of all pieces.
        starts: (pieces + 1,) int64, start of each piece in `units`. With kind "bpe", a longer piece
            with a lower id is merged earlier.
        scores: (pieces,) int64, log-probabilities × `SCORE_SCALE`, for kind "unigram"; else None.
        specials: names of the ids after the pieces, which contain no units, for language models.

    Raises:
        BPEError: the fields are invalid or inconsistent.
    """

    kind: Kind
    num_units: int
    units: np.ndarray
    starts: np.ndarray
    scores: np.ndarray | None = None
    specials: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise BPEError(f"expected a model of kind bpe or unigram, got {self.kind!r}")
        if not 1 <= self.num_units <= MAX_UNITS:
            raise BPEError(f"{self.num_units} units; expected 1 to {MAX_UNITS}")
        check_specials(self.specials)
        if not self.num_units <= self.num_pieces <= MAX_VOCAB_SIZE - len(self.specials):
            raise BPEError(
                f"{self.num_pieces} pieces of {self.num_units} units and {len(self.specials)} "
                f"specials; expected all units and at most {MAX_VOCAB_SIZE} in all"
            )
        alone = np.arange(self.num_units)
        if not np.array_equal(self.units[: self.num_units], alone) or not np.array_equal(
            self.starts[: self.num_units + 1], np.arange(self.num_units + 1)
        ):
            raise BPEError("the first pieces must be the units, each alone and in order")
        longer = self.lengths[self.num_units :]
        if longer.size and not 2 <= longer.min() <= longer.max() <= MAX_PIECE_LENGTH:
            raise BPEError(
                f"after the single units come pieces of 2 to {MAX_PIECE_LENGTH} units; got one of "
                f"{longer.min() if longer.min() < 2 else longer.max()}"
            )
        if len(self.units) > MAX_TOTAL_LENGTH:
            raise BPEError(f"the pieces have {len(self.units)} units; at most {MAX_TOTAL_LENGTH}")
        if self.units.min() < 0 or self.units.max() >= self.num_units:
            raise BPEError(f"a piece has a unit that is not one of the {self.num_units}")
        if len({piece.tobytes() for piece in self.pieces()}) < self.num_pieces:
            raise BPEError("two pieces are the same")
        if (self.scores is not None) != (self.kind == "unigram"):
            raise BPEError("scores belong to unigram models, all of which have them")
        if self.scores is not None and not (
            self.scores.shape == (self.num_pieces,)
            and self.scores.min() >= LOWEST_SCORE * SCORE_SCALE
            and self.scores.max() <= 0
        ):
            raise BPEError(f"expected a score from {LOWEST_SCORE} to 0 for each piece")

    @classmethod
    def of_pieces(
        cls,
        kind: Kind,
        num_units: int,
        longer: Sequence[np.ndarray],
        scores: np.ndarray | None = None,
        specials: tuple[str, ...] = (),
    ) -> "Vocabulary":
        """Create the vocabulary of the single units and these longer pieces, in this order."""
        alone = np.arange(num_units, dtype=np.int64)
        units = np.concatenate([alone, *longer]) if longer else alone
        lengths = np.concatenate(
            [np.ones(num_units, np.int64), np.array([len(piece) for piece in longer], np.int64)]
        )
        starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        return cls(kind, num_units, units.astype(np.int64), starts, scores, specials)

    @property
    def num_pieces(self) -> int:
        return len(self.starts) - 1

    @property
    def size(self) -> int:
        """Number of ids, specials included."""
        return self.num_pieces + len(self.specials)

    @cached_property
    def lengths(self) -> np.ndarray:
        """(pieces,) number of units in each piece."""
        return np.diff(self.starts)

    @property
    def longest(self) -> int:
        """Number of units in the longest piece."""
        return int(self.lengths.max())

    def piece(self, index: int) -> np.ndarray:
        """Return the units of a piece, (n,) int64."""
        return self.units[self.starts[index] : self.starts[index + 1]]

    def pieces(self) -> list[np.ndarray]:
        return np.split(self.units, self.starts[1:-1])

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the kind, the pieces in order, their scores and the specials."""
        head = {"kind": self.kind, "units": self.num_units, "specials": list(self.specials)}
        digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
        for array in (self.starts, self.units, self.scores):
            if array is not None:
                digest.update(array.astype("<i8").tobytes())
        return digest.hexdigest()


def check_specials(specials: Sequence[str]) -> None:
    """Raise `BPEError` unless these are valid names of special ids."""
    if len(specials) > _MAX_SPECIALS or len(set(specials)) < len(specials):
        raise BPEError(f"expected at most {_MAX_SPECIALS} specials, all different")
    for name in specials:
        # Text that could be mistaken for units, or for sentencepiece's own special pieces.
        if (
            not isinstance(name, str)
            or not 1 <= len(name) <= 64
            or not name.isascii()
            or not name.isprintable()
            or name == UNKNOWN
        ):
            raise BPEError(
                f"a special is 1 to 64 printable ASCII characters, not {UNKNOWN}: got {name!r}"
            )


#: Required in sentencepiece's models. It has the last id and is never output.
UNKNOWN = "<unk>"
