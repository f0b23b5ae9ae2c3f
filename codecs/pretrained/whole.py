"""Streams for models that need whole utterances: rows are collected, and worked on at their end.

So neither the batch, nor padding, nor the chunks of a stream can change what a row gives, even for
models whose layers see the whole utterance.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..streaming import DecoderStream, EncoderStream, RowStream, row_flags


@dataclass(frozen=True)
class Work:
    """What is done with all input of a row.

    Attributes:
        encode: samples (n,) with n > 0 to codes (codebooks, frames).
        latents: samples to latents (frames, channels).
        decode: codes (codebooks, frames) with at least one frame to samples.
        embed: codes to latents.
        decode_latents: latents to samples.
        num_codebooks, channels: of codes and latents.
        device: of all of them.
    """

    encode: Callable[[Tensor], Tensor]
    latents: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]
    embed: Callable[[Tensor], Tensor]
    decode_latents: Callable[[Tensor], Tensor]
    num_codebooks: int
    channels: int
    device: torch.device


class WholeRows(RowStream[list[Tensor]]):
    """Collect each row's input.

    Args:
        work: what is done with it at the end.
        batch_size: the number of rows.
    """

    def __init__(self, work: Work, batch_size: int) -> None:
        self.work = work
        self.states = [self.init_row() for _ in range(batch_size)]

    def init_row(self) -> list[Tensor]:
        return []

    def gather(self, rows: Sequence[Tensor], final: bool | Sequence[bool]) -> list[list[Tensor]]:
        """Take more input; return all of a row that ends here, and nothing of the others."""
        ended = []
        for index, (row, end) in enumerate(zip(rows, row_flags(final, len(rows)), strict=True)):
            pieces = self.states[index]
            if row.numel():
                pieces.append(row.clone())  # the caller may reuse its buffer
            if end:
                self.reset(index)
            ended.append(pieces if end else [])
        return ended


class WholeEncoder(WholeRows, EncoderStream):
    """Samples to codes or latents, by the call that ends a row."""

    def push(self, rows: Sequence[Tensor], final: bool | Sequence[bool]) -> list[Tensor]:
        work = self.work
        nothing = torch.zeros(work.num_codebooks, 0, dtype=torch.long, device=work.device)
        return [
            work.encode(torch.cat(pieces)) if pieces else nothing
            for pieces in self.gather(rows, final)
        ]

    def push_latents(self, rows: Sequence[Tensor], final: bool | Sequence[bool]) -> list[Tensor]:
        nothing = torch.zeros(0, self.work.channels, device=self.work.device)
        return [
            self.work.latents(torch.cat(pieces)) if pieces else nothing
            for pieces in self.gather(rows, final)
        ]


class WholeDecoder(WholeRows, DecoderStream):
    """Codes or latents to samples. A row that has both is decoded from latents."""

    def push(self, rows: Sequence[Tensor], final: bool | Sequence[bool]) -> list[Tensor]:
        return [self._decode(pieces) for pieces in self.gather(rows, final)]

    push_latents = push

    def _decode(self, pieces: list[Tensor]) -> Tensor:
        if not pieces:
            return torch.zeros(0, device=self.work.device)
        if not any(map(torch.is_floating_point, pieces)):
            return self.work.decode(torch.cat(pieces, -1))
        vectors = [
            piece if piece.is_floating_point() else self.work.embed(piece) for piece in pieces
        ]
        return self.work.decode_latents(torch.cat(vectors))
