"""Counts of a data set's items, for its card."""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .filters import Filters
from .format import Header, codes_of

if TYPE_CHECKING:
    import pyarrow as pa

#: Codebooks beyond this size get no histogram of their codes.
_COUNTED_CODES = 1 << 20
#: Edges of histograms, by what they are of.
EDGES = {
    "duration": np.array([0, 0.5, 1, 1.5, 2, 3, 4, 5, 7, 10, 15, 20, 30, 60, 120, np.inf]),
    "level": np.array([-120, -60, -50, -45, -40, -35, -30, -25, -20, -15, -10, 1]),
    "snr": np.array([-np.inf, 0, 5, 10, 15, 20, 25, 30, 40, 50, np.inf]),
    "speech": np.array([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0001]),
    "characters": np.array([0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 25, np.inf]),
}


class Statistics:
    """Sums over items; `add` takes them piece by piece.

    Attributes:
        splits: of each, counts by name.
        speakers: of each, the splits that they are in.
        histograms: counts by `EDGES`.
        usage: of each codebook, how often each code occurs.
        merged: whether items have durations.
    """

    def __init__(self, header: Header, filters: Filters) -> None:
        self.header, self.filters = header, filters
        self.splits: dict[str, Counter[str]] = defaultdict(Counter)
        self.speakers: dict[str, set[str]] = {}
        self.languages: Counter[str] = Counter()
        self.histograms = {
            name: np.zeros(len(edges) - 1, np.int64) for name, edges in EDGES.items()
        }
        sizes = header.spec.codebook_sizes[: header.num_codebooks]
        self.usage = [np.zeros(size, np.int64) for size in sizes if size <= _COUNTED_CODES]
        self.merged = False

    def add(self, table: "pa.Table", measures: Sequence[str]) -> None:
        """Add rows of a data set with their measures as JSON."""
        names = ("split", "speaker", "language", "text", "num_samples", "alignment", "text_ids")
        columns = [table[name].to_pylist() for name in names]
        arrays = codes_of(table, self.header.num_codebooks)
        rate = self.header.spec.sample_rate
        values: dict[str, list[float]] = defaultdict(list)
        rows = zip(arrays, measures, *columns, strict=True)
        for codes, packed, split, speaker, language, text, samples, words, ids in rows:
            of_split = self.splits[split]
            of_split["items"] += 1
            of_split["samples"] += samples
            of_split["frames"] += codes.shape[1]
            of_split["characters"] += len(text or "")
            of_split["with text"] += bool(text)
            of_split["with words"] += words is not None
            of_split["text ids"] += len(ids or ())
            if speaker is not None:
                self.speakers.setdefault(speaker, set()).add(split)
            self.languages[language or "not known"] += 1
            measured: dict[str, Any] = json.loads(packed)
            values["duration"].append(samples / rate)
            values["level"].append(measured["level_db"])
            for name, key in (("snr", "snr_db"), ("speech", "speech")):
                if measured[key] is not None:
                    values[name].append(measured[key])
            if text and samples:
                values["characters"].append(len("".join(text.split())) * rate / samples)
        for name, found in values.items():
            self.histograms[name] += np.histogram(found, EDGES[name])[0]
        for book, counts in enumerate(self.usage):
            parts = [codes[book] for codes in arrays]
            if parts:
                counts += np.bincount(np.concatenate(parts), minlength=len(counts))
        self.merged |= table["durations"].null_count < len(table)

    def speakers_of(self, split: str) -> int:
        """How many there are in a split."""
        return sum(split in splits for splits in self.speakers.values())

    def speakers_in_several(self) -> list[str]:
        """Speakers that are in more than one split."""
        return sorted(name for name, splits in self.speakers.items() if len(splits) > 1)

    def code_usage(self) -> list[tuple[int, float]]:
        """Of each codebook: codes that occur, and the entropy of their distribution in bits."""
        found = []
        for counts in self.usage:
            shares = counts[counts > 0] / max(1, counts.sum())
            found.append((int((counts > 0).sum()), float(-(shares * np.log2(shares)).sum())))
        return found
