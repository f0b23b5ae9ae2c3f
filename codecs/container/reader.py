"""Read `.syl` files from a stream, checking every field."""

import json
import struct
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ...errors import ContainerError, TokenError
from ..spec import TokenSpec, bits_for
from . import bits, entropy
from .layout import (
    CHECK,
    CHUNK,
    CODED,
    END,
    MAGIC,
    MAX_CODES,
    MAX_DURATION_BITS,
    MAX_HEADER,
    MAX_PAYLOAD,
    PACKED,
    PREAMBLE,
    TOTALS,
    VERSION,
)

if TYPE_CHECKING:
    from ..tokens import Tokens

_PIECE = 1 << 20


class ByteSource(Protocol):
    """The methods of a binary file that reading needs."""

    def read(self, count: int, /) -> bytes: ...


class ContainerWarning(UserWarning):
    """The file is truncated; everything before the cut was read."""


@dataclass(frozen=True)
class Chunk:
    """Codes (codebooks, positions) and, if the file has them, durations (positions,), int64."""

    codes: np.ndarray
    durations: np.ndarray | None


def chunk_size(start: bytes) -> int | None:
    """Return a chunk's size in bytes by its first bytes; None if there are fewer than 12.

    Readers of pipes use it to see whether a whole chunk has arrived.
    """
    if len(start) < CHUNK.size:
        return None
    _, length, _ = CHUNK.unpack(start[: CHUNK.size])
    return CHUNK.size + CHECK.size + int(length)


