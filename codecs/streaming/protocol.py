"""The streaming protocol: the stateful encoder and decoder streams that a family implements."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
from torch import Tensor

from ...errors import LatentsError, StateError, WaveError
from ..batches import batch_of_rows, rows_of_batch

S = TypeVar("S")


class RowStream(ABC, Generic[S]):
    """A stateful stream over a fixed number of independent rows; base of both directions.

    A row's state is a tree of dataclasses, lists and tuples of tensors, arrays and numbers
    (`state.py`), whose shapes do not depend on the input so far. A stream that has `states` and
    `init_row` gets reset, export and import of rows from this class. One that keeps all rows in the
    same tensors overrides those methods instead.

    Attributes:
        states: one per row.
    """

    states: list[S]

    def init_row(self) -> S:
        """Return the initial state of a row.

        Raises:
            StateError: the stream does not support separate row states.
        """
        raise self._unknown()

    def reset(self, row: int) -> None:
        """Reset a row to its initial state; other rows are unaffected."""
        self.states[row] = self.init_row()

    def export_row(self, row: int) -> S:
        """Return the state of a row. Read it at once: the stream may change it in place.

        Raises:
            StateError: as for `init_row`.
        """
        if not hasattr(self, "states"):
            raise self._unknown()
        return self.states[row]

    def check_row(self, state: S) -> None:
        """Check the values of a state whose shapes are right.

        Raises:
            StateError: a count in it is impossible.
        """

    def count_given(self, state: S, taken: int) -> int | None:
        """Return how much a row in this state has output in total, after `taken` units of input.

        An encoder takes samples and outputs frames; a decoder takes frames and outputs samples.
        None if the state does not determine it.

        Raises:
            StateError: a row in this state can't have taken that much input.
        """
        return None

    def import_row(self, row: int, state: S) -> None:
        """Continue a row from an exported, checked state, which the stream then owns."""
        self.states[row] = state

    def _unknown(self) -> StateError:
        return StateError(
            f"{type(self).__name__} does not say what the state of a row is, so rows can't be "
            "reset, exported or imported; it needs `states` and `init_row`"
        )


class LatentStream(RowStream[Any]):
    """A stateful stream from samples to latents."""

    @abstractmethod
    def push_latents(self, rows: Sequence[Tensor], final: bool | Sequence[bool]) -> list[Tensor]:
        """Take more samples and return the latents that they complete.

        Args:
            rows, final: see `EncoderStream.push`.

        Returns:
            (frames, channels) float32 for each row.

        Raises:
            LatentsError: the tokenizer has none.
        """


#: What fills a tensor that a stream has returned.
Rest = Callable[[], None]


def nothing_left() -> None:
    """The `Rest` of a tensor that is filled already."""


class EncoderStream(LatentStream):
    """A stateful encoder: samples to codes, or to the latents that become these codes.

    Both methods take the same samples and change the same state: each frame is output once, by the
    call that completes it.

    Attributes:
        compiled: whether `start_batch` makes codes in compiled code alone, whatever torch's
            settings are, and refuses samples that are not finite before it takes any.
    """

    compiled = False

    @abstractmethod
    def push(self, rows: Sequence[Tensor], final: bool | Sequence[bool]) -> list[Tensor]:
        """Take more samples and return the codes that they complete.

        Args:
            rows: (samples,) float32 for each row; lengths may differ and may be 0.
            final: for each row, or for all: whether its audio ends here. By then the row must have
                output ceil(n / hop) frames in total, where n is the number of samples it was given,
                and its state is reset. See `row_flags`.

        Returns:
            (codebooks, frames) int64 for each row.
        """

    def push_latents(self, rows: Sequence[Tensor], final: bool | Sequence[bool]) -> list[Tensor]:
        raise LatentsError("this tokenizer has no latents: it makes codes without vectors")

    def start_batch(
        self, samples: Tensor, counts: Sequence[int], final: Sequence[bool], as_latents: bool
    ) -> tuple[Tensor, list[int], Rest]:
        """`push`, or `push_latents`, of all rows in one tensor, which a session calls.

        A stream that works on all rows at once overrides this, and thereby handles no row by
        itself in Python. It may leave the work to the function that it returns: reading the weights
        of a network evicts everything from a core's cache, and all that has been done before need
        not be read again.

        Args:
            samples: (batch, samples) float32.
            counts: (batch,) valid samples of each row.
            final: (batch,) see `push`.
            as_latents: whether to return latents instead of codes.

        Returns:
            Codes (batch, codebooks, frames) int64, or latents (batch, frames, channels) float32;
            zeros follow the frames of a row that has fewer than others. The frames of each row. And
            a function that must be called before any other of this stream, and fills the tensor.
        """
        push = self.push_latents if as_latents else self.push
        new = push(rows_of_batch(samples, counts), uniform(final))
        return *batch_of_rows(new, 0 if as_latents else 1), nothing_left


class DecoderStream(RowStream[Any]):
    """A stateful decoder: codes, or latents, to samples. Rows may switch between both.

    Attributes:
        compiled: whether `start_batch` decodes codes in compiled code alone, whatever torch's
            settings are.
    """

    compiled = False

    @abstractmethod
    def push(self, rows: Sequence[Tensor], final: bool | Sequence[bool]) -> list[Tensor]:
        """Take more codes and return the samples that they complete.

        Args:
            rows: (codebooks, frames) for each row, in range; frames may differ and may be 0.
            final: for each row, or for all: whether its codes end here. By then the row must have
                output hop samples for every frame (the caller trims the last frame to the audio's
                length), and its state is reset.

        Returns:
            (samples,) float32 for each row.
        """

    def push_latents(self, rows: Sequence[Tensor], final: bool | Sequence[bool]) -> list[Tensor]:
        """Take more latents and return the samples that they complete.

        Args:
            rows: (frames, channels) float32 for each row.
            final: see `push`.

        Returns:
            (samples,) float32 for each row.

        Raises:
            LatentsError: the decoder takes codes only.
        """
        raise LatentsError("this tokenizer's decoder takes codes only, no latents")

    def start_batch(
        self, frames: Tensor, counts: Sequence[int], final: Sequence[bool], as_latents: bool
    ) -> tuple[Tensor, list[int], Rest]:
        """`push`, or `push_latents`, of all rows in one tensor; see `EncoderStream.start_batch`.

        Args:
            frames: codes (batch, codebooks, frames), or latents (batch, frames, channels).
            counts: (batch,) valid frames of each row.
            final: (batch,) see `push`.
            as_latents: whether frames are latents.

        Returns:
            (batch, samples) float32, padded with zeros; the samples of each row; and a function
            that must be called before any other of this stream, and fills the tensor.
        """
        axis = 0 if as_latents else 1
        push = self.push_latents if as_latents else self.push
        new = push(rows_of_batch(frames, counts, axis), uniform(final))
        return *batch_of_rows(new, 0), nothing_left


def uniform(flags: Sequence[bool]) -> bool | Sequence[bool]:
    """Return one flag if all are equal, the only form that some streams support; else all."""
    return flags[0] if len(set(flags)) == 1 else flags


def row_flags(
    final: bool | np.bool_ | Sequence[bool | np.bool_] | Tensor | np.ndarray, count: int
) -> list[bool]:
    """Return one flag for each of `count` rows.

    Raises:
        WaveError: `final` is neither one bool nor one per row.
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
