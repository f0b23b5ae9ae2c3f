"""Cross-entropies of codes on held-out utterances, without the bias of small samples.

The entropy of observed frequencies is too low if there are many codes and little speech: 75,000
frames can't show more than 16.2 bits, whatever the codebook, and nearly every pair of neighbours
among 1,024 codes is seen once, so that a conditional entropy by counting is near 0. Here
frequencies are counted in four fifths of the utterances and evaluated on the last fifth, in turn.
On average such a cross-entropy is an upper bound of the entropy, and it is the length of an actual
code; the entropy of the frequencies is a lower bound. If the two are far apart, there is too little
speech.

Frequencies are smoothed by the Witten–Bell method (`witten_bell`), so that no code is impossible.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..requirements import MetricError
from .witten_bell import WittenBell

FOLDS = 5


@dataclass(frozen=True)
class HeldOutBits:
    """Cross-entropies of one codebook, in bits.

    Attributes:
        alone: of a code.
        after_last: of a code given the one before it in its utterance, over all except first
            frames; None if no utterance has two frames.
        frames: number of frames of `alone`.
    """

    alone: float
    after_last: float | None
    frames: int


def held_out_bits(
    utterances: Sequence[np.ndarray], codebook_size: int, folds: int = FOLDS
) -> HeldOutBits:
    """Cross-entropy of codes, alone and given the one before.

    Args:
        utterances: (frames,) integers below `codebook_size`, each; number i is in fold i modulo
            `folds`.
        codebook_size: number of codes.
        folds: of the cross-validation.

    Raises:
        MetricError: fewer than two utterances have frames, or a code is out of range.
    """
    utterances = [codes.astype(np.int64) for codes in utterances if len(codes)]
    if len(utterances) < 2:
        raise MetricError("held-out entropy: fewer than two utterances have frames")
    everything = np.concatenate(utterances)
    if everything.min() < 0 or everything.max() >= codebook_size:
        raise MetricError(f"a code is out of range: the codebook has {codebook_size}")
    folds = min(folds, len(utterances))
    lengths = [len(codes) for codes in utterances]
    fold = np.repeat(np.arange(len(utterances)) % folds, lengths)
    first = np.zeros(len(everything), bool)
    first[np.cumsum([0, *lengths[:-1]])] = True
    before = np.where(first, -1, np.concatenate([[0], everything[:-1]]))
    alone = after = 0.0
    for number in range(folds):
        shown, asked = fold != number, fold == number
        counted = WittenBell(everything[shown], before[shown], codebook_size, codebook_size)
        alone -= float(np.log2(counted.alone(everything[asked])).sum())
        asked &= ~first
        after -= float(np.log2(counted.after(everything[asked], before[asked])).sum())
    later = int((~first).sum())
    return HeldOutBits(alone / len(everything), after / later if later else None, len(everything))
