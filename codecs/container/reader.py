"""Read `.syl` files from a stream, checking every field."""

import struct
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ...errors import ContainerError
from .chunk import Chunk, WholeChunk, unpack
from .header import read_header
from .layout import CHECK, CHUNK, CODED, END, MAX_PAYLOAD, NUMBERS, TOTALS, kind_of
from .recovery import ChunkFinder, LostFrames

if TYPE_CHECKING:
    from ..tokens import Tokens

_PIECE = 1 << 20
#: A file may be damaged so that it claims any length: 23 hours at 50 frames/s.
_MOST_LOST = 1 << 22


class ByteSource(Protocol):
    """The methods of a binary file that reading needs."""

    def read(self, count: int, /) -> bytes: ...


class ContainerWarning(UserWarning):
    """The file is truncated; everything before the cut was read."""


class SylReader:
    """Read a `.syl` file: the header at once, then chunk by chunk.

    Args:
        file: binary file, left open. It is never seeked, so a pipe works.
        name: of the file, for messages.
        recover: read what is left of a damaged file, whose chunks must be `numbered`. A chunk that
            is damaged or missing then costs its own positions only: they come as a `Chunk` that is
            `lost`, in their place.

    Attributes:
        spec, num_codebooks, has_durations, global_codes, metadata: from the header.
        numbered: whether the chunks have numbers.
        recover: as given; may be changed before the first chunk is read.
        positions: number of positions read so far.
        num_samples: audio samples of the utterance; None until the end of the file was read.
        complete: whether the file has its end mark; None until the end was read.
        coded: whether any chunk read so far was entropy-coded.
        damaged: whether anything was wrong with the file so far, with `recover`.
        length_known: whether the file told how many samples there are: at its end, or in its
            header, which many files do. None until the end was read.

    Raises:
        ContainerError: it is not a `.syl` file, its version is unknown, or its header is damaged;
            or, with `recover`, its chunks have no numbers.
    """

    def __init__(self, file: ByteSource, name: str = "input", recover: bool = False) -> None:
        self._file, self.name, self.recover = file, name, recover
        self.positions = 0
        self.bytes_read = 0
        self.num_samples: int | None = None
        self.complete: bool | None = None
        self.coded = False
        self.damaged = False
        self.length_known: bool | None = None
        self._number = self._frames = 0
        self._lost: list[tuple[int, int]] = []
        header = read_header(self._take, name)
        self._header = header
        self.spec, self.num_codebooks = header.spec, header.num_codebooks
        self.has_durations = header.has_durations
        self.global_codes, self.metadata = header.global_codes, header.metadata
        self.numbered = header.chunk_positions is not None
        if recover and not self.numbered:
            raise ContainerError(
                f"{name}: its chunks have no numbers (an earlier version made it), so what is left "
                "of it can't be put in its place; read it without `recover`"
            )
        self._finder = ChunkFinder(
            self._take, header.chunk_positions or 1, header.widths, header.has_durations
        )

    def chunks(self, past_end: bool = True) -> Iterator[Chunk]:
        """Iterate once over the chunks, in order; each is yielded before the next one is read.

        Args:
            past_end: check that nothing follows the end mark. On a pipe this waits until it is
                closed; with False, `check_end` can check it later.

        Raises:
            ContainerError: a chunk is damaged or missing, and `recover` was not asked for. All
                chunks before it were yielded.

        Warns:
            ContainerWarning: the file ends without its end mark; or, with `recover`, without
                telling how long it was.
        """
        if self.recover:
            yield from self._recovered(past_end)
            return
        for found in self._checked_chunks():
            if found.kind == END:
                self._finish(found.payload)
                if past_end:
                    self.check_end()
                return
            try:
                chunk, start = unpack(found, self._header)
                if start not in (None, self._frames):
                    raise ValueError(f"it starts at frame {start}, expected {self._frames}")
            except ValueError as error:
                raise ContainerError(f"{self.name}: chunk {self._number}: {error}") from None
            yield self._counted(chunk)
        self.complete = self.length_known = False
        self.num_samples = self._frames * self.spec.hop
        self._warn_of_cut()

    def _counted(self, chunk: Chunk) -> Chunk:
        self.positions += chunk.codes.shape[1]
        self._frames += (
            chunk.codes.shape[1] if chunk.durations is None else int(chunk.durations.sum())
        )
        return chunk

    def _warn_of_cut(self) -> None:
        seconds = self._frames / float(self.spec.frame_rate)
        warnings.warn(
            f"{self.name}: the file is cut short; the {seconds:.2f} s before the cut were read",
            ContainerWarning,
            stacklevel=3,
        )

    # --- recovery --------------------------------------------------------------------------------

    @property
    def lost(self) -> LostFrames:
        """The lost frames among those read so far, with `recover`."""
        known = self.length_known is not False
        return LostFrames.of(self._lost, self._frames, self.spec.frame_rate, known)

    @property
    def held(self) -> int:
        """Bytes that were read ahead while the next whole chunk was searched."""
        return self._finder.held

    def _recovered(self, past_end: bool) -> Iterator[Chunk]:
        """Yield the whole chunks, and lost ones between them."""
        totals: tuple[int, int] | None = None
        while (found := self._finder.next()) is not None:
            if found.kind == END:
                totals = TOTALS.unpack(found.payload)
                break
            start = self._place_of(found)
            try:
                chunk, frame = unpack(found, self._header)
            except ValueError:  # forged, since the checksum is right
                self.damaged = True
                continue
            if start < self.positions or (frame is not None and frame < self._frames):
                self.damaged = True  # it was here before
                continue
            yield from self._gap(start, start if frame is None else frame)
            self.coded |= found.kind == CODED
            yield self._counted(chunk)
        self.damaged |= self._finder.skipped > 0
        self.complete = totals is not None
        self.length_known = self.complete or self._header.num_samples is not None
        if totals is not None:
            positions, samples = totals
            frames = self.spec.frames_for(samples)
            fits = positions >= self.positions and frames >= self._frames
            if not fits or (not self.has_durations and positions != frames):
                raise self._disagrees(positions, samples)
        else:
            self.damaged = True
            samples = self._header.num_samples or 0
            if self.spec.frames_for(samples) < self._frames:  # no length was told, or a wrong one
                samples = self._frames * self.spec.hop
            frames = self.spec.frames_for(samples)
            missing = frames - self._frames
            positions = self.positions + (min(missing, 1) if self.has_durations else missing)
        yield from self._gap(positions, frames)
        self.num_samples = samples
        if past_end and self.complete:
            self.check_end()
        if not self.length_known:
            self._warn_of_cut()

    def _place_of(self, found: WholeChunk) -> int:
        """Return the position at which a chunk starts: that nearest to here which fits its number.

        All chunks but the last are full, so the number of the next one follows from the positions.
        """
        assert self._header.chunk_positions is not None and found.number is not None
        here = -(-self.positions // self._header.chunk_positions)
        ahead = (found.number - here + NUMBERS // 2) % NUMBERS - NUMBERS // 2
        return (here + ahead) * self._header.chunk_positions

    def _gap(self, position: int, frame: int) -> Iterator[Chunk]:
        """Yield lost chunks up to a position and a frame.

        Raises:
            ContainerError: more are lost than can be believed.
        """
        count, frames = position - self.positions, frame - self._frames
        if not frames:
            return
        self.damaged = True
        if max(count, frames) > _MOST_LOST:
            raise ContainerError(
                f"{self.name}: it claims that {max(count, frames)} frames are lost"
            )
        self._lost.append((self._frames, frame))
        if self.has_durations:
            self.positions, self._frames = position, frame
            yield Chunk(np.zeros((self.num_codebooks, 1), np.int64), np.array([frames]), lost=True)
            return
        assert self._header.chunk_positions is not None
        while self.positions < position:
            size = min(self._header.chunk_positions, position - self.positions)
            codes = np.zeros((self.num_codebooks, size), np.int64)
            yield self._counted(Chunk(codes, None, lost=True))

    # --- whole files -----------------------------------------------------------------------------

    def tokens(self) -> "Tokens":
        """Read all chunks and return a batch of one.

        With `recover`, lost frames have codes 0 (and share one position in a file with durations),
        `lost` tells which they are, and the tokens' metadata say so under `lost`.

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
        tokens = self.tokens_of(codes, self.num_samples, durations)
        if not self.recover or not self.lost:
            return tokens
        return replace(tokens, metadata=({**self.metadata, "lost": self.lost.to_json()},))

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
            for found in self._checked_chunks():
                if found.kind == END:
                    claimed, self.num_samples = TOTALS.unpack(found.payload)
                    return claimed == self.positions and not self._take(1)
                self.positions += found.positions
        except (ContainerError, struct.error):
            pass
        return False

    def _checked_chunks(self) -> Iterator[WholeChunk]:
        """Yield every whole chunk, with its checksum and its number verified."""
        while True:
            self._number += 1
            head, check = self._take(CHUNK.size), self._take(CHECK.size)
            if len(head) + len(check) < CHUNK.size + CHECK.size:
                return
            mark, length, positions = CHUNK.unpack(head)
            kind, number = kind_of(mark) or (b"", None)
            whole = f"the {self.positions} positions before it are whole"
            damaged = ContainerError(f"{self.name}: chunk {self._number} is damaged; {whole}")
            if not kind or length > MAX_PAYLOAD:
                raise damaged
            payload = self._take(length)
            if len(payload) < length:
                return
            if CHECK.unpack(check)[0] != zlib.crc32(payload, zlib.crc32(head)):
                raise damaged
            found = WholeChunk(kind, number, positions, payload)
            if number is not None:
                if self._header.chunk_positions is None or positions > self._header.chunk_positions:
                    raise damaged
                if self._place_of(found) != self.positions:
                    raise ContainerError(
                        f"{self.name}: chunk {self._number} is missing, or a chunk is out of its "
                        f"place; {whole}"
                    )
            self.coded |= kind == CODED
            yield found

    def _finish(self, payload: bytes) -> None:
        if len(payload) != TOTALS.size:
            raise ContainerError(f"{self.name}: the end mark is damaged")
        positions, samples = TOTALS.unpack(payload)
        if positions != self.positions or self.spec.frames_for(samples) != self._frames:
            raise self._disagrees(positions, samples)
        self.num_samples, self.complete, self.length_known = samples, True, True

    def _disagrees(self, positions: int, samples: int) -> ContainerError:
        return ContainerError(
            f"{self.name}: the end mark says {positions} positions and {samples} samples; "
            f"{self.positions} positions of {self._frames} frames were read"
        )

    def check_end(self) -> None:
        """Raise `ContainerError` if anything follows the end mark that was just read.

        With `recover` it is noted as damage and left alone.
        """
        if self.held or self._take(1):
            if self.recover:
                self.damaged = True
                return
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
