"""What goes wrong between encoder and decoder: lost frames, and flipped bits of packed codes."""

from collections.abc import Sequence

import numpy as np

from ...codecs.spec import bits_for


def frame_order(frames: int, run: int, random: np.random.Generator) -> np.ndarray:
    """Return the order in which frames are lost: bursts of neighbours, one after the other.

    Args:
        frames: number of frames.
        run: frames of a burst. The grid of bursts begins at a random frame.
        random: random generator.

    Returns:
        (frames,) int64, each frame once.
    """
    offset = int(random.integers(run))
    # Shorter bursts at the two ends are lost last.
    edges = np.arange(offset, frames + 1, run) if offset <= frames else np.zeros(0, int)
    whole = [np.arange(start, start + run) for start in edges if start + run <= frames]
    mixed = [whole[number] for number in random.permutation(len(whole))]
    left = np.setdiff1d(np.arange(frames), np.concatenate(whole) if whole else [])
    return np.concatenate([*mixed, left]).astype(np.int64)


def frames_hit(order: np.ndarray, share: float) -> np.ndarray:
    """Return the first `share` of an order as (frames,) bool: at least one frame, and never all."""
    count = min(max(1, round(share * len(order))), len(order) - 1)
    hit = np.zeros(len(order), bool)
    hit[order[: max(0, count)]] = True
    return hit


def flip_bits(
    codes: np.ndarray, sizes: Sequence[int], rate: float, random: np.random.Generator
) -> np.ndarray:
    """Flip each bit of packed codes with the same probability.

    With a generator in the same state, the bits flipped at a lower rate are among those of a higher
    one. A codebook whose size is no power of two has no code for some bits: these become its last
    code, as a decoder that must go on would take them.

    Args:
        codes: (codebooks, frames) int64.
        sizes: of the codebooks.
        rate: probability.
        random: random generator.

    Returns:
        (codebooks, frames) int64 codes in range.
    """
    flipped = codes.copy()
    for row, size in zip(flipped, sizes, strict=True):
        for bit in range(bits_for(size)):
            row ^= (random.random(len(row)) < rate).astype(np.int64) << bit
        np.minimum(row, size - 1, out=row)
    return flipped
