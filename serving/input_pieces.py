"""What a client sends, cut into messages: PCM bytes, or the bytes of a `.syl` file.

Callers give bytes as they come, in pieces of any size. A message is short, so that it fits the
server's limits and no frame waits long for the rest of its message.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..audio.pcm import PCMEncoder
from ..codecs.container import SylReader, SylWriter, chunk_size
from ..codecs.container.layout import CHECK, CHUNK, END, MAGIC, MAX_HEADER, MAX_PAYLOAD, PREAMBLE
from ..errors import ContainerError, ServingError, WaveError
from .protocol import HEADER, PCM, PCM_FORMATS, Kind, Limits

if TYPE_CHECKING:
    from ..codecs.spec import TokenSpec

#: Milliseconds of audio in a message at most.
MOST_MS = 100.0


@dataclass(frozen=True)
class Piece:
    """A message to be: its payload, the samples or frames in it, and whether it is the last."""

    kind: Kind
    payload: bytes
    units: int
    final: bool = False


class PCMPieces:
    """Cuts PCM.

    Args:
        pcm: the format that the bytes have.
        limits: of the server.
    """

    def __init__(self, pcm: PCM, limits: Limits) -> None:
        self._pcm = pcm
        self._width = PCM_FORMATS[pcm.format]
        most = int(min(MOST_MS, limits.input_ms / 4) * pcm.rate / 1000)
        self._most = max(1, min(most, (limits.message_bytes - HEADER.size) // self._width))
        self._rest = b""

    def push(self, data: bytes | np.ndarray) -> Iterator[Piece]:
        """Yield the messages of more bytes, or of more samples (n,) float32 in [-1, 1]."""
        if isinstance(data, np.ndarray):
            if self._rest:
                raise WaveError("samples can't follow bytes that end within a sample")
            if data.ndim != 1 or data.dtype != np.float32:
                raise WaveError(
                    f"expected mono samples (n,) float32, got {data.shape} {data.dtype}"
                )
            data = PCMEncoder(self._pcm.format).push(data)
        data = self._rest + data
        whole = len(data) - len(data) % self._width
        self._rest = data[whole:]
        step = self._most * self._width
        for at in range(0, whole, step):
            part = data[at : min(at + step, whole)]
            yield Piece(Kind.PCM, part, len(part) // self._width)

    def finish(self) -> None:
        """Check that the input may end here.

        Raises:
            WaveError: it ends within a sample.
        """
        if self._rest:
            raise WaveError(f"the input ends within a sample of {self._pcm.format}")


class _Buffer:
    """Bytes that arrive from one side and are read from the other."""

    def __init__(self) -> None:
        self.data = bytearray()

    def read(self, count: int, /) -> bytes:
        found = bytes(self.data[:count])
        del self.data[:count]
        return found


class SylPieces:
    """Cuts a `.syl` file: the header, then chunk by chunk.

    Chunks that are too long for a message, as files have them, are cut into shorter ones; codes
    with durations are sent without, each as often as it lasts.

    Args:
        limits: of the server.

    Attributes:
        ended: whether the end mark has come.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._buffer = _Buffer()
        self._reader: SylReader | None = None
        self._frames = 0
        self.ended = False

    def push(self, data: bytes) -> Iterator[Piece]:
        """Yield the messages of more bytes.

        Raises:
            ContainerError: they are no `.syl` file, or a damaged one.
        """
        self._buffer.data += data
        if self._reader is None:
            header = self._header()
            if header is None:
                return
            yield Piece(Kind.SYL_HEADER, header, 0)
        while (size := chunk_size(bytes(self._buffer.data[: CHUNK.size]))) is not None:
            if self.ended:
                raise ContainerError("the input goes on after the end mark of the .syl file")
            if size > MAX_PAYLOAD + CHUNK.size + CHECK.size:
                raise ContainerError("the .syl input is damaged: a chunk is too long")
            if size > len(self._buffer.data):
                return
            yield from self._chunk(bytes(self._buffer.data[:size]))
        if self.ended and self._buffer.data:
            raise ContainerError("the input goes on after the end mark of the .syl file")

    def _header(self) -> bytes | None:
        """Read the header if it is there; return what to send for it."""
        data = self._buffer.data
        start = len(MAGIC) + PREAMBLE.size + CHECK.size
        if data[: len(MAGIC)] != MAGIC[: len(data)]:
            raise ContainerError("the input is not a .syl file")
        if len(data) < start:
            return None
        length = PREAMBLE.unpack_from(data, len(MAGIC))[2]
        if length <= MAX_HEADER and len(data) < start + length:
            return None
        original = bytes(data[: start + length])
        reader = self._reader = SylReader(self._buffer, "the input")
        self._chunks = reader.chunks(past_end=False)
        rate = float(reader.spec.frame_rate)
        self._most = max(1, int(min(MOST_MS, self._limits.input_ms / 4) * rate / 1000))
        if reader.global_codes:
            raise ContainerError("streams can't carry codes of the whole utterance")
        if not reader.has_durations:
            return original
        written = io.BytesIO()
        SylWriter(
            written,
            reader.spec,
            num_codebooks=reader.num_codebooks,
            metadata=reader.metadata,
            chunk_positions=self._most,
            numbered=False,
        )
        return written.getvalue()

    def _chunk(self, data: bytes) -> Iterator[Piece]:
        reader = self._reader
        assert reader is not None
        mark, _, positions = CHUNK.unpack_from(data)
        chunk = next(self._chunks, None)  # checks it, too
        if chunk is None:
            self.ended = True
            if reader.has_durations:
                data = _end_mark(self._frames, reader.num_samples or 0)
            yield Piece(Kind.SYL_CHUNK, data, 0, final=True)
            return
        fits = len(data) <= self._limits.message_bytes - HEADER.size
        if mark != END and not reader.has_durations and positions <= self._most and fits:
            self._frames += positions
            yield Piece(Kind.SYL_CHUNK, data, positions)
            return
        from ..jobs.token_blocks import restored

        for codes in restored(chunk, self._most):
            self._frames += codes.shape[1]
            yield Piece(Kind.SYL_CHUNK, _packed(reader.spec, codes), codes.shape[1])

    def finish(self) -> None:
        """Check that the input may end here: a truncated file may, after its header.

        Raises:
            ContainerError: there is not even a whole header.
        """
        if self._reader is None:
            raise ContainerError("the .syl input ends before its first whole chunk")


