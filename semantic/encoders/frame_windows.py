"""The stream of encoders whose frames each depend on one short window of samples."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ...codecs.windowed import WindowEncoder, in_window_tiles
from .interface import FeatureStream


class FrameWindows(WindowEncoder, FeatureStream):
    """`WindowEncoder` for a function that returns features instead of codes.

    Args:
        encode_tile: maps windows (tile, window) float32 to features (tile, dim) float32, each
            window on its own.
        num_codebooks: dimensions of the features.
        batch_size, hop, window, before, tile, device: as for `WindowEncoder`.
    """

    def push(self, rows: Sequence[Tensor], final: bool | Sequence[bool]) -> list[Tensor]:
        windows = self.windows(rows, final)
        return in_window_tiles(
            self.encode_tile, self.tile, windows, self.num_codebooks, torch.float32
        )

    def push_latents(self, rows: Sequence[Tensor], final: bool | Sequence[bool]) -> list[Tensor]:
        return self.push(rows, final)