class SylReader:
    """Read a `.syl` file: the header at once, then chunk by chunk.

    Args:
        file: binary file, left open. It is never seeked, so a pipe works.
        name: of the file, for messages.

    Attributes:
        spec, num_codebooks, has_durations, global_codes, metadata: from the header.
        positions: number of positions read so far.
        num_samples: audio samples of the utterance; None until the end of the file was read.
        complete: whether the file has its end mark; None until the end was read.
        coded: whether any chunk read so far was entropy-coded.

    Raises:
        ContainerError: it is not a `.syl` file, its version is unknown, or its header is damaged.
    """

    def __init__(self, file: ByteSource, name: str = "input") -> None:
        self._file, self.name = file, name
        self.positions = 0
        self.bytes_read = 0
        self.num_samples: int | None = None
        self.complete: bool | None = None
        self.coded = False
        self._number = self._frames = 0
        magic = self._take(len(MAGIC))
        if magic != MAGIC:
            raise ContainerError(f"{name}: not a .syl file")
        preamble, check = self._take(PREAMBLE.size), self._take(CHECK.size)
        if len(preamble) + len(check) < PREAMBLE.size + CHECK.size:
            raise ContainerError(f"{name}: the header is cut short")
        version, reserved, length = PREAMBLE.unpack(preamble)
        if version == VERSION and reserved:
            raise ContainerError(f"{name}: the header is damaged (its reserved bytes are not 0)")
        if version != VERSION:
            raise ContainerError(f"{name}: format version {version}; this release reads {VERSION}")
        if length > MAX_HEADER:
            raise ContainerError(f"{name}: a header of {length} bytes; at most {MAX_HEADER}")
        text = self._take(length)
        if len(text) < length:
            raise ContainerError(f"{name}: the header is cut short")
        if CHECK.unpack(check)[0] != zlib.crc32(preamble + text):
            raise ContainerError(f"{name}: the header is damaged (CRC-32 differs)")
        self._parse(text)

    def _parse(self, text: bytes) -> None:
        try:
            header = json.loads(text.decode())
        except (ValueError, RecursionError) as error:
            raise ContainerError(f"{self.name}: the header is not JSON: {error}") from None
        if not isinstance(header, dict):
            raise ContainerError(f"{self.name}: the header must be a JSON object")
        try:
            self.spec = TokenSpec.from_json(header.get("spec"))
        except TokenError as error:
            raise ContainerError(f"{self.name}: {error}") from None
        count, durations = header.get("num_codebooks"), header.get("durations")
        if type(count) is not int or not 1 <= count <= self.spec.num_codebooks:
            raise ContainerError(f"{self.name}: num_codebooks is {count!r}")
        if not isinstance(durations, bool):
            raise ContainerError(f"{self.name}: durations is {durations!r}, expected true or false")
        self.num_codebooks, self.has_durations = count, durations
        self.metadata: dict[str, Any] = header.get("metadata", {})
        if not isinstance(self.metadata, dict):
            raise ContainerError(f"{self.name}: metadata must be a JSON object")
        self.global_codes: list[int] = header.get("global_codes", [])
        sizes = self.spec.global_codebook_sizes
        if not isinstance(self.global_codes, list) or len(self.global_codes) != len(sizes):
            raise ContainerError(f"{self.name}: expected {len(sizes)} global codes")
        for code, size in zip(self.global_codes, sizes, strict=True):
            if type(code) is not int or not 0 <= code < size:
                raise ContainerError(f"{self.name}: global code {code!r}; its codebook has {size}")
        self._sizes = np.array(self.spec.codebook_sizes[: self.num_codebooks])
        self._widths = [bits_for(size) for size in self.spec.codebook_sizes[: self.num_codebooks]]

    def chunks(self, past_end: bool = True) -> Iterator[Chunk]:
        """Iterate once over the chunks, in order; each is yielded before the next one is read.

        Args:
            past_end: check that nothing follows the end mark. On a pipe this waits until it is
                closed; with False, `check_end` can check it later.

        Raises:
            ContainerError: a chunk is damaged. All chunks before it were yielded.

        Warns:
            ContainerWarning: the file ends without its end mark.
        """
        for kind, positions, payload in self._checked_chunks():
            if kind == END:
                self._finish(payload, self._frames)
                if past_end:
                    self.check_end()
                return
            try:
                chunk = self._unpack(kind, payload, positions)
            except ValueError as error:
                raise ContainerError(f"{self.name}: chunk {self._number}: {error}") from None
            self.positions += positions
            self._frames += positions if chunk.durations is None else int(chunk.durations.sum())
            yield chunk
        self.complete = False
        self.num_samples = self._frames * self.spec.hop
        seconds = self._frames / float(self.spec.frame_rate)
        warnings.warn(
            f"{self.name}: the file is cut short; the {seconds:.2f} s before the cut were read",
            ContainerWarning,
            stacklevel=2,
        )

    def tokens(self) -> "Tokens":
        """Read all chunks and return a batch of one.

        Raises:
            ContainerError: a chunk is damaged.

        Warns:
            ContainerWarning: as for `chunks`; the tokens before the cut are returned.
        """
        chunks = list(self.chunks())
        empty = np.zeros((self.num_codebooks, 0), np.int64)
        codes = np.concatenate([empty, *(chunk.codes for chunk in chunks)], axis=1)
        durations = None
        if self.has_durations:
            held = [chunk.durations for chunk in chunks if chunk.durations is not None]
            durations = np.concatenate([np.zeros(0, np.int64), *held])
        assert self.num_samples is not None
        return self.tokens_of(codes, self.num_samples, durations)

    def tokens_of(
        self, codes: np.ndarray, num_samples: int, durations: np.ndarray | None = None
    ) -> "Tokens":
        """Return a part of the file as a batch of one.

        Args:
            codes: (codebooks, positions) int64, of chunks of this file.
            num_samples: samples of audio that they stand for.
            durations: (positions,) int64 in frames; None: one frame each.
        """
        import torch

        from ..tokens import Tokens

        return Tokens(
            codes=torch.from_numpy(codes)[None],
            lengths=torch.tensor([codes.shape[1]]),
            num_samples=torch.tensor([num_samples]),
            spec=self.spec,
            durations=None if durations is None else torch.from_numpy(durations)[None],
            global_codes=torch.tensor([self.global_codes]) if self.global_codes else None,
            metadata=(self.metadata,) if self.metadata else None,
        )

    def continue_after(self, positions: int) -> None:
        """Go on where another reader of the same file stopped, before the first chunk is read.

        Args:
            positions: that were read; the source is at the chunk that follows them.

        Raises:
            ContainerError: the file has durations, whose sum a number of positions does not tell.
        """
        if self.has_durations:
            raise ContainerError(f"{self.name}: a file with durations is read from its start")
        self.positions = self._frames = positions

    def is_whole(self) -> bool:
        """Read the rest of the file; return whether all checksums and the end mark are valid.

        Cheaper than `chunks`, which also unpacks the codes.
        """
        try:
            for kind, positions, payload in self._checked_chunks():
                if kind == END:
                    claimed, self.num_samples = TOTALS.unpack(payload)
                    return claimed == self.positions and not self._take(1)
                self.positions += positions
        except (ContainerError, struct.error):
            pass
        return False

    def _checked_chunks(self) -> Iterator[tuple[bytes, int, bytes]]:
        """Yield (kind, positions, payload) of every whole chunk, with its checksum verified."""
        while True:
            self._number += 1
            head, check = self._take(CHUNK.size), self._take(CHECK.size)
            if len(head) + len(check) < CHUNK.size + CHECK.size:
                return
            kind, length, positions = CHUNK.unpack(head)
            damaged = ContainerError(
                f"{self.name}: chunk {self._number} is damaged; the {self.positions} positions "
                "before it are whole"
            )
            if kind not in (PACKED, CODED, END) or length > MAX_PAYLOAD:
                raise damaged
            payload = self._take(length)
            if len(payload) < length:
                return
            if CHECK.unpack(check)[0] != zlib.crc32(payload, zlib.crc32(head)):
                raise damaged
            self.coded |= kind == CODED
            yield kind, positions, payload

    def _unpack(self, kind: bytes, payload: bytes, positions: int) -> Chunk:
        if not 1 <= positions <= MAX_CODES // self.num_codebooks:
            raise ValueError(f"{positions} positions; 1 to {MAX_CODES // self.num_codebooks}")
        if kind == CODED:
            if len(payload) < CHECK.size:
                raise ValueError("payload too short")
            start, size = CHECK.size, CHECK.unpack(payload[: CHECK.size])[0]
        else:
            start, size = 0, bits.packed_size(positions, self._widths)
        # Check the counts against the bytes before anything is allocated by them.
        rest = payload[start + size :]
        if start + size > len(payload) or bool(rest) != self.has_durations:
            raise ValueError(f"{positions} positions do not fit {len(payload)} bytes of payload")
        durations = None
        if self.has_durations:
            width = rest[0]
            if not 1 <= width <= MAX_DURATION_BITS or len(rest) - 1 != bits.packed_size(
                positions, [width]
            ):
                raise ValueError("the durations do not fit the payload")
            durations = bits.unpack(rest[1:], positions, [width])[:, 0]
            if durations.min() < 1:
                raise ValueError("a duration of 0 frames")
        data = payload[start : start + size]
        if kind == CODED:
            codes = entropy.decode(data, positions, self._widths)
        else:
            codes = bits.unpack(data, positions, self._widths)
        if (codes >= self._sizes).any():
            raise ValueError("a code out of its codebook's range")
        return Chunk(np.ascontiguousarray(codes.T), durations)

    def _finish(self, payload: bytes, frames: int) -> None:
        if len(payload) != TOTALS.size:
            raise ContainerError(f"{self.name}: the end mark is damaged")
        positions, samples = TOTALS.unpack(payload)
        if positions != self.positions or self.spec.frames_for(samples) != frames:
            raise ContainerError(
                f"{self.name}: the end mark says {positions} positions and {samples} samples; "
                f"{self.positions} positions of {frames} frames were read"
            )
        self.num_samples, self.complete = samples, True

    def check_end(self) -> None:
        """Raise `ContainerError` if anything follows the end mark that was just read."""
        if self._take(1):
            self.complete = None
            raise ContainerError(f"{self.name}: there are bytes after the end mark")

    def _take(self, count: int) -> bytes:
        """Read up to `count` bytes, allocating only for bytes that arrive."""
        pieces = []
        while count > 0:
            piece = self._file.read(min(count, _PIECE))
            if not piece:
                break
            pieces.append(piece)
            count -= len(piece)
            self.bytes_read += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)
