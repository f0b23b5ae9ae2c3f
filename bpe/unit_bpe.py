"""`UnitBPE`: encode sequences of units to shorter sequences of pieces, and decode them."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ..errors import BPEError, TokenError
from ..filesystem import printable
from .saved import BPEFields, load, save
from .segmentation import Segmenter, Trie, segmenter
from .stream import PieceStream
from .training import check_units, train_vocabulary
from .vocabulary import Kind, Vocabulary

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, eq=False)
class UnitBPE:
    """Byte-pair encoding of units.

    BPE: Sennrich et al., 2016; over speech units: Wu et al., 2023, "Wav2Seq"; Chang et al., 2024.

    There are no unknown symbols, and `decode(encode(units))` is `units`. Ids go from 0 to
    `vocab_size` - 1: first the units themselves, then pieces by rank, then special ids.

    Several codebooks form one sequence: the codes of codebook c are shifted by the sizes of those
    before it, and the codes of a frame are adjacent (`flatten`). Merges may cross codebooks and
    frames: whatever is frequent is merged.

    Attributes:
        vocabulary: the pieces.
        codebook_sizes: of the units' tokenizer; their sum is the number of units.
        name: letters, digits and . _ -
        deduplicated: whether it was trained on units without repetitions.
        source: digest of the units' tokenizer, or "" for any.
        unit_durations: (units,) mean duration of each unit in frames, at least 1, or None.

    Raises:
        BPEError: fields are invalid or inconsistent.
    """

    vocabulary: Vocabulary
    codebook_sizes: tuple[int, ...]
    name: str = "bpe"
    deduplicated: bool = False
    source: str = ""
    unit_durations: np.ndarray | None = None

    def __post_init__(self) -> None:
        if sum(self.codebook_sizes) != self.num_units or min(self.codebook_sizes) < 1:
            raise BPEError(
                f"codebooks of {list(self.codebook_sizes)} codes can't have {self.num_units} units"
            )
        self.check_name(self.name)
        durations = self.unit_durations
        if durations is not None and not (
            durations.shape == (self.num_units,)
            and bool(np.isfinite(durations).all())
            and 1 <= durations.min() <= durations.max() <= 2**20
        ):
            raise BPEError(f"expected {self.num_units} mean durations of 1 to 2^20 frames")

    @classmethod
    def train(
        cls,
        sequences: Iterable[np.ndarray],
        codebook_sizes: int | Sequence[int],
        vocab_size: int,
        *,
        kind: Kind = "bpe",
        name: str = "bpe",
        deduplicated: bool = False,
        source: str = "",
        specials: Sequence[str] = (),
        max_piece_length: int = 16,
        sample_units: int | None = None,
        seed: int = 0,
    ) -> "UnitBPE":
        """Train on sequences of units, with sentencepiece. Deterministic for the same input.

        Args:
            sequences: of units (n,), integers; several codebooks as `flatten` returns them.
                Iterated once. Sequences of more than 16,384 units are split for training.
            codebook_sizes: number of units, or of codes in each codebook.
            vocab_size: total number of ids, units and specials included. Intended for 1,000 to
                32,000.
            kind: "bpe" or "unigram" (Kudo, 2018).
            name, deduplicated, source: see the class.
            specials: names of special ids after the pieces, such as "<s>", for language models.
            max_piece_length: maximum number of units in a piece.
            sample_units: train on a random sample of at most this many units, which bounds the
                memory; default: all. sentencepiece takes about 100 bytes per unit.
            seed: for the sample.

        Raises:
            BPEError: settings out of range, too little training data, or sentencepiece is missing.
            TokenError: a unit is out of range.
        """
        sizes = (codebook_sizes,) if isinstance(codebook_sizes, int) else tuple(codebook_sizes)
        if not sizes or min(sizes) < 1:
            raise BPEError(f"codebooks of {list(sizes)} codes; expected at least one code in each")
        cls.check_name(name)
        vocabulary = train_vocabulary(
            sequences,
            sum(sizes),
            vocab_size,
            kind,
            tuple(specials),
            max_piece_length,
            sample_units,
            seed,
        )
        return cls(vocabulary, sizes, name, deduplicated, source)

    @staticmethod
    def check_name(name: str) -> None:
        """Raise `BPEError` unless the name is valid."""
        if not _NAME.fullmatch(name):
            raise BPEError(
                f"{name!r}: a name is up to 64 letters, digits and . _ -, and starts with a letter "
                "or a digit"
            )

    # --- properties ----------------------------------------------------------------------------

    @property
    def kind(self) -> Kind:
        return self.vocabulary.kind

    @property
    def vocab_size(self) -> int:
        """Total number of ids, specials included."""
        return self.vocabulary.size

    @property
    def num_pieces(self) -> int:
        """Number of ids that stand for units, which come before the specials."""
        return self.vocabulary.num_pieces

    @property
    def num_units(self) -> int:
        return self.vocabulary.num_units

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the kind, the pieces in order, their scores and the specials."""
        return self.vocabulary.digest

    @property
    def piece_lengths(self) -> np.ndarray:
        """(pieces,) int64, number of units in each piece."""
        return self.vocabulary.lengths

    def units_of(self, piece: int) -> np.ndarray:
        """Return the units of a piece, (n,) int64.

        Raises:
            TokenError: there is no such piece, or it is a special.
        """
        self._check_pieces(np.array([piece]))
        return self.vocabulary.piece(piece).copy()

    def special_id(self, name: str) -> int:
        """Return the id of a special.

        Raises:
            BPEError: there is no such special.
        """
        if name not in self.vocabulary.specials:
            raise BPEError(f"no special {name!r}; there are {list(self.vocabulary.specials)}")
        return self.num_pieces + self.vocabulary.specials.index(name)

    def __repr__(self) -> str:
        return (
            f"UnitBPE({self.name!r}, {self.kind}, {self.num_units} units, {self.vocab_size} ids, "
            f"{self.digest[:12]})"
        )

    # --- encoding ------------------------------------------------------------------------------

    def encode(self, units: np.ndarray) -> np.ndarray:
        """Encode one sequence of units (n,), of any integer dtype, to pieces (pieces,) int64.

        Raises:
            TokenError: a unit is out of range, or `units` is not a sequence of integers.
        """
        units = self.check_units(units)
        return self.segmenter.segment(units, np.array([0, len(units)]))[0].astype(np.int64)

    def encode_batch(self, sequences: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Encode many short sequences efficiently, in one call of compiled code.

        Returns:
            For each sequence the pieces, (pieces,) int32.

        Raises:
            TokenError: as for `encode`.
        """
        if not sequences:
            return []
        arrays = [np.asarray(units) for units in sequences]
        for number, units in enumerate(arrays):
            if units.ndim != 1 or (units.size and units.dtype.kind not in "iu"):
                self._explain(number, units)
        lengths = np.fromiter(map(len, arrays), np.int64, len(arrays))
        joined = np.concatenate([units for units in arrays if units.size] or [np.zeros(0, int)])
        try:
            units = self.check_units(joined)
        except TokenError:
            for number, one in enumerate(arrays):
                self._explain(number, one)
            raise
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        ids, counts = self.segmenter.segment(units, offsets)
        ends = np.cumsum(counts).tolist()
        return [ids[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]

    def stream(self) -> PieceStream:
        """Return a stream that encodes one sequence in chunks, to the same pieces as `encode`."""
        return PieceStream(self.vocabulary, self.segmenter, self.trie)

    def _explain(self, number: int, units: np.ndarray) -> None:
        try:
            self.check_units(units)
        except TokenError as error:
            raise TokenError(f"sequence {number}: {error}") from None

    def check_units(self, units: np.ndarray) -> np.ndarray:
        """Check units and return them as (n,) int32.

        Raises:
            TokenError: as for `encode`.
        """
        return check_units(units, self.num_units)

    # --- decoding ------------------------------------------------------------------------------

    def decode(self, ids: np.ndarray, skip_specials: bool = False) -> np.ndarray:
        """Decode pieces (pieces,), integers, to units (n,) int64.

        Args:
            ids: any sequence of pieces, not only from `encode`.
            skip_specials: omit specials, which raise an error otherwise.

        Raises:
            TokenError: an id is out of range, or `ids` is not a sequence of integers.
        """
        ids = np.asarray(ids)
        if ids.size and skip_specials and ids.dtype.kind in "iu":
            ids = ids[(ids < self.num_pieces) | (ids >= self.vocab_size)]
        ids = self._check_pieces(ids)
        lengths = self.piece_lengths[ids]
        ends = np.cumsum(lengths)
        # Source of each unit: its piece's start, plus its position in the piece.
        shift = self.vocabulary.starts[ids] - (ends - lengths)
        total = int(ends[-1]) if len(ends) else 0
        return self.vocabulary.units[np.repeat(shift, lengths) + np.arange(total)]

    def _check_pieces(self, ids: np.ndarray) -> np.ndarray:
        if ids.ndim != 1:
            raise TokenError(f"pieces must have shape (n,), got {ids.shape}")
        if not ids.size:
            return np.zeros(0, np.int64)
        if ids.dtype.kind not in "iu":
            raise TokenError(f"pieces must be integers, got {ids.dtype}")
        low, high = int(ids.min()), int(ids.max())
        if low < 0 or high >= self.num_pieces:
            wrong = low if low < 0 else high
            special = self.num_pieces <= wrong < self.vocab_size
            raise TokenError(
                f"piece {wrong} "
                + (
                    f"is the special {self.vocabulary.specials[wrong - self.num_pieces]!r}, which "
                    "stands for no units; decode(…, skip_specials=True) leaves it out"
                    if special
                    else f"is out of range: {self.name} has {self.num_pieces} pieces"
                )
            )
        return ids.astype(np.int64, copy=False)

    # --- codebooks -----------------------------------------------------------------------------

    @cached_property
    def _shifts(self) -> np.ndarray:
        return np.concatenate([[0], np.cumsum(self.codebook_sizes)[:-1]]).astype(np.int64)

    def flatten(self, codes: np.ndarray) -> np.ndarray:
        """Convert codes (codebooks, frames) to units (frames × codebooks,) int64, frame by frame.

        Raises:
            TokenError: another number of codebooks, or a code out of its codebook's range.
        """
        codes = np.asarray(codes)
        if codes.ndim != 2 or len(codes) != len(self.codebook_sizes):
            raise TokenError(
                f"codes must have shape ({len(self.codebook_sizes)}, frames), got {codes.shape}"
            )
        if codes.size and codes.dtype.kind not in "iu":
            raise TokenError(f"codes must be integers, got {codes.dtype}")
        sizes = np.array(self.codebook_sizes)[:, None]
        if codes.size and ((codes < 0) | (codes >= sizes)).any():
            codebook, frame = np.argwhere((codes < 0) | (codes >= sizes))[0].tolist()
            raise TokenError(
                f"code {codes[codebook, frame]} is out of range: codebook {codebook} has "
                f"{self.codebook_sizes[codebook]} codes (frame {frame})"
            )
        return (codes.astype(np.int64) + self._shifts[:, None]).T.reshape(-1)

    def unflatten(self, units: np.ndarray) -> np.ndarray:
        """Invert `flatten`: convert units to codes (codebooks, frames) int64.

        Raises:
            TokenError: incomplete frames, or a unit that is not of the codebook at its position.
        """
        count = len(self.codebook_sizes)
        if len(units) % count:
            raise TokenError(f"{len(units)} units are no whole frames of {count} codebooks")
        codes = units.reshape(-1, count).T - self._shifts[:, None]
        wrong = (codes < 0) | (codes >= np.array(self.codebook_sizes)[:, None])
        if wrong.any():
            frame, codebook = np.argwhere(wrong.T)[0].tolist()
            raise TokenError(f"frame {frame} has a unit that is not of codebook {codebook}")
        return codes

    # --- compiled segmenter, created on first use ----------------------------------------------

    @cached_property
    def segmenter(self) -> Segmenter:
        return segmenter(self.vocabulary)

    @cached_property
    def trie(self) -> Trie:
        return Trie(self.vocabulary)

    # --- files ---------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write a folder, or one file in sentencepiece's or Hugging Face's format.

        Args:
            path: a folder gets `bpe.json`, `bpe.model` and `tokenizer.json`; a name that ends in
                .model or .json gets that format alone, which has only the pieces.

        Raises:
            BPEError: it can't be written.
        """
        fields = BPEFields(
            self.vocabulary,
            self.codebook_sizes,
            self.name,
            self.deduplicated,
            self.source,
            self.unit_durations,
        )
        save(fields, Path(path))

    @classmethod
    def load(cls, path: str | Path) -> "UnitBPE":
        """Load what `save` wrote: a folder, a .model or a tokenizer's .json.

        Only numbers and text are read, and all counts are checked.

        Raises:
            BPEError: it is missing, damaged, or of another format; the message names the expected
                one.
        """
        fields, place = load(Path(path))
        try:
            return cls(*fields)
        except BPEError as error:
            raise BPEError(f"{printable(place)}: {error}") from None
