"""`Item`: one utterance of a data set, with its codes, its text and where it comes from."""

import hashlib
import json
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...codecs.spec import TokenSpec
from ...errors import DatasetError, TokenError

if TYPE_CHECKING:
    from ...codecs.tokens import Tokens


class AlignedWord(NamedTuple):
    """A word of an utterance and when it is said.

    Attributes:
        word: as the transcript or the alignment has it.
        start, end: seconds from the beginning of the utterance.
        ids: of the word in the data set's text tokenizer; empty without one.
    """

    word: str
    start: float
    end: float
    ids: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Item:
    """One utterance.

    Attributes:
        id: unique in the data set.
        codes: (codebooks, frames) uint16, or uint32 where a codebook has over 65,536 codes.
        num_samples: of the waveform at the tokenizer's sample rate; decoding gives as many.
        text, speaker, language: None if not known.
        split: such as ``train``.
        durations: (frames,) uint32, the frames that each merged unit stands for; None if units are
            not merged.
        global_codes: (global codebooks,) for tokenizers that have such.
        alignment: words with their times; None if there are none.
        text_ids: ids of the text in the data set's text tokenizer; None without one.
        source: name of the audio file, relative to the input that listed it.
        source_sha256: of the audio file's bytes, in hexadecimal.
        source_start, source_samples: the segment of the file at the file's own sample rate; None
            for a whole file.
        extra: other fields of the manifest's line.
    """

    id: str
    codes: np.ndarray
    num_samples: int
    text: str | None = None
    speaker: str | None = None
    language: str | None = None
    split: str = "train"
    durations: np.ndarray | None = None
    global_codes: np.ndarray | None = None
    alignment: tuple[AlignedWord, ...] | None = None
    text_ids: tuple[int, ...] | None = None
    source: str = ""
    source_sha256: str = ""
    source_start: int | None = None
    source_samples: int | None = None
    extra: dict[str, Any] | None = None

    @property
    def frames(self) -> int:
        """Positions of each codebook."""
        return int(self.codes.shape[1])

    def check(self, spec: TokenSpec, num_codebooks: int) -> None:
        """Raise `DatasetError`, naming the item, unless it can be an item of a data set of these.

        Args:
            spec: of the data set's tokens.
            num_codebooks: how many of its codebooks are stored.
        """
        if not self.id:
            raise DatasetError("an item has no id")
        wanted = code_dtype(spec)
        if self.codes.ndim != 2 or self.codes.shape[0] != num_codebooks:
            raise DatasetError(
                f"{self.id}: codes of shape {self.codes.shape}; expected ({num_codebooks}, frames)"
            )
        if self.codes.dtype != wanted:
            raise DatasetError(f"{self.id}: codes are {self.codes.dtype}, expected {wanted}")
        sizes = np.array(spec.codebook_sizes[:num_codebooks])
        if self.codes.size and (highest := self.codes.max(axis=1) >= sizes).any():
            book = int(highest.argmax())
            raise DatasetError(
                f"{self.id}: code {int(self.codes[book].max())} is out of range: codebook {book} "
                f"has {sizes[book]} codes"
            )
        if self.durations is not None and self.durations.shape != (self.frames,):
            raise DatasetError(
                f"{self.id}: {self.durations.shape} durations for {self.frames} positions"
            )
        if self.durations is None and self.frames != spec.frames_for(self.num_samples):
            raise DatasetError(
                f"{self.id}: {self.frames} frames for {self.num_samples} samples, expected "
                f"{spec.frames_for(self.num_samples)}"
            )
        given = 0 if self.global_codes is None else len(self.global_codes)
        if given != len(spec.global_codebook_sizes):
            raise DatasetError(
                f"{self.id}: {given} global codes; {spec.tokenizer} has "
                f"{len(spec.global_codebook_sizes)}"
            )

    def tokens(self, spec: TokenSpec) -> "Tokens":
        """The codes as `Tokens` of one row.

        Raises:
            TokenError: they are not codes of such a tokenizer.
        """
        import torch

        from ...codecs.tokens import Tokens

        def tensor(values: np.ndarray | None) -> Any:
            return None if values is None else torch.from_numpy(values.astype(np.int64))[None]

        if self.codes.ndim != 2:
            raise TokenError(f"{self.id}: codes of shape {self.codes.shape}")
        tokens = Tokens(
            codes=tensor(self.codes),
            lengths=torch.tensor([self.frames]),
            num_samples=torch.tensor([self.num_samples]),
            spec=spec,
            durations=tensor(self.durations),
            global_codes=tensor(self.global_codes),
        )
        tokens.check()
        return tokens

    def digest(self) -> bytes:
        """SHA-256 of all that the item holds, whatever file format it is stored in."""
        plain = {
            field.name: value
            for field in fields(self)
            if not isinstance(value := getattr(self, field.name), np.ndarray) and value is not None
        }
        sha = hashlib.sha256(canonical_json(plain))
        for name in ("codes", "durations", "global_codes"):
            values = getattr(self, name)
            if values is not None:
                sha.update(f"\0{name} {list(values.shape)}\0".encode())
                sha.update(np.ascontiguousarray(values, "<u4").tobytes())
        return sha.digest()


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys and no spaces: the same bytes for equal values."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return text.encode()


def code_dtype(spec: TokenSpec) -> np.dtype:
    """uint16 if all codes fit in it, else uint32."""
    largest = max((*spec.codebook_sizes, *spec.global_codebook_sizes))
    return np.dtype(np.uint16 if largest <= 1 << 16 else np.uint32)
