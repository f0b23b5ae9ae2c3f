"""Write `.syl` files as a stream, without seeking, so that a pipe works."""

import json
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np

from ...errors import ContainerError, TokenError
from ..spec import TokenSpec, bits_for
from . import bits, entropy, layout

if TYPE_CHECKING:
    from ..tokens import Tokens

CHUNK_SECONDS = 10
#: Longer chunks, since the entropy coder adapts anew in each chunk.
CODED_CHUNK_SECONDS = 60


class ByteSink(Protocol):
    """The methods of a binary file that writing needs."""

    def write(self, data: bytes, /) -> object: ...


@dataclass(frozen=True)
class WriterProgress:
    """How far a writer is: what another writer of the same file needs, besides its settings.

    Attributes:
        waiting: (positions, codebooks) int64, not yet in a chunk.
        positions: in chunks so far.
        samples: of all tokens so far.
    """

    waiting: np.ndarray
    positions: int
    samples: int


class SylWriter:
    """Write the tokens of one utterance to a `.syl` file, as they arrive.

    Args:
        file: binary file, left open.
        spec: of the tokens.
        num_codebooks: of the tokens; default: all of the spec's.
        has_durations: whether the tokens have durations.
        global_codes: codes for the whole utterance, if the spec has such codebooks.
        metadata: any JSON object, stored in the header.
        compress: entropy-code the payload.
        chunk_positions: positions per chunk; a chunk is written as soon as it is full. Default:
            10 seconds' worth, or 60 with `compress`. Each chunk adds 16 bytes and is padded to
            whole bytes, so short chunks (for streams) raise the bitrate.
        num_samples: of the whole utterance, if it is known before its end: a reader of a file that
            was cut short then knows how long it was.
        numbered: number the chunks, so that a reader can tell which of them is missing.

    Attributes:
        bytes_written: so far.
        packed_bytes, coded_bytes: size of the codes if bit-packed, and if entropy-coded (equal
            unless `compress`).
    """

    def __init__(
        self,
        file: ByteSink,
        spec: TokenSpec,
        *,
        num_codebooks: int | None = None,
        has_durations: bool = False,
        global_codes: list[int] | None = None,
        metadata: dict[str, Any] | None = None,
        compress: bool = False,
        chunk_positions: int | None = None,
        num_samples: int | None = None,
        numbered: bool = True,
    ) -> None:
        self._file = file
        self.spec = spec
        self.num_codebooks = spec.num_codebooks if num_codebooks is None else num_codebooks
        if not 1 <= self.num_codebooks <= spec.num_codebooks:
            raise TokenError(
                f"{spec.tokenizer} has 1 to {spec.num_codebooks} codebooks, got {num_codebooks}"
            )
        sizes = spec.global_codebook_sizes
        given = global_codes or []
        if len(given) != len(sizes) or any(
            not 0 <= code < size for code, size in zip(given, sizes, strict=True)
        ):
            raise TokenError(f"expected global codes below {list(sizes)}, got {given}")
        self.has_durations = has_durations
        self.compress = compress
        self.bytes_written = self.packed_bytes = self.coded_bytes = 0
        self._widths = [bits_for(size) for size in spec.codebook_sizes[: self.num_codebooks]]
        seconds = CODED_CHUNK_SECONDS if compress else CHUNK_SECONDS
        most = layout.MAX_CODES // self.num_codebooks
        if compress:
            most = min(most, entropy.MAX_CODED_BITS // sum(self._widths))
        if chunk_positions is None:
            chunk_positions = max(1, min(round(seconds * spec.frame_rate), most))
        if not 1 <= chunk_positions <= most:
            raise TokenError(
                f"a chunk holds 1 to {most} positions of {self.num_codebooks} codebooks, got "
                f"{chunk_positions}"
            )
        self._chunk_positions = chunk_positions
        self._codes: list[np.ndarray] = []
        self._durations: list[np.ndarray] = []
        self._waiting = self._positions = self._frames = self._samples = 0
        self._frames_written = 0  # in chunks
        self._numbered = numbered
        self._closed = False
        header: dict[str, Any] = {
            "spec": spec.to_json(),
            "num_codebooks": self.num_codebooks,
            "durations": has_durations,
            "global_codes": given,
            "metadata": metadata or {},
        }
        if numbered:
            header["chunk_positions"] = chunk_positions
        if num_samples is not None:
            header["num_samples"] = num_samples
        try:
            text = json.dumps(header, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
            data = text.encode()
        except (TypeError, ValueError) as error:
            raise ContainerError(f"the metadata is not JSON: {error}") from None
        if len(data) > layout.MAX_HEADER:
            raise ContainerError(
                f"the metadata takes {len(data)} bytes; at most {layout.MAX_HEADER}"
            )
        preamble = layout.PREAMBLE.pack(layout.VERSION, 0, len(data))
        self._put(layout.MAGIC + preamble + layout.CHECK.pack(zlib.crc32(preamble + data)) + data)

    def write(self, tokens: "Tokens") -> None:
        """Append tokens (a batch of one row).

        Raises:
            TokenMismatchError: they are from another tokenizer.
            TokenError: more than one row, codebooks or durations unlike the file's, or tokens
                after a partial last frame.
            ContainerError: the writer is closed.
        """
        from ..tokens import check_same_tokenizer

        if self._closed:
            raise ContainerError("this writer is closed")
        check_same_tokenizer(tokens.spec, self.spec)
        if len(tokens) != 1:
            raise TokenError(f"a .syl file holds one utterance; got a batch of {len(tokens)}")
        if tokens.num_codebooks != self.num_codebooks:
            raise TokenError(
                f"this file has {self.num_codebooks} codebooks, the tokens {tokens.num_codebooks}"
            )
        if (tokens.durations is not None) != self.has_durations:
            raise TokenError("the tokens and the file must both have durations, or neither")
        tokens.check()
        length = int(tokens.lengths[0])
        if length and self._samples < self._frames * self.spec.hop:
            raise TokenError("the tokens before these end within a frame: nothing can follow")
        codes = tokens.codes[0, :, :length].T.cpu().numpy()
        if tokens.durations is not None:
            durations = tokens.durations[0, :length].cpu().numpy().copy()
            if length and int(durations.max()).bit_length() > layout.MAX_DURATION_BITS:
                raise TokenError(f"a duration of {durations.max()} frames is too long for a file")
            self._durations.append(durations)
        self._append(codes, int(tokens.num_frames[0]), int(tokens.num_samples[0]))

    def write_codes(self, codes: np.ndarray, samples: int) -> None:
        """Append what an encoder has just returned, without the checks of `write`.

        They take ten times as long as writing one frame does.

        Args:
            codes: (frames, codebooks) int64, in range.
            samples: that they stand for; fewer than frames × hop in the last call only.

        Raises:
            ContainerError: the writer is closed, or its file has durations.
        """
        if self._closed or self.has_durations:
            raise ContainerError("this writer is closed, or takes durations, too")
        self._append(codes, len(codes), samples)

    def _append(self, codes: np.ndarray, frames: int, samples: int) -> None:
        # Copied, since the caller may reuse its tensors before the chunk is full.
        self._codes.append(codes.copy())
        self._waiting += len(codes)
        self._frames += frames
        self._samples += samples
        if self._waiting >= self._chunk_positions:
            self._write_chunks(all_of_them=False)

    def export_progress(self) -> WriterProgress:
        """Return how far the file is, to go on with it in another process.

        Raises:
            ContainerError: the file has durations, or is closed.
        """
        if self.has_durations or self._closed:
            raise ContainerError("only an open file without durations can be continued")
        nothing = np.zeros((0, self.num_codebooks), np.int64)
        waiting = np.concatenate([nothing, *self._codes])
        return WriterProgress(waiting, self._positions, self._samples)

    def import_progress(self, progress: WriterProgress) -> None:
        """Go on from another writer's progress; call it on a new writer.

        The header that this writer has written is that of the file: write it once only.

        Raises:
            TokenError: the codes do not fit this file, or the counts do not agree.
        """
        codes, sizes = progress.waiting, self.spec.codebook_sizes[: self.num_codebooks]
        frames = progress.positions + len(codes)
        if codes.dtype != np.int64 or codes.ndim != 2 or codes.shape[1] != self.num_codebooks:
            raise TokenError(f"waiting codes are int64 (positions, {self.num_codebooks})")
        if len(codes) >= self._chunk_positions or (codes < 0).any() or (codes >= sizes).any():
            raise TokenError("waiting codes are out of range, or fill a chunk")
        if progress.positions < 0 or self.spec.frames_for(progress.samples) != frames:
            raise TokenError(f"{frames} frames and {progress.samples} samples do not agree")
        self._codes, self._waiting = [codes.copy()], len(codes)
        self._positions, self._frames = progress.positions, frames
        self._samples = progress.samples

    def close(self) -> None:
        """Write the last chunk and the end mark; a file without the mark reads as truncated."""
        if not self._closed:
            self._write_chunks(all_of_them=True)
            self._chunk(layout.END, 0, layout.TOTALS.pack(self._positions, self._samples))
            self._closed = True

    def _write_chunks(self, all_of_them: bool) -> None:
        if not self._codes:
            return
        codes = self._codes[0] if len(self._codes) == 1 else np.concatenate(self._codes)
        durations = np.concatenate(self._durations) if self.has_durations else None
        at, size = 0, self._chunk_positions
        while at + size <= len(codes) or (all_of_them and at < len(codes)):
            stop = min(at + size, len(codes))
            self._write_chunk(codes[at:stop], None if durations is None else durations[at:stop])
            at = stop
        self._codes = [codes[at:]]
        self._durations = [] if durations is None else [durations[at:]]
        self._waiting = len(codes) - at

    def _write_chunk(self, codes: np.ndarray, durations: np.ndarray | None) -> None:
        kind, payload = layout.PACKED, b""
        packed_size = bits.packed_size(len(codes), self._widths)
        if self.compress:
            coded = entropy.encode(codes, self._widths)
            if layout.CHECK.size + len(coded) < packed_size:
                kind, payload = layout.CODED, layout.CHECK.pack(len(coded)) + coded
        if kind == layout.PACKED:
            payload = bits.pack(codes, self._widths)
        self.packed_bytes += packed_size
        self.coded_bytes += len(payload)
        if durations is not None:
            width = int(durations.max()).bit_length()
            payload += bytes([width]) + bits.pack(durations[:, None], [width])
            if self._numbered:
                payload += layout.START.pack(self._frames_written)
            self._frames_written += int(durations.sum())
        if self._numbered:
            number = self._positions // self._chunk_positions % layout.NUMBERS
            kind = layout.NUMBERED[kind] + layout.NUMBER.pack(number)
        self._chunk(kind, len(codes), payload)
        self._positions += len(codes)

    def _chunk(self, kind: bytes, positions: int, payload: bytes) -> None:
        head = layout.CHUNK.pack(kind, len(payload), positions)
        self._put(head + layout.CHECK.pack(zlib.crc32(payload, zlib.crc32(head))) + payload)

    def _put(self, data: bytes) -> None:
        self._file.write(data)
        self.bytes_written += len(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *failure: object) -> None:
        if kind is None:
            self.close()
