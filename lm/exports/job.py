"""What every export gets: the items of each split, where to write, and what was asked for."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import DatasetError, VocabularyError

if TYPE_CHECKING:
    from ..dataset.items import Item
    from ..dataset.stored import StoredDataset
    from ..loading.opening import Packing
    from ..patterns.pattern import Pattern
    from ..vocabulary import Vocabulary

#: In each exported folder: which tokenizer made the tokens, and how they were written.
DESCRIPTION_NAME = "tokens.json"


@dataclass
class Job:
    """One export.

    Attributes:
        dataset: opened, with the splits that are exported.
        folder: where files are written.
        pattern, vocabulary, begin, end, scheme, text, context, packing: of formats of ids; see
            `export`.
        dtype: of ids, if chosen.
        shard_bytes: after how many a format of several files begins the next.
        left_out: items that the format can't hold, and why.
    """

    dataset: "StoredDataset"
    folder: Path
    pattern: "Pattern | None" = None
    vocabulary: "Vocabulary | None" = None
    begin: str | int | None = None
    end: str | int | None = None
    scheme: Any = None
    text: Any = None
    context: int = 2048
    packing: "Packing" = "best-fit"
    dtype: str | None = None
    shard_bytes: int = 1 << 28
    left_out: dict[str, str] = field(default_factory=dict)

    def splits(self) -> Iterator[tuple[str, Iterator["Item"]]]:
        """Each split's name, and its items in order."""
        names = list(dict.fromkeys(shard.split for shard in self.dataset.shards))
        for name in names:
            numbers = [n for n, shard in enumerate(self.dataset.shards) if shard.split == name]
            yield name, (item for number in numbers for item in self.dataset.shard_items(number))

    def check_vocabulary(self) -> None:
        """Raise `VocabularyError` if codes of several codebooks would have the same ids."""
        if self.vocabulary is None and self.dataset.num_codebooks > 1:
            raise VocabularyError(
                f"{self.dataset.folder} has {self.dataset.num_codebooks} codebooks, whose codes "
                "need ids of their own in one sequence: give a vocabulary (--first, or "
                "--tokenizer)"
            )

    def ids(self) -> Iterator[tuple[str, Iterator[tuple[str, np.ndarray]]]]:
        """Each split's name, and of each item with frames its id and its document (n,) int64.

        Raises:
            VocabularyError: pattern and vocabulary don't fit the data set, or give several streams.
            DatasetError: no item has the text that a scheme needs.
        """
        from ..loading.documents import Documents, MissingTextError
        from ..loading.opening import bound, check_fits

        self.check_vocabulary()
        check_fits(self.dataset, self.vocabulary)
        laid = bound(self.dataset, self.pattern, self.vocabulary)
        if laid.streams > 1:
            raise VocabularyError(
                f"{laid} has {laid.streams} streams of ids; this format holds one: take a pattern "
                "of one stream, such as flatten"
            )
        documents = None
        if self.scheme is not None:
            documents = Documents(self.dataset, laid, self.vocabulary, self.scheme, self.text)
        around = [[] if m is None else [self._marker(m)] for m in (self.begin, self.end)]
        if documents and (self.begin is not None or self.end is not None):
            raise DatasetError("markers of a sequence of text and speech are the scheme's")

        def document(item: "Item") -> np.ndarray:
            if documents:
                return documents.make(item)[0]
            steps, _ = laid.lay(item.codes[: laid.num_codebooks])
            heads: list[int] = []
            if item.global_codes is not None and self.vocabulary is not None:
                base = np.array(self.vocabulary.global_base)
                heads = (base + item.global_codes).tolist()
            return np.concatenate([around[0], heads, steps[0], around[1]]).astype(np.int64)

        def documents_of(items: Iterator["Item"]) -> Iterator[tuple[str, np.ndarray]]:
            lacking = None
            for item in self._with_frames(items):
                try:
                    made = document(item)
                except MissingTextError as error:
                    self.left_out[item.id], lacking = str(error), error
                    continue
                yield item.id, made
            if lacking is not None and len(self.left_out) == len(self.dataset):
                raise lacking  # no item has what is needed

        for name, items in self.splits():
            yield name, documents_of(items)

    def _with_frames(self, items: Iterator["Item"]) -> Iterator["Item"]:
        for item in items:
            if item.frames:
                yield item
            else:
                self.left_out[item.id] = "it has no frames"

    def _marker(self, marker: str | int) -> int:
        if isinstance(marker, int):
            return marker
        if self.vocabulary is None:
            raise VocabularyError(f"marker {marker!r} needs a vocabulary; without one, give an id")
        return self.vocabulary.marker(marker)

    def with_frames(self, items: Iterator["Item"]) -> Iterator["Item"]:
        """Items with frames; others are noted as left out, since the format can't hold them."""
        return self._with_frames(items)

    def describe(self, to: str) -> None:
        """Write `DESCRIPTION_NAME`: the header of the data set, its digest and the settings."""
        fields: dict[str, Any] = self.dataset.header.to_json() | {
            "digest": self.dataset.digest,
            "export": to,
        }
        for name in ("pattern", "vocabulary", "scheme"):
            if (value := getattr(self, name)) is not None:
                fields[name] = value.to_json()
        fields |= {"begin": self.begin, "end": self.end, "left_out": self.left_out}
        path = self.folder / DESCRIPTION_NAME
        path.write_text(json.dumps(fields, indent=1) + "\n", encoding="utf-8")


def plain_fields(item: "Item") -> dict[str, Any]:
    """All that an item says of itself besides its arrays, as JSON values; None is left out."""
    found: dict[str, Any] = {
        name: getattr(item, name)
        for name in (
            *("id", "num_samples", "text", "speaker", "language", "split", "text_ids", "source"),
            *("source_sha256", "source_start", "source_samples", "extra"),
        )
    }
    if item.alignment is not None:
        found["alignment"] = [[w.word, w.start, w.end, list(w.ids)] for w in item.alignment]
    if item.global_codes is not None:
        found["global_codes"] = item.global_codes.tolist()
    return {name: value for name, value in found.items() if value is not None}
