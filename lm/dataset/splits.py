"""Splits by the hash of the speaker, so that nobody is in two of them."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from ...errors import DatasetError


@dataclass(frozen=True)
class Splits:
    """Shares of splits.

    A speaker's place depends on the name alone: adding or removing others moves nobody. So the
    shares are of speakers, and those of hours come near them as speakers become many.

    Attributes:
        shares: name and share of each, in order; they sum to 1.
    """

    shares: tuple[tuple[str, float], ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """From text such as ``train=0.98,valid=0.01,test=0.01``.

        Raises:
            DatasetError: not of this form, or shares that don't sum to 1.
        """
        shares = []
        for part in text.split(","):
            name, _, share = part.partition("=")
            try:
                shares.append((name.strip(), float(share)))
            except ValueError:
                raise DatasetError(
                    f"splits are {text!r}; expected such as train=0.98,valid=0.01,test=0.01"
                ) from None
        names = [name for name, _ in shares]
        for name in names:
            check_split_name(name)
        if len(set(names)) < len(names) or not all(0 < share <= 1 for _, share in shares):
            raise DatasetError(f"splits are {text!r}: names must differ, shares be within 0 and 1")
        if abs(sum(share for _, share in shares) - 1) > 1e-6:
            raise DatasetError(f"splits are {text!r}: the shares must sum to 1")
        return cls(tuple(shares))

    def of(self, speaker: str | None, item: str) -> str:
        """The split of a speaker; of the item by itself, where the speaker is not known."""
        key = f"item {item}" if speaker is None else f"speaker {speaker}"
        place = int.from_bytes(hashlib.sha256(key.encode(errors="replace")).digest()[:8]) / 2**64
        for name, end in self._ends():
            if place < end:
                return name
        return self.shares[-1][0]

    def _ends(self) -> Iterator[tuple[str, float]]:
        end = 0.0
        for name, share in self.shares:
            end += share
            yield name, end


def check_split_name(name: str) -> None:
    """Raise `DatasetError` unless files can be named after a split."""
    if not name or not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise DatasetError(f"a split is called {name!r}; letters, digits, - _ and . can name files")
