"""Packing of utterances into one stream of frames, cut into blocks of equal length.

Short utterances would waste most of a padded batch. So they are concatenated, and attention is
limited to each utterance.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Stream:
    """Concatenated utterances.

    Attributes:
        symbols: (frames, symbols) int64, to be predicted.
        previous: (frames, symbols) int64, of the frame before; -1 at an utterance's first frame.
        utterance: (frames,) int64, index of each frame's utterance.
    """

    symbols: np.ndarray
    previous: np.ndarray
    utterance: np.ndarray

    def __len__(self) -> int:
        return len(self.symbols)

    def cut(self, start: int, stop: int) -> "Stream":
        """Return frames from `start` to `stop`."""
        return Stream(
            self.symbols[start:stop], self.previous[start:stop], self.utterance[start:stop]
        )


def pack(utterances: Sequence[np.ndarray], order: Sequence[int] | None = None) -> Stream:
    """Concatenate utterances.

    Args:
        utterances: (frames, symbols) int64 each, at least one.
        order: their indices; default: as given.
    """
    order = range(len(utterances)) if order is None else order
    symbols = np.concatenate([utterances[number] for number in order])
    lengths = [len(utterances[number]) for number in order]
    utterance = np.repeat(np.asarray(order, np.int64), lengths)
    previous = np.full_like(symbols, -1)
    previous[1:] = symbols[:-1]
    starts = np.cumsum([0, *lengths[:-1]])
    previous[starts[starts < len(symbols)]] = -1
    return Stream(symbols, previous, utterance)


def shuffled_batches(
    utterances: Sequence[np.ndarray], length: int, batch: int, random: np.random.Generator
) -> Iterator[Stream]:
    """Yield batches of blocks endlessly: each pass has the utterances, and its blocks, in a new
    order.

    Args:
        utterances: (frames, symbols) int64 each.
        length: frames of a block. The rest at the end of a pass is dropped, unless the
            whole is shorter than a block.
        batch: blocks.
        random: generator of the order.

    Yields:
        A `Stream` whose arrays have an additional first dimension: (batch, length, …).
    """
    frames = sum(map(len, utterances))
    length = min(length, frames)
    waiting: list[Stream] = []
    while True:
        stream = pack(utterances, random.permutation(len(utterances)).tolist())
        spare = frames % length
        offset = int(random.integers(spare + 1))
        for block in random.permutation(frames // length).tolist():
            start = offset + block * length
            waiting.append(stream.cut(start, start + length))
            if len(waiting) == batch:
                yield Stream(
                    np.stack([part.symbols for part in waiting]),
                    np.stack([part.previous for part in waiting]),
                    np.stack([part.utterance for part in waiting]),
                )
                waiting.clear()
