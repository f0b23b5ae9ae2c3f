"""Near-duplicates by n-grams of codes: MinHash signatures (datasketch) and banding.

Two utterances that share most n-grams of codes (of those codebooks that tell most) are the same
recording: whole, cut otherwise, or coded otherwise. The share is the Jaccard similarity, estimated
from signatures of `PERMUTATIONS` values (Broder, 1997).
"""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from ...errors import DatasetError

if TYPE_CHECKING:
    from datasketch import MinHash

PERMUTATIONS = 128
#: Codes in an n-gram.
NGRAM = 4
#: A first codebook of at least so many codes is enough; else codebooks of so many bits in all.
_TELLING_CODES, _TELLING_BITS = 256, 16
_MIX = np.uint64(0x9E3779B97F4A7C15)


def compared_codebooks(sizes: Sequence[int]) -> list[int]:
    """Which codebooks tell utterances apart: the first of a residual chain, which has most of the
    sound; of many small ones (dMel's channels) some that are spread over all.
    """
    if sizes[0] >= _TELLING_CODES:
        return [0]
    bits, count = 0, 0
    while bits < _TELLING_BITS and count < len(sizes):
        bits += (sizes[count] - 1).bit_length()
        count += 1
    return np.linspace(0, len(sizes) - 1, count + 2)[1:-1].round().astype(int).tolist()


def signature(codes: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """(PERMUTATIONS,) uint32 of codes (codebooks, frames); all ones if they are too few.

    Args:
        codes: of one utterance.
        sizes: of the codebooks.
    """
    row = np.zeros(codes.shape[1], np.uint64)
    for book in compared_codebooks(sizes):
        row = row * np.uint64(sizes[book]) + codes[book].astype(np.uint64)
    # A pause is the same code many times: runs count once, so that pauses don't make a match.
    row = row[np.flatnonzero(np.diff(row, prepend=row[:1] + np.uint64(1)))] if row.size else row
    if row.size < NGRAM:
        return np.full(PERMUTATIONS, np.iinfo(np.uint32).max, np.uint32)
    grams = np.zeros(row.size - NGRAM + 1, np.uint64)
    for place in range(NGRAM):
        grams = (grams ^ (row[place : place + grams.size] + np.uint64(1))) * _MIX
    made = _empty().copy()
    made.update_batch(np.unique(grams >> np.uint64(32)).tolist())
    return np.asarray(made.hashvalues, np.uint32)


@cache
def _empty() -> "MinHash":
    return _datasketch().MinHash(
        num_perm=PERMUTATIONS, seed=1, scheme="affine32", hashfunc=_as_it_is
    )


def _as_it_is(value: int) -> int:
    return value


@cache
def _datasketch():  # type: ignore[no-untyped-def]
    try:
        import datasketch
    except ImportError:
        raise DatasetError(
            "near-duplicates are found with datasketch: pip install 'syllabary[lm]'"
        ) from None
    return datasketch


class NearDuplicates:
    """Finds items that resemble an earlier one, in order.

    An item is compared with earlier ones that were no duplicates themselves, and with those only
    that share a band of its signature. So the result depends on the order of the list alone.

    Args:
        signatures: (items, PERMUTATIONS) uint32.
        threshold: similarity from which an item is a duplicate.
    """

    def __init__(self, signatures: np.ndarray, threshold: float) -> None:
        self.signatures, self.threshold = signatures, threshold
        index = _datasketch().MinHashLSH(threshold=min(threshold, 0.99), num_perm=PERMUTATIONS)
        self.bands, self.rows = int(index.b), int(index.r)

    def find(self) -> dict[int, tuple[int, float]]:
        """Number of each duplicate: that of the earlier item, and their similarity."""
        count = len(self.signatures)
        shared = self._shared_bands()
        firsts: dict[int, list[int]] = {}
        found: dict[int, tuple[int, float]] = {}
        for item in np.flatnonzero((shared >= 0).any(axis=0)).tolist() if count else ():
            keys = [key for key in shared[:, item].tolist() if key >= 0]
            earlier = sorted({other for key in keys for other in firsts.get(key, ())})
            best = self._most_similar(item, earlier)
            if best is not None:
                found[item] = best
                continue
            for key in keys:
                firsts.setdefault(key, []).append(item)
        return found

    def _most_similar(self, item: int, earlier: list[int]) -> tuple[int, float] | None:
        if not earlier:
            return None
        others = self.signatures[earlier]
        shares = (others == self.signatures[item]).mean(axis=1)
        place = int(shares.argmax())
        return (earlier[place], float(shares[place])) if shares[place] >= self.threshold else None

    def _shared_bands(self) -> np.ndarray:
        """(bands, items) int64: a number for each value of a band of several items, or -1."""
        count = len(self.signatures)
        found = np.full((self.bands, count), -1, np.int64)
        nothing = (self.signatures == np.iinfo(np.uint32).max).all(axis=1)
        for band in range(self.bands):
            part = self.signatures[:, band * self.rows : (band + 1) * self.rows]
            mixed = np.zeros(count, np.uint64)
            for column in part.T:
                mixed = (mixed ^ column) * _MIX
                mixed ^= mixed >> np.uint64(29)
            _, places, counts = np.unique(mixed, return_inverse=True, return_counts=True)
            several = (counts[places] > 1) & ~nothing
            found[band, several] = places[several] + band * count
        return found
