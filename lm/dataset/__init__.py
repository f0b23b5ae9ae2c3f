"""Data sets of tokens: Parquet shards, what each item came from, and a digest of all of it.

Importing this loads neither torch nor pyarrow: names are looked up where they live when they are
first used.
"""

from typing import TYPE_CHECKING

from ...lazy_exports import lazy_exports

if TYPE_CHECKING:
    from .items import AlignedWord, Item
    from .stored import StoredDataset, open_dataset, write_dataset

__all__ = ["AlignedWord", "Item", "StoredDataset", "open_dataset", "write_dataset"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "AlignedWord": "syllabary.lm.dataset.items",
        "Item": "syllabary.lm.dataset.items",
        "StoredDataset": "syllabary.lm.dataset.stored",
        "open_dataset": "syllabary.lm.dataset.stored",
        "write_dataset": "syllabary.lm.dataset.stored",
    },
)
