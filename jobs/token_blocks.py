"""The frames of a `.syl` file in short blocks, restored from merged positions and from pieces."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from typing import Protocol

import numpy as np
import torch

from ..codecs.container import Chunk, SylReader
from ..codecs.spec import TokenSpec
from ..codecs.tokens import Tokens
from ..errors import ContainerError


class TokenCoder(Protocol):
    """Turns a tokenizer's tokens into others and back, as `semantic.token_bpe.PieceCoder` does.

    Attributes:
        spec: of the tokens that `encode` returns.
        num_codebooks: of the tokens that it takes.
    """

    num_codebooks: int

    @property
    def spec(self) -> TokenSpec: ...

    def encode(self, tokens: Tokens) -> Tokens: ...

    def decode(self, pieces: Tokens, *, partial: bool = False) -> Tokens: ...


class DecodedPieces:
    """A reader's whole contents after a coder's `decode`, with the reader's interface."""

    def __init__(self, reader: SylReader, coder: TokenCoder) -> None:
        self.name, self.num_codebooks = reader.name, coder.num_codebooks
        if not reader.recover:
            whole = coder.decode(reader.tokens(), partial=not reader.complete)
            self._chunks = [_as_chunk(whole)]
        else:
            whole, self._chunks = _decoded_around_gaps(reader, coder)
        self._whole, self.spec = whole, whole.spec
        self.num_samples: int | None = int(whole.num_samples[0])

    def chunks(self) -> Iterator[Chunk]:
        yield from (chunk for chunk in self._chunks if chunk.codes.shape[1])

    def tokens_of(self, codes: np.ndarray, num_samples: int) -> Tokens:
        return replace(
            self._whole,
            codes=torch.from_numpy(codes)[None],
            lengths=torch.tensor([codes.shape[1]]),
            num_samples=torch.tensor([num_samples]),
            durations=None,
        )


def _as_chunk(tokens: Tokens) -> Chunk:
    held = None if tokens.durations is None else tokens.durations[0].numpy()
    return Chunk(tokens.codes[0].numpy(), held)


def _decoded_around_gaps(reader: SylReader, coder: TokenCoder) -> tuple[Tokens, list[Chunk]]:
    """Decode each run of pieces that are not lost.

    Pieces of several codebooks may begin within a frame, and nothing in them tells where: after
    the first gap all are lost.

    Returns:
        Tokens with the counts and global codes of the whole file, and its parts.
    """
    count, parts, frames = coder.num_codebooks, list[Chunk](), 0
    whole = coder.decode(reader.tokens_of(np.zeros((1, 0), np.int64), 0, np.zeros(0, np.int64)))
    broken = False

    def lose(frames: int) -> None:
        if frames > 0:
            parts.append(Chunk(np.zeros((count, 1), np.int64), np.array([frames]), lost=True))

    ticks = 0
    for gone, group in groupby(reader.chunks(), key=lambda chunk: chunk.lost):
        pieces = list(group)
        durations = np.concatenate([p.durations for p in pieces if p.durations is not None])
        ticks += int(durations.sum())
        broken |= gone and count > 1
        if not gone and not broken:
            codes = np.concatenate([piece.codes for piece in pieces], axis=1)
            samples = int(durations.sum()) * reader.spec.hop
            part = coder.decode(reader.tokens_of(codes, samples, durations), partial=True)
            parts.append(_as_chunk(part))
            frames += int(part.num_frames[0])
        elif gone and not broken:
            lose(ticks - frames)
            frames = ticks
    lose(ticks // count - frames)
    samples = reader.num_samples or 0
    if count > 1:  # pieces count whole frames: what lacks in the last one is a code of its own
        samples = max(0, ticks // count * whole.spec.hop)
        samples -= reader.global_codes[-1] if reader.length_known else 0
    return replace(whole, num_samples=torch.tensor([max(0, samples)])), parts


def frames_of(source: SylReader | DecodedPieces, most: int) -> Iterator[tuple[Tokens, bool, bool]]:
    """Yield the frames of the file, at most `most` at a time: whether they are the last, and lost.

    Merged positions are expanded only here, so that long durations take no memory.
    """
    hop = source.spec.hop
    held, gone = np.zeros((source.num_codebooks, 0), np.int64), False
    before = 0
    for chunk in source.chunks():
        for codes in restored(chunk, most):
            if held.shape[1]:
                yield source.tokens_of(held, held.shape[1] * hop), False, gone
                before += held.shape[1] * hop
            held, gone = codes, chunk.lost
    if source.num_samples is None:
        raise ContainerError(f"{source.name}: no number of samples")
    yield source.tokens_of(held, source.num_samples - before), True, gone


def restored(chunk: Chunk, most: int) -> Iterator[np.ndarray]:
    """Yield codes (codebooks, frames), at most `most` frames at a time."""
    positions = np.arange(1, chunk.codes.shape[1] + 1)
    ends = positions if chunk.durations is None else np.cumsum(chunk.durations)
    for start in range(0, int(ends[-1]), most):
        frames = np.arange(start, min(start + most, int(ends[-1])))
        yield chunk.codes[:, np.searchsorted(ends, frames, side="right")]
