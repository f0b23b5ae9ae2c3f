"""Progress callbacks of a run."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..recipe import Recipe
    from .validation import Validation


class Observer:
    """Progress callbacks on rank 0, which do nothing; the command line overrides them."""

    def preparing(self, files: int, total: int) -> None:
        """A data set is being decoded; `files` of `total` are done."""

    def started(self, recipe: "Recipe", step: int) -> None:
        """Training starts after `step` steps."""

    def stepped(self, step: int, figures: Mapping[str, float]) -> None:
        """`step` steps are done; `figures` are those of the last step, by their names in
        the log.
        """

    def validated(self, result: "Validation", best: bool) -> None:
        """The averaged weights were scored; `best` tells whether it is the best validation
        so far.
        """

    def said(self, message: str) -> None:
        """A message for the user."""
