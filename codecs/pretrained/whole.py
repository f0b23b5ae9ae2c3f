"""Streams for models that need whole utterances: rows are collected, and worked on at their end."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..streaming import DecoderStream, EncoderStream, RowStream, row_flags


class WholeRows(RowStream[list[Tensor]]):
    """Collect each row's input and work on it at the end, one row after the other.

    So neither the batch, nor padding, nor the chunks of a stream can change what a row gives, even
    for models whose layers see the whole utterance.

    Args:
        work: turns all input of a row, (…, n) with n > 0, into its output.
        nothing: the output of a row that has not ended, or is empty.
        batch_size: the number of rows.
    """

    def __init__(
        self, work: Callable[[Tensor], Tensor], nothing: Tensor, batch_size: int
    ) -> None:
        self.work, self.nothing = work, nothing
        self.states = [self.init_row() for _ in range(batch_size)]

    def init_row(self) -> list[Tensor]:
        return []

    def push(self, rows: Sequence[Tensor], final: bool | Sequence[bool]) -> list[Tensor]:
        flags = row_flags(final, len(rows))
        return [self._push_row(*each) for each in zip(range(len(rows)), rows, flags, strict=True)]

    def _push_row(self, index: int, row: Tensor, final: bool) -> Tensor:
        pieces = self.states[index]
        pieces.append(row.clone())  # the caller may reuse its buffer
        if not final:
            return self.nothing
        self.reset(index)
        whole = torch.cat(pieces, -1)
        return self.work(whole) if whole.shape[-1] else self.nothing


class WholeEncoder(WholeRows, EncoderStream):
    """Samples to codes."""


class WholeDecoder(WholeRows, DecoderStream):
    """Codes to samples."""
