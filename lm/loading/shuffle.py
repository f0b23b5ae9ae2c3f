"""`Shuffle`: a random order of n things whose every place can be computed by itself.

The swap-or-not shuffle (Hoang, Morris and Rogaway, "An enciphering scheme based on a card shuffle",
CRYPTO 2012): in each round, place x is paired with ``key - x``, and one bit, hashed from the pair,
says whether the two are swapped. So nothing is stored, the order is a function of a key and of n
only, and going to any place costs the same.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ...kernels.cache import kernel

#: Each round moves half of all places; after so many no order is noticeably more likely.
ROUNDS = 48
_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


def mixed(*numbers: int) -> int:
    """A hash of whole numbers, 0 to 2**64 - 1: splitmix64 (Steele et al., 2014) over each."""
    value = 0
    for number in numbers:
        value = (value + _GOLDEN + (number & _MASK)) & _MASK
        value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
        value ^= value >> 31
    return value


@dataclass(frozen=True)
class Shuffle:
    """An order of 0 … size - 1.

    Attributes:
        size: how many.
        key: another one gives another order.
    """

    size: int
    key: int

    @cached_property
    def _rounds(self) -> tuple[np.ndarray, np.ndarray]:
        numbers = range(ROUNDS)
        keys = [mixed(self.key, number, 1) % max(self.size, 1) for number in numbers]
        salts = [mixed(self.key, number, 2) for number in numbers]
        return np.array(keys, np.int64), np.array(salts, np.uint64)

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        """What stands at some places, (n,) int64 of (n,) int64 in 0 … size - 1."""
        return swap_or_not(np.ascontiguousarray(places, np.int64), self.size, *self._rounds)

    def all(self) -> np.ndarray:
        """The whole order, (size,) int64."""
        return self[np.arange(self.size)]


@kernel
def swap_or_not(places, size, keys, salts):  # type: ignore[no-untyped-def]
    found = np.empty_like(places)
    for number in range(len(places)):
        place = places[number]
        for turn in range(len(keys)):
            partner = keys[turn] - place
            if partner < 0:
                partner += size
            value = salts[turn] ^ np.uint64(max(place, partner))
            value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            if (value ^ (value >> np.uint64(31))) & np.uint64(1):
                place = partner
        found[number] = place
    return found
