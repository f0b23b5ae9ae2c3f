"""`Entry`: a system's result with its place among the others: its bitrate band and its family."""

import re
from dataclasses import dataclass
from pathlib import Path

from ..results.schema import Result

ORIGINAL = "original"
"""The reference whose clips are the recordings themselves."""

_EDGES = (600, 1200, 2500, 5000, 10000)
REFERENCE_BAND = len(_EDGES) + 1
BANDS = (
    "up to 0.6 kbit/s",
    "0.6–1.2 kbit/s",
    "1.2–2.5 kbit/s",
    "2.5–5 kbit/s",
    "5–10 kbit/s",
    "above 10 kbit/s",
    "References",
)
"""What systems are compared within; the last is of references, which spend no bits."""


@dataclass(frozen=True)
class Entry:
    """A system's result, and the folder to which its clips' paths are relative."""

    result: Result
    folder: Path

    @property
    def name(self) -> str:
        return self.result.system.name

    @property
    def is_reference(self) -> bool:
        return self.result.system.kind == "reference"

    @property
    def band(self) -> int:
        """Index of its bitrate band in `BANDS`."""
        if self.result.bitrate is None or self.is_reference:
            return REFERENCE_BAND
        return sum(self.result.bitrate > edge for edge in _EDGES)

    @property
    def family(self) -> str:
        """The name without the setting at its end: ``rvq-16k`` for ``rvq-16k:4``."""
        match = re.fullmatch(r"(.+?)[:-]\d+(\.\d+)?k?", self.name)
        # A system without selectable codebooks keeps its name: rvq-16k is not a setting of rvq.
        keeps = match is None or (":" not in self.name and self.result.system.kind == "tokenizer")
        return self.name if keeps or match is None else match[1]