def _packed(spec: "TokenSpec", codes: np.ndarray) -> bytes:
    """Return codes (codebooks, frames) as one chunk."""
    import torch

    from ..codecs.tokens import Tokens

    count, frames = codes.shape
    written = io.BytesIO()
    writer = SylWriter(written, spec, num_codebooks=count, chunk_positions=frames, numbered=False)
    start = written.tell()
    writer.write(
        Tokens(
            codes=torch.from_numpy(np.ascontiguousarray(codes))[None],
            lengths=torch.tensor([frames]),
            num_samples=torch.tensor([frames * spec.hop]),
            spec=spec,
        )
    )
    return written.getvalue()[start:]


def _end_mark(frames: int, samples: int) -> bytes:
    import zlib

    from ..codecs.container.layout import TOTALS

    payload = TOTALS.pack(frames, samples)
    head = CHUNK.pack(END, len(payload), 0)
    return head + CHECK.pack(zlib.crc32(head + payload)) + payload


class CodeReader:
    """Reads the codes in what a server sends: the payloads of its messages, in order.

    Attributes:
        num_samples: of the utterance, once its end mark has come.
    """

    def __init__(self) -> None:
        self._buffer = _Buffer()
        self._reader: SylReader | None = None

    @property
    def num_samples(self) -> int | None:
        return None if self._reader is None else self._reader.num_samples

    def push(self, payload: bytes) -> np.ndarray:
        """Return the codes (codebooks, frames) int64 of the next message; of a header, none.

        A header begins another utterance.

        Raises:
            ContainerError: the payload is damaged.
            ServingError: it is no `.syl` header, and none has come before.
        """
        self._buffer.data[:] = payload
        if payload[: len(MAGIC)] == MAGIC:
            self._reader = SylReader(self._buffer, "the stream")
            self._chunks = self._reader.chunks(past_end=False)
            return np.zeros((self._reader.num_codebooks, 0), np.int64)
        if self._reader is None:
            raise ServingError("codes begin with a .syl header")
        chunk = next(self._chunks, None)
        if chunk is None:
            return np.zeros((self._reader.num_codebooks, 0), np.int64)
        return chunk.codes
