"""The streaming protocol: what a family's running machines do."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import numpy as np
from torch import Tensor

from ...errors import StateError, WaveError

S = TypeVar("S")


class RowStream(ABC, Generic[S]):
    """A machine at work on a fixed number of rows, each at its own place in its own audio.

    A row's state is a tree of dataclasses, lists and tuples of tensors, arrays and numbers
    (`state.py`), whose shapes do not depend on what the row has heard. A machine that has `states`
    and `init_row` can reset, export and import rows. One that keeps all rows in the same tensors
    overrides the methods that follow instead.

    Attributes:
        states: of each row.
    """

    states: list[S]

    def init_row(self) -> S:
        """The state of a row that has heard nothing.

        Raises:
            StateError: the machine does not say what the state of a row is.
        """
        raise self._unknown()

    def reset(self, row: int) -> None:
        """Make a row as if it had heard nothing; the others go on."""
        self.states[row] = self.init_row()

    def export_row(self, row: int) -> S:
        """The state of a row, to be read at once: the machine may change it in place.

        Raises:
            StateError: as `init_row` does.
        """
        if not hasattr(self, "states"):
            raise self._unknown()
        return self.states[row]

    def check_row(self, state: S) -> None:
        """Look at a state whose shapes are right.

        Raises:
            StateError: a count in it can't be.
        """

    def count_given(self, state: S, taken: int) -> int | None:
        """What a row in this state has given in all, if it has taken so much.

        That is frames of samples, or samples of frames. None: the state does not tell.

        Raises:
            StateError: a row in this state can't have taken so much.
        """
        return None

    def import_row(self, row: int, state: S) -> None:
        """Go on from a state that was exported, and checked; the machine owns it from now on."""
        self.states[row] = state

    def _unknown(self) -> StateError:
        return StateError(
            f"{type(self).__name__} does not say what the state of a row is, so rows can't be "
            "reset, exported or imported; it needs `states` and `init_row`"
        )


class EncoderStream(RowStream[Any]):
    """An encoder at work."""

    @abstractmethod
    def push(self, rows: Sequence[Tensor], final: bool | Sequence[bool]) -> list[Tensor]:
        """Take more samples and give the codes that they settle.

        Args:
            rows: (samples,) float32 for each row; lengths may differ and may be 0.
            final: of each row, or of all: no more samples will come. The row must then have given
                ceil(n / hop) frames in all, where n is the number of samples that it ever took,
                and is as if it had heard nothing. See `row_flags`.

        Returns:
            (codebooks, frames) int64 for each row.
        """


class DecoderStream(RowStream[Any]):
    """A decoder at work."""

    @abstractmethod
    def push(self, rows: Sequence[Tensor], final: bool | Sequence[bool]) -> list[Tensor]:
        """Take more codes and give the samples that they settle.

        Args:
            rows: (codebooks, frames) for each row, in range; frames may differ and may be 0.
            final: of each row, or of all: no more codes will come. The row must then have given
                hop samples for every frame in all (the caller cuts the last frame to the samples
                that it stands for), and is as if it had heard nothing.

        Returns:
            (samples,) float32 for each row.
        """


def row_flags(
    final: bool | np.bool_ | Sequence[bool | np.bool_] | Tensor | np.ndarray, count: int
) -> list[bool]:
    """One flag for each of `count` rows.

    Raises:
        WaveError: neither one bool nor one a row.
    """
    if isinstance(final, Tensor | np.ndarray | np.bool_):
        final = final.tolist()
    if isinstance(final, bool):
        return [final] * count
    flags = None
    if isinstance(final, Sequence):
        flags = [flag.item() if isinstance(flag, np.bool_) else flag for flag in final]
    if flags is None or len(flags) != count or not all(type(flag) is bool for flag in flags):
        raise WaveError(f"final must be one bool or one for each of {count} rows, got {final!r}")
    return flags
