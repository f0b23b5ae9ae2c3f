"""Mixture of a network's probabilities with those of counts.

With minutes of speech and thousands of codes, a neural network is often no better than the codes'
frequencies where there is little to learn, and overfits. So, as n-grams and neural models have long
been interpolated (Mikolov et al., Interspeech 2011), the probability of a symbol is a weighted mean
of

- the network's,
- 1 / the size of its alphabet,
- its frequency,
- its frequency after the symbol at the same position in the last frame,
- its frequency after the previous symbol in this frame.

The weights, separate for each position in a frame, minimise the bits of the held-out utterances. A
mean of distributions with fixed weights is a distribution, so bits remain a code length.
"""

from collections.abc import Sequence

import numpy as np

from ..unit_measures.witten_bell import WittenBell
from .packing import Stream

EXPERTS = ("network", "even", "alone", "after the last frame", "after the symbol before")
_ROUNDS = 100


class CountedSymbols:
    """Frequencies of the symbols at each position.

    Args:
        stream: counted.
        sizes: of the alphabet at each position.
    """

    def __init__(self, stream: Stream, sizes: Sequence[int]) -> None:
        self._last, self._beside = [], []
        for place, size in enumerate(sizes):
            codes = stream.symbols[:, place]
            self._last.append(WittenBell(codes, stream.previous[:, place], size, size))
            left = sizes[place - 1] if place else 1
            self._beside.append(WittenBell(codes, _beside(stream, place), size, left))

    def chances(self, stream: Stream) -> np.ndarray:
        """Probabilities (4, frames, symbols) float64, in the order of `EXPERTS` after the
        network.
        """
        out = np.empty((4, *stream.symbols.shape))
        for place, (last, beside) in enumerate(zip(self._last, self._beside, strict=True)):
            codes = stream.symbols[:, place]
            out[0, :, place] = 1 / last.size
            out[1, :, place] = last.alone(codes)
            out[2, :, place] = last.after(codes, stream.previous[:, place])
            out[3, :, place] = beside.after(codes, _beside(stream, place))
        return out


def _beside(stream: Stream, place: int) -> np.ndarray:
    """The previous symbol in the frame, (frames,); -1 at the first position."""
    if place:
        return stream.symbols[:, place - 1]
    return np.full(len(stream), -1, np.int64)


def best_weights(chances: np.ndarray) -> np.ndarray:
    """Mixture weights that maximise the likelihood of given symbols, by expectation–maximisation.

    Args:
        chances: (experts, frames, symbols) probability of the actual symbol under each expert.

    Returns:
        (experts, symbols) float64; the sums over experts are 1.
    """
    weights = np.full((len(chances), chances.shape[2]), 1 / len(chances))
    for _ in range(_ROUNDS):
        shares = weights[:, None] * chances
        weights = (shares / shares.sum(0)).mean(1)
    return weights


def mixed_bits(chances: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """-log2 of the mixed probability of each symbol, (frames, symbols) float64."""
    return -np.log2((weights[:, None] * chances).sum(0))
