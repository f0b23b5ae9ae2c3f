"""Data sets of tokens in the formats of other libraries: whole or not at all, with the tokenizer's
digest."""

from typing import TYPE_CHECKING

from ...lazy_exports import lazy_exports

if TYPE_CHECKING:
    from .exporting import EXPORTS, Exported, export

__all__ = ["EXPORTS", "Exported", "export"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {name: "syllabary.lm.exports.exporting" for name in __all__},
)
