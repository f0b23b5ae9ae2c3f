"""What a run says of itself while it goes on."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..recipe import Recipe
    from .validation import Validation


class Observer:
    """Hears of a run on rank 0; does nothing. A command line overrides what it shows."""

    def preparing(self, files: int, total: int) -> None:
        """Of a data set that is decoded, so many files are done."""

    def started(self, recipe: "Recipe", step: int) -> None:
        """Training begins after `step` steps."""

    def stepped(self, step: int, figures: Mapping[str, float]) -> None:
        """`step` steps are done; `figures` are those of the last, by the log's names."""

    def validated(self, result: "Validation", best: bool) -> None:
        """Averaged weights were scored, as the best so far or not."""

    def said(self, message: str) -> None:
        """Something that a user should know."""
