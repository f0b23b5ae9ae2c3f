"""What the trunks have in common whose whole state is that of one stack of layers."""

from abc import ABC, abstractmethod
from typing import Protocol

from torch import Tensor, nn


class Stack(Protocol):
    """Layers that have a state."""

    def init_state(self, batch: int) -> list[Tensor]:
        """Create the initial state of `batch` rows."""

    def __call__(self, x: Tensor, state: list[Tensor] | None = None) -> tuple[Tensor, list[Tensor]]:
        """Map frames, and return the state after them."""


class Stacked(nn.Module, ABC):
    """A module around one stack."""

    stack: Stack

    def init_state(self) -> list[Tensor]:
        """Create the initial state of one row."""
        return self.stack.init_state(1)


class StackedEncoder(Stacked):
    """From frames of samples to latents."""

    @abstractmethod
    def latents(
        self, windows: Tensor, state: list[Tensor] | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Map frames (batch, frames, hop) to latents (batch, frames, channels), and return the new
        state.

        Args:
            windows: the frames' samples.
            state: after the frames before; None at the start. It is not changed.
        """


class StackedDecoder(Stacked):
    """From latents to samples."""

    @abstractmethod
    def wave(
        self, latents: Tensor, state: list[Tensor] | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Map latents (batch, frames, channels) to samples (batch, frames × hop); return the new
        state.

        Args:
            latents: of the frames.
            state: after the frames before; None at the start. It is not changed.
        """
