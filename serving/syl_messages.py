"""A `.syl` file as messages: the header in one, then one chunk in each. Both directions can stop
anywhere and go on in another process.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..codecs.container import SylReader, SylWriter, chunk_size
from ..codecs.container.layout import CHUNK, END
from ..codecs.container.writer import WriterProgress
from ..codecs.spec import TokenSpec
from ..codecs.tokens import check_same_tokenizer
from ..errors import ContainerError, StateError, TokenError
from .protocol import Kind, Refusal


class _Feed:
    """A source whose bytes are put in one message at a time."""

    def __init__(self) -> None:
        self._data, self._at = b"", 0

    def put(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def read(self, count: int, /) -> bytes:
        piece = self._data[self._at : self._at + count]
        self._at += len(piece)
        return piece

    @property
    def left(self) -> int:
        return len(self._data) - self._at


class SylInput:
    """Codes out of messages.

    Args:
        spec: that the file must have.
        num_codebooks: likewise.

    Attributes:
        num_samples: of the utterance; None before the end mark.
    """

    def __init__(self, spec: TokenSpec, num_codebooks: int) -> None:
        self._spec, self._num_codebooks = spec, num_codebooks
        self._feed = _Feed()
        self._header = b""
        self._reader: SylReader | None = None

    @property
    def num_samples(self) -> int | None:
        return None if self._reader is None else self._reader.num_samples

    def push(self, kind: Kind, payload: bytes) -> np.ndarray:
        """Take a message and return its codes (codebooks, frames) int64, possibly none.

        Raises:
            Refusal: `malformed`; or `unknown_codec`, for a header of another tokenizer.
        """
        nothing = np.zeros((self._num_codebooks, 0), np.int64)
        try:
            if kind == Kind.SYL_HEADER:
                self._start(payload)
                return nothing
            if self._reader is None or kind != Kind.SYL_CHUNK:
                raise Refusal("malformed", "codes are a .syl header, then its chunks")
            if not payload and self.num_samples is None:
                return nothing  # the end of a file that has been cut short
            if self.num_samples is not None or chunk_size(payload) != len(payload):
                raise Refusal("malformed", "a message is exactly one chunk, and none after the end")
            self._feed.put(payload)
            chunk = next(self._chunks, None)
        except ContainerError as error:
            raise Refusal("malformed", str(error)) from None
        return nothing if chunk is None else chunk.codes

    def _start(self, header: bytes) -> None:
        if self._reader is not None:
            raise Refusal("malformed", "a second .syl header in one utterance")
        self._feed.put(header)
        reader = SylReader(self._feed, "the stream")
        try:
            check_same_tokenizer(reader.spec, self._spec)
        except TokenError as error:
            raise Refusal("unknown_codec", str(error)) from None
        if self._feed.left:
            raise Refusal("malformed", "there are bytes after the .syl header")
        if reader.has_durations or reader.global_codes:
            raise Refusal("malformed", "streams take no durations and no global codes")
        if reader.num_codebooks != self._num_codebooks:
            raise Refusal(
                "malformed",
                f"the .syl header has {reader.num_codebooks} codebooks, `open` named "
                f"{self._num_codebooks}",
            )
        self._header, self._reader = header, reader
        self._chunks = reader.chunks(past_end=False)

    def export_state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        if self._reader is None:
            return {}, {}
        counts = {"positions": self._reader.positions, "samples": self.num_samples}
        return counts, {"header": torch.frombuffer(bytearray(self._header), dtype=torch.uint8)}

    def import_state(self, counts: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        if not counts:
            return
        try:
            self._start(tensors["header"].numpy().tobytes())
        except (Refusal, ContainerError) as error:
            raise StateError(f"a row's .syl header: {error}") from None
        assert self._reader is not None
        self._reader.continue_after(counts["positions"])
        self._reader.num_samples = counts["samples"]


class _Pieces(list[bytes]):
    """A file for `SylWriter`, which writes the header and each chunk in one call."""

    def write(self, data: bytes, /) -> object:
        self.append(data)
        return None


class SylOutput:
    """Messages out of codes.

    Args:
        spec, num_codebooks: of the codes.
        frames: in each chunk.
        metadata: for the header.
    """

    def __init__(
        self, spec: TokenSpec, num_codebooks: int, frames: int, metadata: dict[str, Any]
    ) -> None:
        self._pieces = _Pieces()
        self._writer = SylWriter(
            self._pieces,
            spec,
            num_codebooks=num_codebooks,
            metadata=metadata,
            chunk_positions=frames,
        )
        self._ended = False

    def push(
        self, codes: np.ndarray | None, samples: int, final: bool
    ) -> list[tuple[Kind, int, bytes]]:
        """Take codes (frames, codebooks) of so many samples, as an encoder returned them.

        Returns:
            (kind, number of frames, payload) of new messages.
        """
        if codes is not None:
            self._writer.write_codes(codes, samples)
        if final:
            self._writer.close()
            self._ended = True
        messages = []
        for piece in self._pieces:
            kind, frames = Kind.SYL_HEADER, 0
            if piece[:4] != b"\x89SYL":
                kind = Kind.SYL_CHUNK
                mark, _, positions = CHUNK.unpack_from(piece)
                frames = 0 if mark == END else positions
            messages.append((kind, frames, piece))
        self._pieces.clear()
        return messages

    def export_state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        if self._ended:
            return {"ended": True}, {}
        progress = self._writer.export_progress()
        counts = {"positions": progress.positions, "samples": progress.samples}
        return {**counts, "fresh": bool(self._pieces)}, {
            "waiting": torch.from_numpy(progress.waiting)
        }

    def import_state(self, counts: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        if counts.get("ended"):
            self._pieces.clear()
            self._ended = True
            return
        if not counts["fresh"]:
            self._pieces.clear()  # the header was sent by the row that this one continues
        progress = WriterProgress(
            tensors["waiting"].numpy(), counts["positions"], counts["samples"]
        )
        try:
            self._writer.import_progress(progress)
        except TokenError as error:
            raise StateError(f"a row's writer: {error}") from None
